"""The rotation trick, Algorithm 1 of arXiv 2410.06424.

Forward, e is carried onto q by a rotation R and a scale λ = |q|/|e|; backward, both count as
constants, so the encoder receives `λ Rᵀ g`: the gradient keeps the angle to e that it had to q.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vqtok.errors import ConfigError
from vqtok.estimators import estimator
from vqtok.estimators._transport import Frame, cosine_limit, dot, transport

__all__ = ["rotate_back", "rotation"]


def rotate_back(frame: Frame, g: Tensor) -> Tensor:
    """`Rᵀ g`, R the rotation of u onto v in their plane: R = I - s sᵀ/(1+c) + 2 v uᵀ, s = u + v."""
    s = frame.u + frame.v
    return g - s * dot(s, g) / frame.nearness + 2 * frame.u * dot(frame.v, g)


_carry = transport(lambda frame, g: frame.scale * rotate_back(frame, g))


@estimator("rotation", rotates=True)
def rotation(
    e: Tensor,
    q: Tensor,
    *,
    generator: torch.Generator | None = None,
    max_angle: float = 90.0,
    strict: bool = False,
    max_scale: float | None = None,
) -> Tensor:
    """(..., D), (..., D) -> q (..., D), with the gradient `λ Rᵀ g` for e.

    Where e or q has no length, or they are antiparallel, there is no such rotation and the
    gradient goes straight through. It does so, too, where the angle between them is over
    `max_angle` degrees: beyond 90 the rotated gradient points away from the code, and a codebook
    that starts badly then collapses. `strict` switches that guard off, as in the paper.
    `max_scale` s keeps λ within [1/s, s].
    """
    if max_scale is not None and not max_scale >= 1:
        raise ConfigError(f"max_scale bounds a ratio from above and is at least 1; got {max_scale}")
    return _carry(e, q, cosine_limit(max_angle, strict), max_scale or math.inf)
