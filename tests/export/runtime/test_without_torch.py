"""Pictures in, ids out, pictures back where there is no torch: a light client for data workers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import onnx_folders as made
import pytest
from onnx_folders import CAUSAL, NATIVE, WINDOWED

ROOT = Path(__file__).resolve().parents[3]
HEAVY = ("torch", "transformers", "diffusers", "huggingface_hub", "accelerate", "onnx")

BLOCKED = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
"""

PICTURES = """
import io, json, sys
import numpy as np
from PIL import Image
from vqtok import VisualTokenizer

tok = VisualTokenizer.from_pretrained(sys.argv[1], device="cpu")
pixels = np.random.default_rng(0).integers(0, 256, (21, 34, 3)).astype(np.uint8)
file = io.BytesIO()
Image.fromarray(pixels).save(file, "png")
codes = tok.encode_images([pixels, Image.fromarray(pixels), file.getvalue()])
ids = tok.encode(pixels)
back = tok.decode_codes(codes, output_type="np")
small = tok.with_preprocess(policy="stretch", size=(8, 12)).encode_images(pixels)[0]
again = tok.batch_decode([ids], output_type="pil")[0]
tok.save_pretrained(sys.argv[2])
said = []
for ask in (lambda: tok(pixels), lambda: tok.encode_codes(pixels), lambda: tok.codebook):
    try:
        ask()
    except Exception as error:
        said.append(f"{type(error).__name__}: {error}")
print(json.dumps({
    "ids": ids,
    "codes": [one.ids.tolist() for one in codes],
    "back": back[0].tolist(),
    "again": np.asarray(again).tolist(),
    "small": small.ids.tolist(),
    "probe": str(tok.codec.verify()),
    "said": said,
}))
"""

CLIPS = """
import json, sys
import numpy as np
from vqtok import VisualTokenizer

tok = VisualTokenizer.from_pretrained(sys.argv[1], device="cpu")
clip = np.random.default_rng(0).integers(0, 256, (6, 20, 30, 3)).astype(np.uint8)
codes = tok.encode_images([clip])[0]
back = tok.decode_codes(codes, output_type="np")[0]
print(json.dumps({"ids": codes.ids.tolist(), "shape": back.shape}))
"""


def ran(code: str, *arguments: Path, python: str = sys.executable) -> object:
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    if python == sys.executable:
        environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [python, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        cwd=tempfile.gettempdir(),
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def here(code: str, *arguments: Path) -> object:
    """The same in this process, which has torch."""
    printed: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["-c", *map(str, arguments)])
        exec(code, {"print": printed.append})
    return json.loads(printed[0])


@pytest.mark.parametrize("settings", [NATIVE, made.SETTINGS])
def test_pictures(tmp_path: Path, settings: made.Preprocess) -> None:
    """The same in a process where an import of torch is an error as in one where it is none."""
    place = made.folder(tmp_path / "plain", settings=settings)
    free = ran(BLOCKED + PICTURES, place, tmp_path / "free")
    full = here(PICTURES, place, tmp_path / "full")
    assert isinstance(free, dict)
    assert isinstance(full, dict)
    said = free.pop("said")
    assert [len(full.pop("said")), len(said)] == [1, 3]
    assert free == full
    assert free["probe"] == "exact: 12 of 12 probe ids equal"
    assert said[:2] == [
        "MissingExtraError: ids of several pictures are held together with transformers, which is "
        "not installed: pip install 'transformers'",
        "MissingExtraError: grids of codes are made tensors, not numpy's arrays, with torch, which "
        "is not installed: pip install 'torch'",
    ]
    assert said[2].startswith("InputError: this tokenizer runs on ONNX Runtime here, which gives ")


@pytest.mark.parametrize("traits", [WINDOWED, CAUSAL])
def test_clips(tmp_path: Path, traits: made.Traits) -> None:
    place = made.folder(tmp_path / "clips", traits)
    free = ran(BLOCKED + CLIPS, place)
    assert free == here(CLIPS, place)
    assert isinstance(free, dict)
    assert free["shape"] == [6, 16, 16, 3]


def test_a_folder_here_brings_nothing_heavy(tmp_path: Path) -> None:
    """Where torch is installed, too, and pictures are resized."""
    place = made.folder(tmp_path, settings=made.SETTINGS)
    code = (
        "import json, sys\nimport numpy as np\nfrom vqtok import VisualTokenizer\n"
        "tok = VisualTokenizer.from_pretrained(sys.argv[1], device='cpu')\n"
        "tok.encode(np.zeros((21, 34, 3), np.uint8))\n"
        f"heavy = {{*{HEAVY!r}}} | {{'vqtok.obtain', 'vqtok.folders'}}\n"
        "print(json.dumps(sorted(heavy & set(sys.modules))))"
    )
    assert ran(code, place) == []


LIGHT = ("numpy", "onnxruntime", "pillow", "pydantic", "safetensors")


@pytest.mark.slow
def test_an_environment_without_torch(tmp_path: Path) -> None:
    """The wheel by itself, and the few packages that a light client needs."""
    place = made.folder(tmp_path / "plain", settings=made.SETTINGS)
    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    python = str(home / ("Scripts" if os.name == "nt" else "bin") / "python")
    source = tmp_path / "source"  # a build leaves files where it was made
    others = shutil.ignore_patterns(".*", "build", "*.egg-info")
    shutil.copytree(ROOT, source, symlinks=True, ignore=others)
    for what in (LIGHT, ("--no-deps", str(source))):
        subprocess.run([python, "-m", "pip", "install", "-q", *what], check=True, timeout=900)
    probe = "import importlib.util as i, json; print(json.dumps(i.find_spec('torch') is None))"
    assert ran(probe, python=python) is True
    free = ran(PICTURES, place, tmp_path / "a", python=python)
    full = here(PICTURES, place, tmp_path / "b")
    assert isinstance(free, dict)
    assert isinstance(full, dict)
    del free["said"], full["said"]
    assert free == full
