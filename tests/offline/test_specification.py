"""docs/spec: what tokens-v1.md tells is true, and its reader reads every format that it covers."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import token_sets
from token_rows import plan

from vqtok.offline.plan import Plan
from vqtok.offline.rows import Row
from vqtok.offline.views import parse_views, plan_cuts
from vqtok.preprocess import Preprocess

pytest.importorskip("pyarrow")

SPEC = Path(__file__).resolve().parents[2] / "docs" / "spec"
KEYS = ["a", "dir/b.jpg", "日本", "d", "e"]


@pytest.fixture(scope="module")
def reader() -> Any:
    found = importlib.util.spec_from_file_location("read_tokens", SPEC / "read_tokens.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_the_reader_is_short_and_needs_no_vqtok() -> None:
    lines = (SPEC / "read_tokens.py").read_text("utf-8").splitlines()
    assert len(lines) <= 50
    brought = {line.split()[1].partition(".")[0] for line in lines if line.startswith(("im", "fr"))}
    assert brought - set(sys.stdlib_module_names) == {"numpy", "pyarrow"}


@pytest.mark.parametrize("name", ["parquet", "bin", "npy"])
@pytest.mark.parametrize(
    "changes",
    [
        {"what": "both"},
        {"what": "latents"},
        {"tokenizer": {"depth": 3}},
        {"dtype": "uint32", "tokenizer": {"codebook_size": 1 << 17}},
    ],
)
def test_the_reader_reads(tmp_path: Path, reader: Any, name: str, changes: dict[str, Any]) -> None:
    made = _written(tmp_path, plan(KEYS, format=name, shard_size=2, **changes))
    found = list(reader.rows(tmp_path))
    assert len(found) == len(made) == 4
    for row, wanted in zip(found, made, strict=True):
        assert (row["key"], row["view"], row["label"]) == (wanted.key, wanted.view, wanted.label)
        for part in ("codes", "latents"):
            array = getattr(wanted, part)
            assert (part in row) == (array is not None)
            assert array is None or np.array_equal(row[part], array)
            assert array is None or row[part].dtype == array.dtype


@pytest.mark.parametrize("name", ["parquet", "bin"])
def test_the_reader_takes_grids_of_several_shapes(tmp_path: Path, reader: Any, name: str) -> None:
    of = plan(KEYS, format=name, what="both", preprocess={"policy": "native"})
    made = _written(tmp_path, of, grid=(2, 6))
    found = list(reader.rows(tmp_path))
    assert [row["codes"].shape for row in found] == [(2, 6)] * len(made)
    assert all(
        np.array_equal(row["latents"], one.latents) for row, one in zip(found, made, strict=True)
    )


def test_the_reader_says_what_it_does_not_read(tmp_path: Path, reader: Any) -> None:
    _written(tmp_path, plan(KEYS, format="webdataset"))
    with pytest.raises(ValueError) as error:
        list(reader.rows(tmp_path))
    assert str(error.value) == "this does not read vqtok-tokens/1 in webdataset"


def test_hashes_are_as_the_text_says(tmp_path: Path) -> None:
    _written(tmp_path, plan(KEYS, shard_size=2))
    data = (tmp_path / "plan.json").read_bytes()
    manifest = json.loads((tmp_path / "manifest.json").read_bytes())
    assert manifest["plan"] == hashlib.sha256(data).hexdigest()
    lines = [manifest["plan"]]
    for part in manifest["parts"]:
        stem = f"{part['shard']:05d}" + (f"_{part['attempt']}" if part["attempt"] else "")
        hashes = []
        for file in part["files"]:
            content = (tmp_path / "shards" / file["name"]).read_bytes()
            assert (hashlib.sha256(content).hexdigest(), len(content)) == (
                file["sha256"],
                file["bytes"],
            )
            hashes.append(file["sha256"])
        lines.append(f"{stem} {' '.join(hashes)}")
    whole = "".join(line + "\n" for line in lines)
    assert manifest["dataset_sha256"] == hashlib.sha256(whole.encode()).hexdigest()
    listing = hashlib.sha256()
    for key in KEYS:
        listing.update(b"%d %s" % (len(key.encode()), key.encode()))
    assert json.loads(data)["source"]["listing"] == listing.hexdigest()


def test_every_field_is_in_the_text(tmp_path: Path) -> None:
    of = plan(KEYS, what="both", format="bin")
    _written(tmp_path, of)
    text = (SPEC / "tokens-v1.md").read_text("utf-8")
    names = set(Row._fields)
    for name in ("plan.json", "manifest.json", "done/00000.json", "done/00000_1.json"):
        names |= _names(json.loads((tmp_path / name).read_bytes()))
    import pyarrow.parquet as pq

    names |= set(pq.read_table(tmp_path / "shards" / "00000.rows.parquet").column_names)
    known = {label for label in names if label.isdigit()} | {"policy"}
    missing = sorted(name for name in names - known if f"`{name}`" not in text)
    assert missing == []


def _written(root: Path, of: Plan, **changes: Any) -> list[Row]:
    lost = [("dir/b.jpg", "center"), ("d", "center")]
    return token_sets.write(root, of, KEYS, lost, lost[:1], **changes)


def _names(value: Any) -> set[str]:
    if isinstance(value, list):
        return {name for member in value for name in _names(member)}
    if not isinstance(value, dict):
        return set()
    return set(value) | {name for member in value.values() for name in _names(member)}


@pytest.mark.parametrize("size", [(300, 200), (37, 211), (64, 96), (5, 5)])
@pytest.mark.parametrize(("text", "low", "high"), [("", "0.8", "1"), ("@0.25-0.5", "0.25", "0.5")])
def test_random_views_are_what_it_says(
    size: tuple[int, int], text: str, low: str, high: str
) -> None:
    (tall, wide), (h, w) = size, (64, 96)
    cuts = plan_cuts(
        parse_views([f"random:3{text}"]),
        size,
        Preprocess(size=(h, w), stride=16),
        key="日本",
        seed=7,
    )
    for number, cut in enumerate(cuts):
        digest = hashlib.sha256(f"7\0random-{number}\0日本".encode()).digest()
        a, b, c, d = (int.from_bytes(digest[at : at + 8], "big") for at in (0, 8, 16, 24))
        if wide * h >= tall * w:
            largest = tall, max(1, (2 * tall * w + h) // (2 * h))
        else:
            largest = max(1, (2 * wide * h + w) // (2 * w)), wide
        share = Fraction(low) + (Fraction(high) - Fraction(low)) * a / (2**64 - 1)
        height, width = (max(1, math.floor(side * share)) for side in largest)
        top = (tall - height + 1) * b // 2**64
        left = (wide - width + 1) * c // 2**64
        assert (cut.name, cut.box) == (f"random-{number}", (top, left, height, width))
        assert (cut.flip, cut.size) == (d >= 2**63, (h, w))
