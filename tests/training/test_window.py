from __future__ import annotations

import math

import pytest
import torch

from vqtok.quantizers import QUANTIZERS
from vqtok.training.step import Outcome
from vqtok.training.window import Window

QUANTIZER = QUANTIZERS["vector"](4, 8, start="kaiming")


def outcome(loss: float, codes: list[int], **others: float) -> Outcome:
    terms = {name: torch.tensor(value) for name, value in {"loss": loss, **others}.items()}
    ids = torch.tensor(codes).view(1, 2, -1)
    count = torch.bincount(ids.flatten(), minlength=8)[None]
    return Outcome(terms, count, torch.randn(1, 4, 2, ids.shape[-1]), ids)


def test_terms_are_means_over_the_steps_that_have_them() -> None:
    window = Window()
    for step in (outcome(1.0, [0, 1]), outcome(2.0, [0, 1], r1=5.0)):
        window.add(step)
    figures = window.figures(step, QUANTIZER)
    assert figures["loss"] == 1.5
    assert figures["r1"] == 5.0


def test_usage_is_that_of_all_tokens_since_the_last_line() -> None:
    window = Window()
    window.add(outcome(1.0, [0, 0, 0, 1]))
    last = outcome(1.0, [2, 3, 0, 0])
    window.add(last)
    figures = window.figures(last, QUANTIZER)
    assert figures["usage"] == 4 / 8
    assert figures["top_share"] == 5 / 8
    entropy = -(5 / 8 * math.log(5 / 8) + 3 * (1 / 8) * math.log(1 / 8))
    assert figures["perplexity"] == pytest.approx(math.exp(entropy))
    window.add(last)
    assert window.figures(last, QUANTIZER)["usage"] == 3 / 8


def test_geometry_is_that_of_the_last_step() -> None:
    window = Window()
    last = outcome(1.0, [0, 1, 2, 3])
    codes = QUANTIZER.decode(last.codes)
    window.add(last._replace(latents=2 * codes))
    figures = window.figures(last._replace(latents=2 * codes), QUANTIZER)
    assert figures["scale_p50"] == pytest.approx(0.5)
    assert figures["angle"] == pytest.approx(0, abs=1e-3)


def test_a_window_goes_on_from_its_state() -> None:
    one, other = Window(), Window()
    first, second = outcome(1.0, [0, 1]), outcome(3.0, [5, 5], gan=1.0)
    one.add(first)
    other.load_state_dict(one.state_dict(), torch.device("cpu"))
    for window in (one, other):
        window.add(second)
    assert one.figures(second, QUANTIZER) == other.figures(second, QUANTIZER)
