"""The bytes of exports of latents, read by parsers of a few lines."""

from __future__ import annotations

import io
import json
import struct
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from token_lists import TokenList, stacked, token_list

from vqtok.offline.exports import EXPORTS

pytest.importorskip("pyarrow")

DTYPES = {"F16": "<f2", "F32": "<f4", "I64": "<i8"}


def pairs(labels: tuple[int | str, ...] = (5, 0, 3)) -> TokenList:
    return token_list(views=("center", "hflip"), what="latents", labels=labels)


def tensors(file: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Of a safetensors file."""
    data = file.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    told = json.loads(data[8 : 8 + length])
    found = {}
    for name, each in told.items():
        start, stop = (8 + length + place for place in each["data_offsets"])
        found[name] = np.frombuffer(data[start:stop], DTYPES[each["dtype"]]).reshape(each["shape"])
    return found


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_lightningdit_has_pictures_and_their_mirror_images(
    dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["vqtok.offline.exports.lightningdit"], "PICTURES", 2)
    tokens = pairs()
    EXPORTS["lightningdit"](tokens, tmp_path / "out", dtype=dtype)
    names = [f"latents_rank00_shard{number:03d}.safetensors" for number in (0, 1)]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.safetensors")) == names
    parts = [tensors(tmp_path / "out" / name) for name in names]
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    there = stacked(tokens, "latents")
    assert found["latents"].dtype == np.dtype(dtype)
    assert np.array_equal(found["latents"], there[0::2])
    assert np.array_equal(found["latents_flip"], there[1::2])
    assert found["labels"].tolist() == [5, 0, 3]


def test_lightningdit_takes_the_mirror_image_by_what_it_is(tmp_path: Path) -> None:
    tokens = pairs()
    tokens.rows = [each._replace(flip=not each.flip) for each in tokens.rows]
    EXPORTS["lightningdit"](tokens, tmp_path / "out")
    found = tensors(tmp_path / "out" / "latents_rank00_shard000.safetensors")
    assert np.array_equal(found["latents"], stacked(tokens, "latents")[1::2])


def test_lightningdit_has_statistics_by_channel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["vqtok.offline.exports.lightningdit"], "PICTURES", 2)
    tokens = pairs()
    EXPORTS["lightningdit"](tokens, tmp_path / "out")
    stats = torch.load(tmp_path / "out" / "latents_stats.pt", weights_only=True)
    plain = torch.from_numpy(stacked(tokens, "latents")[0::2]).double()
    mean = plain.mean(dim=[0, 2, 3], keepdim=True)
    std = plain.std(dim=[0, 2, 3], keepdim=True)
    torch.testing.assert_close(stats, {"mean": mean.float(), "std": std.float()})


def test_npy_is_one_array(tmp_path: Path) -> None:
    tokens = token_list(what="latents", labels=("cat", "ant", "bee"))
    EXPORTS["npy"](tokens, tmp_path / "out")
    latents = np.load(tmp_path / "out" / "latents.npy", mmap_mode="r")
    assert isinstance(latents, np.memmap)
    assert latents.dtype == np.float16
    assert np.array_equal(latents, stacked(tokens, "latents"))
    assert np.load(tmp_path / "out" / "labels.npy").tolist() == [2, 0, 1]
    text = (tmp_path / "out" / "rows.jsonl").read_text()
    assert [json.loads(line)["key"] for line in text.splitlines()] == ["a", "b", "c"]


def test_npy_of_a_set_without_labels_has_none(tmp_path: Path) -> None:
    EXPORTS["npy"](token_list(what="latents", labels=None), tmp_path / "out")
    assert not (tmp_path / "out" / "labels.npy").exists()


def test_webdataset_holds_both(tmp_path: Path) -> None:
    tokens = token_list(what="both")
    EXPORTS["webdataset"](tokens, tmp_path / "out")
    with tarfile.open(tmp_path / "out" / "00000.tar") as tar:
        data = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    for each in tokens.rows:
        for what in ("codes", "latents"):
            array = np.load(io.BytesIO(data[f"{each.key}.{what}.npy"]))
            assert array.dtype == getattr(each, what).dtype
            assert np.array_equal(array, getattr(each, what))
