from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import token_rows
from hypothesis import given
from hypothesis import strategies as st
from offline.jobs import job, pictures
from offline.test_clip_jobs import films, tokenizer

from vqtok.offline.formats import FORMATS
from vqtok.offline.measure import Measured, measure, spread, written


def test_some_samples_are_really_made(tmp_path: Path) -> None:
    work = job(pictures(tmp_path / "in", 12, bad=(4,)), tmp_path / "out", views=["center", "hflip"])
    found = measure(work, samples=6)
    assert (found.samples, found.looked_at, found.views, found.rows) == (12, 6, 2, 10)
    assert [(each.key, each.index) for each in found.failed] == [("04.png", 4)]
    assert found.share_failed == 1 / 6 and found.enlarged == 0
    assert sorted(found.bytes) == sorted(FORMATS)
    assert all(each > 24 * 32 for each in found.bytes.values())
    assert found.decode > 0 and found.encode > 0 and found.seconds > 0
    assert found.hours == found.seconds / 3600


def test_bytes_are_those_of_all_rows() -> None:
    plan = token_rows.plan()
    rows = token_rows.rows(["a", "b", "c"], plan)
    once = written(rows, plan, 3)
    assert sorted(once) == sorted(FORMATS)
    assert written(rows, plan, 30) == {name: 10 * each for name, each in once.items()}


def test_formats_that_cannot_hold_it_are_left_out(tmp_path: Path) -> None:
    work = job(pictures(tmp_path / "in", 2), tmp_path / "out", buckets=[(16, 16), (32, 16)])
    assert "npy" not in measure(work).bytes


def test_whole_videos(tmp_path: Path) -> None:
    work = job(films(tmp_path / "in"), tmp_path / "out", tokenizer("timesformer"))
    found = measure(work)
    assert (found.looked_at, found.rows) == (3, 3)
    assert found.decode > 0 and found.encode > 0


def test_nothing_that_can_be_read(tmp_path: Path) -> None:
    found = measure(job(pictures(tmp_path / "in", 2, bad=(0, 1)), tmp_path / "out"))
    assert (found.rows, found.decode, found.seconds, found.decoders_needed) == (0, 0, 0, 0)
    assert found.share_failed == 1 and found.bytes == {}


def figures(**changes: Any) -> Measured:
    known: dict[str, Any] = {
        "samples": 36_000,
        "looked_at": 10,
        "views": 2,
        "decode": 10.0,
        "encode": 100.0,
        "decoders": 2,
        "bytes": {},
        "failed": [],
        "rows": 20,
        "enlarged": 0,
    }
    return Measured(**{**known, **changes})


@pytest.mark.parametrize(
    ("changes", "hours", "cores"),
    [({}, 0.5, 5), ({"decoders": 10}, 0.2, 5), ({"views": 1}, 0.5, 10)],
)
def test_what_takes_longer_counts(changes: dict[str, int], hours: float, cores: float) -> None:
    found = figures(**changes)
    assert (found.hours, found.decoders_needed) == (hours, cores)


@given(st.integers(1, 1000), st.integers(1, 300))
def test_samples_are_spread_evenly(count: int, wanted: int) -> None:
    found = spread(count, wanted)
    assert len(found) == min(count, wanted) == len({*found})
    assert found[0] == 0 and found[-1] < count
    gaps = {b - a for a, b in pairwise(found)}
    assert not gaps or max(gaps) - min(gaps) <= 1
