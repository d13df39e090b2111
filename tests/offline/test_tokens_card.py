"""The dataset card: true, deterministic, and with a head that `datasets` understands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import token_sets
import yaml
from token_rows import plan

from vqtok.offline.formats import FORMATS
from vqtok.offline.plan import Plan
from vqtok.offline.read import open_tokens
from vqtok.offline.tokens_card import card_of

pytest.importorskip("pyarrow")

KEYS = ["a", "b", "c"]


def card(root: Path, of: Plan, **given: Any) -> str:
    token_sets.write(root, of, KEYS, **given)
    return card_of(of, open_tokens(root).manifest).decode()


def test_a_card_says_what_a_set_holds(tmp_path: Path) -> None:
    of = plan(KEYS, what="both")
    text = card(tmp_path, of, lost=[("b", "center")])
    stats = open_tokens(tmp_path).manifest.latents
    use = open_tokens(tmp_path).manifest.codes
    assert stats is not None and use is not None
    for line in (
        "# Codes and latents of 3 pictures",
        "| rows | 2 of 3 planned; 1 failed: 1 at `read` |",
        "| views | `center` |",
        "| labels | 2 classes |",
        f"| codes in use | {use.used} of 64, {use.entropy:.3f} bits each |",
        f"| shift_factor, scaling_factor | {stats.shift_factor!r}, {stats.scaling_factor!r} |",
        f"| plan sha256 | `{of.hash}` |",
        f"| codebook sha256 | `{'3' * 64}` |",
        'tokens = open_tokens("path/to/this/folder", expect="tiny")',
        "Unknown: neither the licence of the pictures nor that of the tokenizer's weights is "
        "written down",
    ):
        assert line in text.splitlines(), line
    assert card_of(of, open_tokens(tmp_path).manifest).decode() == text


@pytest.mark.parametrize("name", list(FORMATS))
def test_the_head_leads_to_the_rows(tmp_path: Path, name: str) -> None:
    text = card(tmp_path, plan(KEYS, format=name))
    head = yaml.safe_load(text.split("---\n")[1])
    assert head["license"] == "unknown"
    pattern = {"parquet": "shards/*.parquet", "webdataset": "shards/*.tar"}.get(name)
    if pattern is None:
        assert "configs" not in head and "load_dataset" not in text
        return
    files = [{"split": "train", "path": pattern}]
    assert head["configs"] == [{"config_name": "default", "data_files": files}]
    assert len(list(tmp_path.glob(pattern))) == 1


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, 'codes = np.frombuffer(row["codes"], "<u2").reshape(row["grid"])'),
        (
            {"tokenizer": {"depth": 4}, "dtype": "uint32"},
            'codes = np.frombuffer(row["codes"], "<u4").reshape([*row["grid"], 4])',
        ),
        (
            {"what": "latents"},
            'latents = np.frombuffer(row["latents"], "<f2").reshape(row["latents_shape"])',
        ),
    ],
)
def test_snippets_fit_the_set(tmp_path: Path, changes: dict[str, Any], line: str) -> None:
    of = plan(KEYS, **changes)
    text = card(tmp_path, of)
    assert line in text.splitlines()
    import numpy as np
    import pyarrow.parquet as pq

    row = pq.read_table(tmp_path / "shards/00000.parquet").to_pylist()[0]
    found: dict[str, Any] = {"np": np, "row": row}
    exec(line, found)
    wanted = open_tokens(tmp_path)[0]
    array = wanted.codes if of.with_codes else wanted.latents
    assert np.array_equal(found["codes" if of.with_codes else "latents"], array)
