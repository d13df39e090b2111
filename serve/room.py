"""How large the slots of one tokenizer are, and which a picture goes into."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from vqtok.pictures import MAX_ASPECT
from vqtok.serve.shared import PAGE
from vqtok.serve.slab import ALIGN

if TYPE_CHECKING:
    from vqtok.serve.facts import Facts

__all__ = ["Limits", "chunk_frames", "largest_area", "picture_area", "slot_bytes", "slot_kind"]

PARTS = 3  # that one side of a slot holds at most: codes, scales, and pixels or latents


class Limits(Protocol):
    """What the settings of a server say about sizes."""

    @property
    def max_area(self) -> int: ...
    @property
    def slot_frames(self) -> int: ...


def slot_bytes(facts: Facts, limits: Limits) -> tuple[int, int]:
    """Bytes that each side of a slot for a picture holds, and of one for what is larger.

    The larger is a clip or, where preprocessing brings pictures to one size, a grid of codes that
    stands for a larger one; it is 0 where there is nothing larger.
    """
    area = picture_area(facts, limits)
    picture = _capacity(facts, facts.traits.frames, area)
    frames = 1
    if facts.traits.is_video:
        most = max(limits.slot_frames, chunk_frames(facts, limits))
        frames = facts.traits.plan_frames(most).padded
    larger = _capacity(facts, frames, max(area, largest_area(facts, limits)))
    return picture, larger if larger > picture else 0


def chunk_frames(facts: Facts, limits: Limits) -> int:
    """Frames of a clip that go through at a time where it is longer: whole windows, or tokens."""
    step = facts.traits.window or facts.traits.stride[0]
    return max(1, limits.slot_frames // step) * step


def slot_kind(facts: Facts, size: Sequence[int], limits: Limits) -> int:
    """0 where pixels (H, W) or (T, H, W) go into a slot for a picture, else 1."""
    *frames, height, width = size
    small = height * width <= picture_area(facts, limits)
    return 0 if small and math.prod(frames) <= facts.traits.frames else 1


def picture_area(facts: Facts, limits: Limits) -> int:
    """The most pixels of a prepared picture or frame."""
    settings = facts.preprocess
    if not settings.keeps_size:
        return math.prod(settings.sides)
    area = min(settings.max_area or limits.max_area, limits.max_area)
    return area if settings.policy == "native" else _extended(area, settings.stride)


def largest_area(facts: Facts, limits: Limits) -> int:
    """The most pixels of a picture or frame that codes may stand for."""
    if facts.traits.only_size is not None:
        return math.prod(facts.traits.only_size)
    return max(limits.max_area, picture_area(facts, limits))


def _capacity(facts: Facts, frames: int, area: int) -> int:
    tokens = _cells(area, facts) * (
        facts.traits.plan_frames(frames).tokens if facts.traits.is_video else 1
    )
    pixels = 3 * frames * area
    codes = (
        tokens
        * max(1, facts.traits.depth, len(facts.traits.scale_sides))
        * facts.traits.dtype.itemsize
    )
    latents = 4 * tokens * (facts.traits.latent_channels or 0)
    scales = 8 * len(facts.traits.scale_sides)
    whole = codes + scales + max(pixels, latents) + PARTS * ALIGN
    return -(-whole // PAGE) * PAGE


def _cells(area: int, facts: Facts) -> int:
    """The most tokens of a frame with so many pixels."""
    if facts.traits.only_size is not None and facts.grid is not None:
        return math.prod(facts.grid)
    return -(-area // math.prod(facts.traits.stride[-2:]))


def _extended(area: int, stride: int) -> int:
    """The most pixels where both sides of a picture are extended to a multiple of the stride."""
    long, short = math.isqrt(area * MAX_ASPECT) + 1, math.isqrt(area) + 1
    return area + stride * (long + short) + stride**2
