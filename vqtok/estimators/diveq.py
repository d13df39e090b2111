"""DiVeQ (arXiv 2509.26469): the step from e to q, taken along a slightly noisy direction.

Only the length of the step is differentiated, so that encoder and codebook both receive a gradient
and no codebook or commitment loss is needed. The value is near q, not q.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vqtok.errors import ConfigError
from vqtok.estimators import estimator

__all__ = ["diveq"]


@estimator("diveq", value="other", grad="e,q")
def diveq(
    e: Tensor,
    q: Tensor,
    *,
    generator: torch.Generator | None = None,
    noise: float = 0.03,
) -> Tensor:
    """(..., D), (..., D) -> e + |q - e| d (..., D), d the direction of q - e plus noise.

    `noise` is the standard deviation of the normal noise on each coordinate of q - e.
    """
    if noise < 0:
        raise ConfigError(f"noise is a standard deviation and not negative; got {noise}")
    with torch.autocast(e.device.type, enabled=False):
        wide = torch.promote_types(e.dtype, torch.float32)
        e_wide, q_wide = e.to(wide), q.to(wide)
        step = q_wide - e_wide
        shake = torch.empty_like(step).normal_(0, 1, generator=generator) * noise
        direction = torch.nn.functional.normalize(step.detach() + shake, dim=-1)
        return (e_wide + _length(step) * direction).to(q.dtype)


def _length(step: Tensor) -> Tensor:
    """|step| (..., 1), whose gradient is 0, not NaN, where the step is."""
    square = step.square().sum(-1, keepdim=True)
    moves = square > 0
    return torch.where(moves, torch.where(moves, square, 1).sqrt(), 0)
