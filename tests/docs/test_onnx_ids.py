"""The example that runs an export without vqtok: its ids and pixels are vqtok's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx_exports import exported

from vqtok import VisualTokenizer
from vqtok.export.runtime import OnnxBackend
from vqtok.pictures import load_image
from vqtok.zoo import samples

for name in ("onnx", "onnxruntime", "onnxscript"):
    pytest.importorskip(name)

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "docs/examples/onnx_ids.py"


@pytest.mark.parametrize("photo", samples(), ids=lambda path: path.stem)
def test_ids_and_pixels_are_vqtoks(photo: Path, tmp_path: Path) -> None:
    graphs, back = exported().folder, tmp_path / "back.png"
    command = [sys.executable, SCRIPT, graphs, photo, back]
    done = subprocess.run(command, text=True, capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")
    tok = VisualTokenizer.from_pretrained(graphs, backend=OnnxBackend(providers=("cpu",)))
    codes = tok.with_preprocess(policy="native").encode_images([photo])
    assert np.array_equal(json.loads(done.stdout), codes[0].ids[0])
    (pixels,) = tok.decode_codes(codes, "np")
    assert np.array_equal(load_image(back), pixels)


def test_it_has_nothing_of_vqtok_and_stands_in_the_guide() -> None:
    code = SCRIPT.read_text(encoding="utf-8").split('"""')[2]
    assert "import vqtok" not in code and "from vqtok" not in code
    guide = (ROOT / "docs/onnx.md").read_text(encoding="utf-8")
    assert code[code.index("encoder = ") :] in guide
