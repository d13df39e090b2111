"""Codes that are compared by direction, known by their lengths."""

from __future__ import annotations

from torch import Tensor

__all__ = ["are_directions", "dead"]

# Room for files of half precision; running means of other codes are far off.
SAME_LENGTH = 1e-2


def are_directions(codes: Tensor) -> bool:
    """Codes (..., D): whether they have a length of 1, those aside that died.

    The running mean of a code that is not used falls until its direction is lost in rounding.
    """
    length = codes.float().norm(dim=-1)
    whole = (length - 1).abs() <= SAME_LENGTH
    return bool(whole.any()) and bool((whole | dead(codes)).all())


def dead(codes: Tensor) -> Tensor:
    """Codes (..., D) -> (...) bool: whether they have no length, and so no direction."""
    lost: Tensor = codes.float().norm(dim=-1) <= SAME_LENGTH
    return lost
