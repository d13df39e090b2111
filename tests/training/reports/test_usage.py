"""The chart of code usage, read back from its pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vqtok.training.reports import usage
from vqtok.training.reports.usage import BAR, BOTTOM, EMPTY, LEFT, RIGHT, TOP, usage_chart


def heights(chart: np.ndarray) -> np.ndarray:
    """How many pixels of each column of the plot are bar, (RIGHT - LEFT,)."""
    plot = chart[TOP:BOTTOM, LEFT + 1 : RIGHT]
    return (plot == BAR).all(-1).sum(0)


def words(monkeypatch: pytest.MonkeyPatch, counts: torch.Tensor, title: str = "") -> list[str]:
    """All that a chart says, in its order."""
    said: list[str] = []
    draw = usage.ImageDraw.Draw

    def listening(image: object) -> object:
        made = draw(image)
        text = made.text
        made.text = lambda place, word, *rest: (said.append(word), text(place, word, *rest))
        return made

    monkeypatch.setattr(usage.ImageDraw, "Draw", listening)
    usage_chart(counts, title)
    return said


def test_bars_fall_from_the_most_used_code() -> None:
    counts = torch.tensor([0, 10, 1, 100, 0, 10, 1, 0])
    tall = heights(usage_chart(counts))
    assert (np.diff(tall) <= 1).all()  # the dashes of the mean take a pixel
    steps = [int(np.median(part)) for part in np.array_split(tall, 8)]
    assert steps[0] > steps[1] == steps[2] > steps[3] == steps[4] > 0
    assert steps[5:] == [0, 0, 0]
    # A tenth is one step of the scale, wherever it is.
    assert steps[0] - steps[1] == pytest.approx(steps[1] - steps[3], abs=2)


def test_the_unused_part_is_marked() -> None:
    chart = usage_chart(torch.tensor([3, 0, 0, 5]))
    empty = (chart[TOP + 3, LEFT + 1 : RIGHT] == EMPTY).all(-1)
    half = len(empty) // 2
    assert not empty[: half - 2].any() and empty[half + 2 :].all()
    assert not (usage_chart(torch.ones(4)) == EMPTY).all(-1).any()


def test_more_codes_than_pixels() -> None:
    counts = torch.arange(65_536) // 2
    tall = heights(usage_chart(counts))
    assert tall[0] > tall[-20] > 0 and (np.diff(tall) <= 1).all()


def test_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    said = words(monkeypatch, torch.tensor([4000, 0, 0, 4000]), "step 1,000")
    assert said == [
        "2 unused",
        *("1", "10", "100", "1k", "10k"),
        "even use: 2,000.0",
        *("0", "1", "2", "3", "4"),
        "codes, the most used first",
        "tokens",
        "step 1,000: 2 of 4 codes used (50.0%), perplexity 2.0",
    ]


def test_several_codebooks_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    said = words(monkeypatch, torch.tensor([[5, 0], [5, 5]]))
    assert said[-1] == "3 of 4 codes used (75.0%), perplexity 1.5"


@pytest.mark.parametrize("size", [2, 700, 5000])
def test_no_token_at_all(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert words(monkeypatch, torch.zeros(size))[-1] == f"0 of {size:,} codes used (0.0%)"
    assert not heights(usage_chart(torch.zeros(size))).any()
