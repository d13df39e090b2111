"""What the estimators that carry a gradient from q to e by a linear map have in common.

Each is a `torch.autograd.Function` whose value is q, bit for bit, and which keeps e and q alone.
The map is written by its action on a vector; no matrix is formed, so a token costs O(D).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from vqtok.errors import ConfigError
from vqtok.estimators import estimator

__all__ = ["Carry", "Frame", "Pull", "carried", "cosine_limit", "dot", "transport"]

# Below this length a direction is rounding noise, and the ratio of lengths explodes.
SMALLEST_NORM = 1e-6
# 1 + cos below this: e and q are antiparallel as far as float32 can tell, and the plane of the
# rotation is not defined.
ANTIPARALLEL = 1e-6


def dot(a: Tensor, b: Tensor) -> Tensor:
    """(..., D), (..., D) -> (..., 1)."""
    return (a * b).sum(-1, keepdim=True)


def cosine_limit(max_angle: float, strict: bool) -> float:
    """The cosine below which the gradient goes straight through; none is below -1."""
    if not 0 < max_angle <= 180:
        raise ConfigError(f"max_angle lies in (0, 180] degrees; got {max_angle}")
    return -1.0 if strict or max_angle == 180 else math.cos(math.radians(max_angle))


class Frame(NamedTuple):
    """Two directions, the ratio of their lengths, and the rows in which a map is defined."""

    u: Tensor  # e / |e|
    v: Tensor  # q / |q|
    nearness: Tensor  # (..., 1) 1 + cosine: near -1 a cosine itself has no digits left
    scale: Tensor  # (..., 1) |q| / |e|
    defined: Tensor  # (..., 1) bool

    @classmethod
    def of(cls, e: Tensor, q: Tensor, limit: float, max_scale: float) -> Frame:
        e_norm, q_norm = (torch.linalg.vector_norm(t, dim=-1, keepdim=True) for t in (e, q))
        long = (e_norm > SMALLEST_NORM) & (q_norm > SMALLEST_NORM)
        long &= (e_norm < math.inf) & (q_norm < math.inf)
        # Rows that are not long are answered straight through; 1 keeps them free of NaN until then.
        e_safe, q_safe = torch.where(long, e_norm, 1), torch.where(long, q_norm, 1)
        u, v = e / e_safe, q / q_safe
        nearness = (u + v).square().sum(-1, keepdim=True) / 2
        defined = long & (nearness > ANTIPARALLEL) & (nearness >= 1 + limit)
        scale = (q_safe / e_safe).clamp(1 / max_scale, max_scale)
        return cls(u, v, nearness, scale, defined)


Pull = Callable[[Frame, Tensor], Tensor]


class _Transport(torch.autograd.Function):
    """Value q; the gradient is what `pull` makes of it."""

    pull: Pull

    @staticmethod
    def forward(ctx: Any, e: Tensor, q: Tensor, limit: float, max_scale: float) -> Tensor:
        ctx.save_for_backward(e, q)
        ctx.limit, ctx.max_scale = limit, max_scale
        return q.clone()

    @classmethod
    def gradient(cls, ctx: Any, grad: Tensor) -> Tensor:
        """In float32 or wider, whatever the dtypes are."""
        # Detached: R and λ are constants, in a second derivative as well.
        e, q = (saved.detach() for saved in ctx.saved_tensors)
        with torch.autocast(e.device.type, enabled=False):
            wide = torch.promote_types(e.dtype, torch.float32)
            frame = Frame.of(e.to(wide), q.to(wide), ctx.limit, ctx.max_scale)
            g = grad.to(wide)
            return torch.where(frame.defined, cls.pull(frame, g), g).to(e.dtype)


class Carry(Protocol):
    """(e, q, limit) -> q, with the gradient that a linear map makes of q's.

    Rows in which the map is not defined, or whose cosine is below `limit`, go straight through.
    """

    def __call__(self, e: Tensor, q: Tensor, limit: float, max_scale: float = ...) -> Tensor: ...


def transport(pull: Pull) -> Carry:
    """The estimator's working part, from `pull`, the action of its map on a gradient."""

    class Made(_Transport):
        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
            return Made.gradient(ctx, *grads), None, None, None

    Made.pull = staticmethod(pull)
    Made.__name__ = Made.__qualname__ = f"Transport_{pull.__module__.rsplit('.', 1)[-1]}"

    def apply(e: Tensor, q: Tensor, limit: float, max_scale: float = math.inf) -> Tensor:
        z: Tensor = Made.apply(e, q.detach(), limit, max_scale)  # type: ignore[no-untyped-call]
        return z

    return apply


def carried(name: str, *, rotates: bool = False) -> Callable[[Pull], Callable[..., Tensor]]:
    """A decorator: a map's action on a gradient becomes an estimator, guarded as `rotation` is."""

    def add(pull: Pull) -> Callable[..., Tensor]:
        carry = transport(pull)

        def estimate(
            e: Tensor,
            q: Tensor,
            *,
            generator: torch.Generator | None = None,
            max_angle: float = 90.0,
            strict: bool = False,
        ) -> Tensor:
            return carry(e, q, cosine_limit(max_angle, strict))

        estimate.__name__, estimate.__doc__ = name, pull.__doc__
        estimate.__module__ = pull.__module__
        return estimator(name, rotates=rotates)(estimate)

    return add
