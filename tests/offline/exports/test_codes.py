"""The bytes of exports of codes, read by parsers of a few lines."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import struct
import sys
import tarfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from token_lists import TokenList, clips, stacked, token_list
from token_rows import row

from vqtok.offline.exports import EXPORTS

pytest.importorskip("pyarrow")

NUMBERS = {"ant": 0, "bee": 1, "cat": 2}
LARGE = {"codebook_size": 1 << 18}


def lines(file: Path) -> list[dict[str, Any]]:
    """Of JSON."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_llamagen_has_the_views_of_a_picture_in_one_file(tmp_path: Path) -> None:
    tokens = token_list(views=("center", "hflip"), labels=(700, 3, 12))
    out = tmp_path / "codes_flip"
    EXPORTS["llamagen"](tokens, out)
    for number in range(3):
        codes = np.load(out / "imagenet16_codes" / f"{number}.npy")
        labels = np.load(out / "imagenet16_labels" / f"{number}.npy")
        views = tokens.rows[2 * number : 2 * number + 2]
        assert codes.dtype == labels.dtype == np.int64
        assert codes.shape == (1, 2, 16)
        assert np.array_equal(codes[0], [each.codes.reshape(-1) for each in views])  # type: ignore[union-attr]
        assert labels.tolist() == [views[0].label]
    assert len(list((out / "imagenet16_codes").iterdir())) == 3
    keys = [line["key"] for line in lines(out / "rows.jsonl")]
    assert keys == ["a", "b", "c"]
    origin = json.loads((out / "origin.json").read_bytes())
    assert (origin["images"], origin["views"]) == (3, ["center", "hflip"])


def test_llamagen_counts_its_pictures_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        EXPORTS["llamagen"](token_list(), tmp_path / "out")
    assert caplog.messages == [
        "LlamaGen's CustomDataset counts to 1281167 and there are 3 pictures: give it range(3) in "
        "dataset/imagenet.py"
    ]


def test_rar_has_a_line_for_each_view(tmp_path: Path) -> None:
    tokens = token_list(views=("center", "hflip"), grid=(6,), labels=("dog", "cat"))
    EXPORTS["rar"](tokens, tmp_path / "out")
    found = lines(tmp_path / "out" / "pretokenized.jsonl")
    assert [line["class_id"] for line in found] == [1, 1, 0, 0, 1, 1]
    assert [line["tokens"] for line in found] == stacked(tokens).tolist()


def megatron(prefix: Path) -> list[np.ndarray[Any, Any]]:
    """The documents of an indexed data set."""
    head = prefix.with_suffix(".idx").read_bytes()
    magic, version, kind, sequences, ends = struct.unpack_from("<9sQBQQ", head)
    assert (magic, version, ends) == (b"MMIDIDX\0\0", 1, sequences + 1)
    lengths = np.frombuffer(head, "<i4", sequences, 34)
    starts = np.frombuffer(head, "<i8", sequences, 34 + 4 * sequences)
    documents = np.frombuffer(head, "<i8", ends, 34 + 12 * sequences)
    assert len(head) == 34 + 12 * sequences + 8 * ends
    assert documents.tolist() == list(range(ends))
    data, dtype = prefix.with_suffix(".bin").read_bytes(), {4: "<i4", 8: "<u2"}[kind]
    return [
        np.frombuffer(data, dtype, length, start)
        for length, start in zip(lengths, starts, strict=True)
    ]


def several() -> TokenList:
    """Grids of several sizes."""
    tokens = token_list()
    tokens.rows[1] = row("b", tokens.plan, 7, (4, 6))
    return tokens


def test_megatron_has_a_document_for_each_row(tmp_path: Path) -> None:
    tokens = several()
    EXPORTS["megatron"](tokens, tmp_path / "out", end_id=64)
    documents = megatron(tmp_path / "out" / "tokens")
    assert [len(each) for each in documents] == [17, 25, 17]
    for ids, each in zip(documents, tokens.rows, strict=True):
        assert each.codes is not None
        assert ids.dtype == np.uint16
        assert ids.tolist() == [*each.codes.reshape(-1).tolist(), 64]


@pytest.mark.parametrize(
    ("codebook_size", "dtype", "end_id", "stored"),
    [
        (1 << 16, None, None, np.uint16),
        (1 << 16, None, 1 << 16, np.int32),
        ((1 << 16) - 1, None, (1 << 16) - 1, np.uint16),
        ((1 << 16) + 1, None, None, np.int32),
        (64, "int32", None, np.int32),
        (1 << 31, None, None, np.int32),
    ],
)
def test_ids_are_stored_as_what_holds_them(
    codebook_size: int, dtype: str | None, end_id: int | None, stored: type, tmp_path: Path
) -> None:
    kind = "uint16" if codebook_size <= 1 << 16 else "uint32"
    tokens = token_list(tokenizer={"codebook_size": codebook_size}, dtype=kind)
    EXPORTS["megatron"](tokens, tmp_path / "out", dtype=dtype, end_id=end_id)
    documents = megatron(tmp_path / "out" / "tokens")
    assert {each.dtype.type for each in documents} == {stored}
    flat = stacked(tokens).reshape(3, -1)
    assert np.array_equal(np.stack(documents)[:, :16], flat)


