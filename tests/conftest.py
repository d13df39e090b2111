"""What holds for every test: no network, no caches of this machine, the same numbers each time."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

import pytest
from hypothesis import settings

# Before anything imports torch or huggingface_hub, which read these once.
_hub = tempfile.mkdtemp(prefix="vqtok-tests-")
atexit.register(shutil.rmtree, _hub, ignore_errors=True)
os.environ.update(HF_HOME=_hub, HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")

settings.register_profile("vqtok", deadline=None, derandomize=True)
settings.load_profile("vqtok")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")
