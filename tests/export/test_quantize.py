from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import tiny
from onnx import numpy_helper
from onnx_exports import exported

from vqtok.export import quantize
from vqtok.export.quantize import to_int8

TOK = tiny.tokenizer()


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The toy's graphs before and after; its weights are small ones."""
    monkeypatch.setattr(quantize, "SMALL", 64)
    made = tmp_path / "decoder.onnx"
    shutil.copyfile(exported().folder / "decoder.onnx", made)
    to_int8(made)
    return [exported().folder / "decoder.onnx", made]


def test_the_decoder_is_small_and_as_good(files: list[Path]) -> None:
    before, after = files
    assert after.stat().st_size < before.stat().st_size
    codes = np.random.default_rng(0).integers(0, 64, (2, 4, 4))
    ours, theirs = (
        onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(
            None, {"codes": codes}
        )[0]
        for file in files
    )
    apart = np.abs(ours.astype(int) - theirs)
    assert 0 < apart.mean() < 1


def test_what_is_stored(files: list[Path]) -> None:
    before, after = map(onnx.load, files)
    wide = {one.name: numpy_helper.to_array(one) for one in before.graph.initializer}
    small = {one.name: numpy_helper.to_array(one) for one in after.graph.initializer}
    found = [name.removesuffix(".int8") for name in small if name.endswith(".int8")]
    assert found
    for name in found:
        weight, ints, scale = wide[name], small[f"{name}.int8"], small[f"{name}.scale"]
        assert (ints.dtype, ints.shape, scale.shape) == (np.int8, weight.shape, weight.shape[:1])
        back = ints * scale.reshape(-1, *[1] * (weight.ndim - 1))
        assert (np.abs(back - weight) <= scale.reshape(-1, *[1] * (weight.ndim - 1)) / 2).all()
    assert not any("quantize" in name for name in found)
    props = {one.key: one.value for one in after.metadata_props}
    told = {one.key: one.value for one in before.metadata_props}
    assert props == told | {"vqtok.precision": "int8"}