def chunks(folder: Path) -> tuple[dict[str, Any], list[list[bytes]]]:
    """index.json, and the documents of each chunk."""
    index = json.loads((folder / "index.json").read_bytes())
    found = []
    for chunk in index["chunks"]:
        data = (folder / chunk["filename"]).read_bytes()
        assert len(data) == chunk["chunk_bytes"]
        (count,) = struct.unpack_from("<I", data)
        assert count == chunk["chunk_size"]
        ends = struct.unpack_from(f"<{count + 1}I", data, 4)
        assert (ends[0], ends[-1]) == (4 * (count + 2), len(data))
        found.append([data[a:b] for a, b in pairwise(ends)])
    return index, found


def test_litdata_has_whole_rows_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["vqtok.offline.exports.litdata"], "CHUNK", 100)
    tokens = token_list(("a", "b", "c", "d", "e"))
    EXPORTS["litdata"](tokens, tmp_path / "out", end_id=99)
    index, found = chunks(tmp_path / "out")
    assert [len(each) for each in found] == [2, 2, 1]
    assert [chunk["dim"] for chunk in index["chunks"]] == [34, 34, 17]
    assert index["config"]["data_format"] == ["no_header_tensor:20"]
    ids = [np.frombuffer(each, "<u2").tolist() for chunk in found for each in chunk]
    assert ids == [[*codes.reshape(-1).tolist(), 99] for codes in stacked(tokens)]
    assert json.loads((tmp_path / "out" / "origin.json").read_bytes())["block_size"] == 17


def test_the_largest_ids_are_wider_still(tmp_path: Path) -> None:
    tokens = token_list(tokenizer={"codebook_size": (1 << 31) + 1}, dtype="uint32")
    EXPORTS["litdata"](tokens, tmp_path / "out")
    index, ((first, *_),) = chunks(tmp_path / "out")
    assert index["config"]["data_format"] == ["no_header_tensor:18"]
    assert np.frombuffer(first, "<i8").tolist() == stacked(tokens)[0].reshape(-1).tolist()


def test_large_ids_are_wider_in_litdata(tmp_path: Path) -> None:
    tokens = token_list(tokenizer=LARGE, dtype="uint32")
    EXPORTS["litdata"](tokens, tmp_path / "out")
    index, ((first, *_),) = chunks(tmp_path / "out")
    assert index["config"]["data_format"] == ["no_header_tensor:16"]
    assert np.frombuffer(first, "<i4").tolist() == stacked(tokens)[0].reshape(-1).tolist()


def samples(folder: Path) -> list[dict[str, Any]]:
    """Of all MDS shards; arrays of a fixed shape and those that say their own."""
    found = []
    for shard in json.loads((folder / "index.json").read_bytes())["shards"]:
        data = (folder / shard["raw_data"]["basename"]).read_bytes()
        assert len(data) == shard["raw_data"]["bytes"]
        assert hashlib.sha1(data).hexdigest() == shard["raw_data"]["hashes"]["sha1"]
        (count,) = struct.unpack_from("<I", data)
        assert count == shard["samples"]
        ends = struct.unpack_from(f"<{count + 1}I", data, 4)
        assert ends[-1] == len(data)
        told = json.loads(data[4 * (count + 2) : ends[0]])
        assert told == {name: value for name, value in shard.items() if name in told}
        found += [sample(data[a:b], told) for a, b in pairwise(ends)]
    return found


def sample(data: bytes, told: dict[str, Any]) -> dict[str, Any]:
    sizes = []
    for size in told["column_sizes"]:
        if size is None:
            (size,) = struct.unpack_from("<I", data)
            data = data[4:]
        sizes.append(size)
    values = {}
    names = zip(told["column_names"], told["column_encodings"], sizes, strict=True)
    for name, encoding, size in names:
        values[name], data = value(data[:size], encoding), data[size:]
    assert not data
    return values


def value(data: bytes, encoding: str) -> Any:
    if encoding == "str":
        return data.decode()
    if encoding == "int":
        return struct.unpack("<q", data)[0]
    _, dtype, *sides = encoding.split(":")
    if sides:
        return np.frombuffer(data, dtype).reshape([int(side) for side in sides[0].split(",")])
    axes, width = data[0] >> 2, data[0] & 3
    start = 1 + (axes << width)
    shape = np.frombuffer(data[1:start], f"<u{1 << width}")
    return np.frombuffer(data[start:], dtype).reshape(shape)


