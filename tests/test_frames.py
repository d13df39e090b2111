from __future__ import annotations

from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqtok.errors import ConfigError, InputError
from vqtok.frames import FramePlan, Window, plan_frames, run_lengths

COUNTS = st.integers(1, 500)
STRIDES = st.integers(1, 9)


def check(plan: FramePlan, n: int, stride: int) -> None:
    """No frame is lost, none is added but repetitions of the last, and windows cover them all."""
    assert plan.frames == n <= plan.padded < n + stride
    assert plan.kept == range(n)
    at = 0
    for window in plan.windows:
        assert window.start == at and window.frames > 0
        at += window.frames
    assert at == plan.padded
    assert sum(window.tokens for window in plan.windows) == plan.tokens


@given(COUNTS, STRIDES)
def test_tokens_stand_for_runs_of_frames(n: int, stride: int) -> None:
    plan = plan_frames(n, stride)
    check(plan, n, stride)
    assert plan.tokens == -(-n // stride) and plan.padded == plan.tokens * stride
    assert plan.windows == ((0, plan.padded, plan.tokens),)


@given(COUNTS, STRIDES)
def test_causal_models_see_the_first_frame_alone(n: int, stride: int) -> None:
    plan = plan_frames(n, stride, causal=True)
    check(plan, n, stride)
    assert plan.tokens == 1 + -(-(n - 1) // stride)
    assert plan.padded == 1 + (plan.tokens - 1) * stride
    assert plan.windows == ((0, plan.padded, plan.tokens),)


@given(COUNTS, STRIDES, st.integers(1, 6))
def test_windows_cut_a_clip(n: int, stride: int, tokens: int) -> None:
    plan = plan_frames(n, stride, window=tokens * stride)
    check(plan, n, stride)
    *whole, last = plan.windows
    assert all(window[1:] == (tokens * stride, tokens) for window in whole)
    assert last.frames == last.tokens * stride <= tokens * stride


def test_lengths_of_runs() -> None:
    assert list(islice(run_lengths(4), 3)) == [4, 4, 4]
    assert list(islice(run_lengths(4, 1), 3)) == [1, 4, 4]


@given(COUNTS, STRIDES)
def test_a_frame_more_never_makes_less(n: int, stride: int) -> None:
    for options in ({}, {"causal": True}, {"window": 2 * stride}):
        less, more = (plan_frames(count, stride, **options) for count in (n, n + 1))
        assert 0 <= more.tokens - less.tokens <= 1


def test_plans_by_hand() -> None:
    windows = Window(0, 16, 4), Window(16, 16, 4), Window(32, 8, 2)
    assert plan_frames(37, 4, window=16) == FramePlan(37, 40, 10, windows)
    assert plan_frames(37, 4, causal=True) == FramePlan(37, 37, 10, (Window(0, 37, 10),))
    assert plan_frames(38, 4, causal=True) == FramePlan(38, 41, 11, (Window(0, 41, 11),))
    assert plan_frames(1, 4, causal=True) == FramePlan(1, 1, 1, (Window(0, 1, 1),))


@pytest.mark.parametrize(
    ("n", "options", "text"),
    [
        (37, {}, "37 frames: padded to 40 by repeating the last, 10 tokens of frames; "
                 "decode gives frames 0..36"),
        (40, {}, "40 frames: 10 tokens of frames; decode gives frames 0..39"),
        (37, {"window": 16}, "37 frames: padded to 40 by repeating the last, 10 tokens of frames "
                             "in 3 windows; decode gives frames 0..36"),
        (1, {"causal": True}, "1 frame: 1 token of frames; decode gives frame 0"),
    ],
)  # fmt: skip
def test_plans_in_words(n: int, options: dict[str, Any], text: str) -> None:
    assert str(plan_frames(n, 4, **options)) == text


@pytest.mark.parametrize(
    ("arguments", "options", "kind", "message"),
    [
        *(
            ((n, 4), {}, InputError, f"a number of frames is a whole number, at least 1; got {n!r}")
            for n in (0, -3, 2.5, "a", True, None)
        ),
        ((5, 0), {}, ConfigError, "a token is at least one frame deep; got stride=0"),
        ((5, 4), {"window": 6}, ConfigError, "a window is a multiple of the stride, 4; got "
                                             "window=6"),
        ((5, 4), {"window": 0}, ConfigError, "a window is a multiple of the stride, 4; got "
                                             "window=0"),
        ((5, 4), {"window": 4, "causal": True}, ConfigError, "a causal model needs no windows; got "
                                                             "window=4"),
    ],
)  # fmt: skip
def test_plans_that_cannot_be(
    arguments: tuple[Any, int], options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind) as error:
        plan_frames(*arguments, **options)
    assert str(error.value) == message
