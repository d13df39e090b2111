"""Hugging Face `datasets` and `webdataset` read shards as they are.

Their pins are their own, so they live in an environment of their own:

    python -m venv /tmp/readers && /tmp/readers/bin/pip install datasets webdataset torch
    VQTOK_READERS=/tmp/readers/bin/python pytest -m slow tests/offline/formats
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import token_sets
from token_rows import plan

from vqtok.offline.plan import Plan
from vqtok.offline.read import open_tokens
from vqtok.offline.rows import Row
from vqtok.offline.tokens_card import card_of

PYTHON = os.environ.get("VQTOK_READERS", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="VQTOK_READERS names no Python with their packages"),
]
KEYS = [f"d.ir/k{number}.jpg" for number in range(9)]

HEAD = """
import json, sys
import numpy as np
folder, found = sys.argv[1], []
def told(key, view, label, codes):
    found.append([key, view, label, np.asarray(codes).tolist()])
"""
DATASETS = """
import datasets
for how in ({"streaming": True}, {"cache_dir": folder + "/cache"}):
    for row in datasets.load_dataset(folder, split="train", **how):
        if "json" in row:
            told(row["json"]["key"], row["json"]["view"], row.get("cls"), row["codes.npy"])
        else:
            codes = np.frombuffer(row["codes"], "<u2").reshape(row["grid"])
            told(row["key"], row["view"], row.get("label"), codes)
half = len(found) // 2
assert found[:half] == found[half:]
found = found[:half]
"""
WEBDATASET = """
import glob, webdataset
tars = sorted(glob.glob(folder + "/shards/*.tar"))
for row in webdataset.WebDataset(tars, shardshuffle=False, empty_check=False).decode():
    assert row["__key__"].count(".") == 0
    told(row["json"]["key"], row["json"]["view"], row.get("cls"), row["codes.npy"])
"""


@pytest.mark.parametrize("label", ["int", "none"])
@pytest.mark.parametrize(
    ("name", "script"),
    [("parquet", DATASETS), ("webdataset", DATASETS), ("webdataset", WEBDATASET)],
)
def test_others_read_every_row(tmp_path: Path, name: str, script: str, label: Any) -> None:
    """One shard without rows and one with a retry are among them."""
    two = ("center", "hflip")
    of = plan(KEYS, shard_size=3, format=name, label=label, views=two, view_names=two)
    lost = [(key, view) for key in KEYS[3:7] for view in two]
    made = _written(tmp_path, of, lost)
    command = [PYTHON, "-c", HEAD + script + "print(json.dumps(found))", str(tmp_path)]
    home = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=home)
    assert done.returncode == 0, done.stderr
    wanted = [[row.key, row.view, row.label, np.asarray(row.codes).tolist()] for row in made]
    assert json.loads(done.stdout.splitlines()[-1]) == wanted


def _written(root: Path, of: Plan, lost: list[tuple[str, str]]) -> list[Row]:
    made = token_sets.write(root, of, KEYS, lost, lost[-2:], text="a dog")
    (root / "README.md").write_bytes(card_of(of, open_tokens(root).manifest))
    return made