def test_mds_has_a_column_for_each_thing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["vqtok.offline.exports.mds"], "SHARD", 150)
    tokens = token_list(("a.b", "ü/日本", "c"), labels=("cat", "ant", "bee"))
    tokens.rows[0] = tokens.rows[0]._replace(text="a cät")
    EXPORTS["mds"](tokens, tmp_path / "out")
    found = samples(tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*.mds"))) == 2
    assert [each["key"] for each in found] == ["a.b", "ü/日本", "c"]
    assert [each["label"] for each in found] == [2, 0, 1]
    assert [each["text"] for each in found] == ["a cät", "", ""]
    assert [each["view"] for each in found] == ["center"] * 3
    assert np.array_equal([each["codes"] for each in found], stacked(tokens))
    index = json.loads((tmp_path / "out" / "index.json").read_bytes())
    assert index["shards"][0]["column_encodings"][0] == "ndarray:uint16:4,4"


@pytest.mark.parametrize("side", [6, 300])
def test_mds_arrays_may_differ_in_shape(side: int, tmp_path: Path) -> None:
    tokens = token_list(labels=None, tokenizer=LARGE, dtype="uint32")
    tokens.rows[1] = row("b", tokens.plan, 7, (4, side))
    EXPORTS["mds"](tokens, tmp_path / "out")
    found = samples(tmp_path / "out")
    assert "label" not in found[0]
    for each, there in zip(tokens.rows, found, strict=True):
        assert there["codes"].dtype == np.uint32
        assert np.array_equal(there["codes"], each.codes)  # type: ignore[arg-type]


def test_webdataset_has_a_sample_for_each_row(tmp_path: Path) -> None:
    tokens = token_list(("a.b/c", "ü"), views=("center", "hflip"), labels=("cat", "ant"))
    tokens.rows[3] = tokens.rows[3]._replace(text="a cät")
    EXPORTS["webdataset"](tokens, tmp_path / "out", tar_rows=3)
    found: dict[str, dict[str, bytes]] = {}
    for file in sorted((tmp_path / "out").glob("*.tar")):
        with tarfile.open(file) as tar:
            assert {member.mtime for member in tar} == {0}
            for member in tar:
                name, _, ending = member.name.partition(".")
                data = tar.extractfile(member)
                assert data is not None
                found.setdefault(name, {})[ending] = data.read()
    assert [each["cls"] for each in found.values()] == [b"1", b"1", b"0", b"0"]
    assert [each["txt"].decode() for each in found.values()] == ["", "", "", "a cät"]
    for each, there in zip(tokens.rows, found.values(), strict=True):
        assert sorted(there) == ["cls", "codes.npy", "json", "txt"]
        assert np.array_equal(np.load(io.BytesIO(there["codes.npy"])), each.codes)  # type: ignore[arg-type]
        story = json.loads(there["json"])
        assert (story["key"], story["view"]) == (each.key, each.view)
    assert len(list((tmp_path / "out").glob("*.tar"))) == 2


def test_1xgpt_has_the_frames_of_all_clips(tmp_path: Path) -> None:
    tokens = clips((3, 2, 5), tokenizer=LARGE, dtype="uint32")
    EXPORTS["1xgpt"](tokens, tmp_path / "out", hz=7.5)
    assert json.loads((tmp_path / "out" / "metadata.json").read_bytes()) == {
        "hz": 7.5,
        "num_images": 10,
        "s": 4,
        "token_dtype": "uint32",
        "vocab_size": 1 << 18,
    }
    frames = np.fromfile(tmp_path / "out" / "video.bin", "<u4").reshape(10, 4, 4)
    assert np.array_equal(frames, np.concatenate([each.codes for each in tokens.rows]))
    segments = np.fromfile(tmp_path / "out" / "segment_ids.bin", "<i4")
    assert segments.tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 2, 2]


def test_classes_called_by_numbers_have_them(tmp_path: Path) -> None:
    names = tuple(str(number) for number in range(11))
    EXPORTS["rar"](token_list(names, labels=names), tmp_path / "out")
    found = lines(tmp_path / "out" / "pretokenized.jsonl")
    assert [line["class_id"] for line in found] == list(range(11))
    told = json.loads((tmp_path / "out" / "classes.json").read_bytes())
    assert told == {name: int(name) for name in names}


def test_classes_of_another_export_keep_their_numbers(tmp_path: Path) -> None:
    EXPORTS["rar"](token_list(labels=("cat", "ant", "bee")), tmp_path / "train")
    tokens = token_list(labels=("cat", "bee", "bee"))
    EXPORTS["rar"](tokens, tmp_path / "val", classes=tmp_path / "train" / "classes.json")
    found = lines(tmp_path / "val" / "pretokenized.jsonl")
    assert [line["class_id"] for line in found] == [2, 1, 1]
    assert json.loads((tmp_path / "val" / "classes.json").read_bytes()) == NUMBERS
