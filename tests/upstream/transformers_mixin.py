"""transformers' own tests of an image processor, on vqtok's. See README.md for how to run them."""

from __future__ import annotations

import os
import sys
import tempfile
import types
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

# The module looks for a helper of transformers' CI, which its source distribution leaves out; the
# picture that one test wants from the hub is made here.
sys.modules["fetch_hub_objects_for_ci"] = types.ModuleType("fetch_hub_objects_for_ci")
sys.modules["fetch_hub_objects_for_ci"].url_to_local_path = str  # type: ignore[attr-defined]

import vqtok  # noqa: E402, F401
from tests import test_image_processing_common as common  # noqa: E402
from vqtok.hf.image_processing import (  # noqa: E402
    VQTokImageProcessor,
    VQTokImageProcessorPil,
)


def a_picture(url: str) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (480, 640, 3), dtype=np.uint8))


common.load_test_image = a_picture


class Tester(common.ImageProcessingTester):
    def __init__(self, parent: Any) -> None:
        super().__init__(parent, policy="center", size=32, stride=8)

    def _get_image_processing_classes(self) -> dict[str, type]:
        return {"torchvision": VQTokImageProcessor, "pil": VQTokImageProcessorPil}

    def expected_output_image_shape(self, images: Any) -> tuple[int, ...]:
        return (3, 32, 32)


class TestImageProcessor(common.ImageProcessingTestMixin, unittest.TestCase):
    image_processor_tester_class = Tester
    test_cast_dtype = True

    @unittest.skip("four channels are colours and alpha, of which vqtok makes RGB")
    def test_call_numpy_4_channels(self) -> None: ...

    def test_pil_can_run_without_torchvision(self) -> None:
        """Its program does not import vqtok, as a user's would, so Python does when it starts."""
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "sitecustomize.py").write_text("import vqtok")
            with mock.patch.dict(os.environ, PYTHONPATH=folder):
                super().test_pil_can_run_without_torchvision()
