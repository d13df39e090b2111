"""Which frames a model of clips sees, how many tokens it makes of them, and which come back.

A clip has any length, tokens stand for several frames each, so the last frame is repeated until
its token is full; decoding cuts what was added. Nothing is ever dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice, repeat
from numbers import Integral
from typing import TYPE_CHECKING, NamedTuple

from vqtok.errors import CodesError, ConfigError, InputError, plural

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["FramePlan", "Window", "cut", "plan_frames", "run_lengths"]


class Window(NamedTuple):
    """Frames that go through the networks together, those that are padded among them."""

    start: int
    frames: int
    tokens: int


class FramePlan(NamedTuple):
    """What becomes of the frames of a clip.

    frames   as given, all of which come back
    padded   that the model sees: the last one is repeated
    tokens   along time, the t of the grid (t, h, w)
    windows  runs of frames that go through the networks together, in order and side by side
    """

    frames: int
    padded: int
    tokens: int
    windows: tuple[Window, ...]

    @property
    def kept(self) -> range:
        """Which of the decoded frames come back: those that were given."""
        return range(self.frames)

    def __str__(self) -> str:
        added = self.padded - self.frames
        parts = [f"{plural(self.frames, 'frame')}: "]
        parts += [f"padded to {self.padded} by repeating the last, "] * bool(added)
        parts += [f"{plural(self.tokens, 'token')} of frames"]
        parts += [f" in {len(self.windows)} windows"] * (len(self.windows) > 1)
        last = self.frames - 1
        return "".join(parts) + f"; decode gives frame{f's 0..{last}' if last else ' 0'}"


def plan_frames(
    n: int, stride: int, *, causal: bool = False, window: int | None = None
) -> FramePlan:
    """How a clip of n frames goes through a model whose tokens are `stride` frames deep.

    causal  the first frame is a token by itself: 1 + ceil((n - 1) / stride) tokens, one window, for
            such a model may be fed piece by piece
    window  frames that go through the networks together, a multiple of `stride`; what remains
            of a longer clip is a shorter window. Without it the clip is one window
    """
    _check(n, stride, causal, window)
    first = int(causal)
    tokens = first + -((first - n) // stride)
    padded = first + (tokens - first) * stride
    lengths = run_lengths(window or padded)
    windows, left = list[Window](), padded
    while left:
        span = min(next(lengths), left)
        windows.append(Window(padded - left, span, tokens if span == padded else span // stride))
        left -= span
    return FramePlan(n, padded, tokens, tuple(windows))


def cut(
    frames: Iterator[npt.NDArray[np.uint8]], sizes: npt.NDArray[np.int32]
) -> Iterator[npt.NDArray[np.uint8]]:
    """Decoded frames (h, w, 3) of one clip -> those that were given, as large as they were.

    sizes  of `Codes`: (1, 3), where 0 is a side that is not known
    """
    if sizes.shape != (1, 3):
        raise CodesError(
            f"frames come of one clip, so sizes has the shape (1, 3); got {sizes.shape}"
        )
    count, height, width = sizes[0].tolist()
    for frame in islice(frames, count or None):
        yield frame[: height or None, : width or None]


def run_lengths(length: int, first: int | None = None) -> Iterator[int]:
    """Frames, or tokens along time, that go through the networks at a time, one after another.

    length  a window's, or those of a token
    first   the first token's, where that has others
    """
    return chain([length if first is None else first], repeat(length))


def _check(n: int, stride: int, causal: bool, window: int | None) -> None:
    if not isinstance(n, Integral) or isinstance(n, bool) or n < 1:
        raise InputError(f"a number of frames is a whole number, at least 1; got {n!r}")
    if stride < 1:
        raise ConfigError(f"a token is at least one frame deep; got stride={stride}")
    if window is None:
        return
    if causal:
        raise ConfigError(f"a causal model needs no windows; got window={window}")
    if window < 1 or window % stride:
        raise ConfigError(f"a window is a multiple of the stride, {stride}; got window={window}")
