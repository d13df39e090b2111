"""The logit-Laplace likelihood of DALL-E (arXiv 2102.12092, A.3).

What other code calls so is mostly the absolute error of squeezed pixels. Parti's authors took it
out again because pictures got worse; it is here for those who reproduce it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vqtok.training.losses import PIXEL_LOSSES, widened

__all__ = ["logit_laplace"]

SQUEEZE = 0.1  # pixels go into [.1, .9], where logits are finite
SCALE = 0.1  # of the distribution, in logits


@PIXEL_LOSSES.register("logit_laplace")
def logit_laplace(rec: Tensor, x: Tensor) -> Tensor:
    """(B, C, *size), (B, C, *size) -> scalar: the negative logarithm of the density at `x`.

    The location is the logit of the squeezed reconstruction, since our decoders put out pixels and
    not parameters of a density; the scale is fixed. The density is that of squeezed pixels.
    """
    known = _squeezed(widened(x))
    distance = (torch.logit(known) - _location(widened(rec))).abs() / SCALE
    volume = torch.log(2 * SCALE * known * (1 - known))
    return (distance + volume).mean()


def _location(rec: Tensor) -> Tensor:
    """The logit, which goes on as its tangents beyond [-1, 1].

    The logit itself ends at 1.25, and a pixel that is only cut off there never comes back.
    """
    inside = rec.clamp(-1, 1)
    slope = (1 - 2 * SQUEEZE) / 2 / (SQUEEZE * (1 - SQUEEZE))
    return torch.logit(_squeezed(inside)) + slope * (rec - inside)


def _squeezed(pixels: Tensor) -> Tensor:
    return (1 - 2 * SQUEEZE) * (pixels + 1) / 2 + SQUEEZE
