from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import token_sets
from token_rows import plan

from vqtok.errors import InputError
from vqtok.offline import histogram
from vqtok.offline.histogram import counted, usage_histogram
from vqtok.offline.ledger import read_records
from vqtok.offline.plan import Plan
from vqtok.offline.store import open_store


def figures(monkeypatch: pytest.MonkeyPatch, counts: object, **options) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(histogram, "write", lambda draw, at, text, *rest: lines.append(text))
    usage_histogram(counts, **options)
    return lines


def test_figures_of_use(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = figures(monkeypatch, [6000, 0, 2000, 0], title="photos")
    assert lines[-4:] == [
        "photos",
        "2 of 4 codes in use (50.0 %), entropy 0.81 of 2.00 bits, perplexity 1.8, 8,000 tokens",
        "rank of the code",
        "share of tokens",
    ]
    assert "unused" in lines and "all alike" in lines
    uniform = figures(monkeypatch, np.ones(1024))
    assert "unused" not in uniform
    assert uniform[-3] == (
        "1,024 of 1,024 codes in use (100.0 %), entropy 10.00 of 10.00 bits, perplexity 1,024.0, "
        "1,024 tokens"
    )
    assert uniform[:4] == ["1", "10", "100", "1,000"]


def test_decades_of_shares_are_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = figures(monkeypatch, [10**6, 1])
    assert [line for line in lines if line.endswith("%")] == [
        "0.0001 %",
        "0.001 %",
        "0.01 %",
        "0.1 %",
        "1 %",
        "10 %",
        "100 %",
    ]


def test_the_curve_falls_and_ends_where_use_does() -> None:
    counts = np.zeros(1000)
    counts[np.random.default_rng(0).permutation(1000)[:100]] = np.arange(1, 101) ** 2
    plot = usage_histogram(counts)
    assert (plot.size, plot.mode) == ((900, 520), "RGB")
    pixels = np.asarray(plot).astype(int)
    blue = (pixels[..., 2] - pixels[..., 0] > 100) & (pixels[..., 1] < 160)
    columns = np.flatnonzero(blue.any(0))
    # 100 of 1000 codes: two of three decades, from one margin to the other.
    assert abs(columns[0] - 104) <= 2
    assert abs(columns[-1] - (104 + 2 / 3 * (900 - 104 - 24))) <= 3
    heights = [np.flatnonzero(blue[:, x]).mean() for x in columns]
    assert np.all(np.diff(heights) >= -1) and heights[-1] - heights[0] > 200


@pytest.mark.parametrize("counts", [[1], [0, 3], np.arange(70000)])
def test_any_counts_are_drawn(counts: object) -> None:
    assert usage_histogram(counts, size=(500, 300)).size == (500, 300)


@pytest.mark.parametrize("counts", [[], [0, 0], [3, -1], [float("nan")]])
def test_counts_that_are_none(counts: list[float]) -> None:
    with pytest.raises(InputError) as error:
        usage_histogram(counts)
    assert str(error.value) == ("counts are numbers from 0 up, one a code, at least one above 0")


# --- counts of a data set ---------------------------------------------------------------------


def why_uncounted(of: Plan, records: object = ()) -> str:
    with pytest.raises(InputError) as error:
        counted(of, records, "OUT")
    return str(error.value)


def test_shards_are_counted_together(tmp_path: Path) -> None:
    keys = ["a", "b", "c"]
    of = plan(keys, shard_size=2)
    rows = token_sets.write(tmp_path, of, keys)
    counts = counted(of, read_records(open_store(str(tmp_path))), "OUT")
    codes = np.concatenate([row.codes.ravel() for row in rows])
    assert np.array_equal(counts, np.bincount(codes, minlength=64))


def test_why_nobody_counted_is_told() -> None:
    assert why_uncounted(plan(["a"], what="latents")) == (
        "'OUT' holds latents and no codes: there is nothing to count"
    )
    large = plan(["a"])
    size = large.tokenizer.model_copy(update={"codebook_size": 1 << 21})
    assert why_uncounted(large.model_copy(update={"tokenizer": size})) == (
        "'OUT' has ids of 2,097,152 codes; they are counted up to 1,048,576"
    )
    assert why_uncounted(plan(["a"])) == "'OUT' holds no codes yet: no shard with rows is done"
