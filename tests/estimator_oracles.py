"""What the gradients of estimators are held against: dense matrices, built another way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vqtok.estimators import ESTIMATORS, Estimator


def pair(d: int, angle: float, ratio: float = 1.5, *, rows: int = 4, seed: int = 0) -> list[Tensor]:
    """e and q, float64 (rows, d), with `angle` degrees between them and |q| = `ratio` |e|."""
    generator = torch.Generator().manual_seed(seed)
    e, other = torch.randn(2, rows, d, generator=generator, dtype=torch.float64)
    u = e / e.norm(dim=1, keepdim=True)
    w = other - u * (u * other).sum(1, keepdim=True)
    w = w / w.norm(dim=1, keepdim=True) if d > 1 else 0
    turn = torch.tensor(angle, dtype=torch.float64).deg2rad()
    q = ratio * e.norm(dim=1, keepdim=True) * (turn.cos() * u + turn.sin() * w)
    return [e, q]


def some_gradient(e: Tensor, seed: int = 1) -> Tensor:
    return torch.randn(e.shape, generator=torch.Generator().manual_seed(seed)).to(e.dtype)


def needed(part: Estimator, **arguments: Any) -> dict[str, Any]:
    """`arguments` and what a call of `part` cannot do without."""
    return {"loss": cubes, **arguments} if part.needs_loss else arguments


def cubes(x: Tensor) -> Tensor:
    """A loss that treats each row alone and has a slope and a bend."""
    return (x**3).sum()


def gradient(name: str, e: Tensor, q: Tensor, g: Tensor, **arguments: Any) -> Tensor:
    """What reaches e when g reaches the quantized vectors."""
    part = ESTIMATORS[name]
    e = e.detach().clone().requires_grad_()
    z = part(e, q, **needed(part, **arguments))
    (grad,) = torch.autograd.grad(z, e, g)
    return grad


def matrix(name: str, e: Tensor, q: Tensor, **arguments: Any) -> Tensor:
    """(n, d), (n, d) -> (n, d, d): M of `grad_e = M g`, by pushing the unit vectors through."""
    n, d = e.shape
    unit = torch.eye(d, dtype=e.dtype).expand(n, d, d)
    each = (t[:, None].expand(n, d, d) for t in (e, q))
    return gradient(name, *each, unit, **arguments).mT


def turn(e: Tensor, q: Tensor) -> Tensor:
    """(n, d), (n, d) -> (n, d, d) float64: the rotation of e's direction onto q's.

    A Givens rotation in an orthonormal basis that begins with e's direction and has q's in the
    plane of its first two vectors.
    """
    e, q = e.double(), q.double()
    n, d = e.shape
    u, v = e / e.norm(dim=1, keepdim=True), q / q.norm(dim=1, keepdim=True)
    filling = torch.randn(n, d, d, generator=torch.Generator().manual_seed(7), dtype=e.dtype)
    filling[:, :, 0] = u
    if d == 1:
        return torch.ones(n, 1, 1, dtype=e.dtype)
    filling[:, :, 1] = v
    basis, _ = torch.linalg.qr(filling)
    basis[:, :, 0] = u  # QR may have turned it round
    inner = torch.eye(d, dtype=e.dtype).repeat(n, 1, 1)
    along, across = ((basis[:, :, i] * v).sum(1) for i in (0, 1))
    inner[:, 0, 0], inner[:, 0, 1] = along, -across
    inner[:, 1, 0], inner[:, 1, 1] = across, along
    return basis @ inner @ basis.mT


def scale(e: Tensor, q: Tensor) -> Tensor:
    """|q| / |e|, (n, 1, 1)."""
    return (q.double().norm(dim=1) / e.double().norm(dim=1))[:, None, None]


def _identity(e: Tensor) -> Tensor:
    return torch.eye(e.shape[1], dtype=torch.float64).expand(len(e), -1, -1)


def _radial(e: Tensor) -> Tensor:
    u = e.double() / e.double().norm(dim=1, keepdim=True)
    return u[:, :, None] * u[:, None]


def _mirror(e: Tensor, q: Tensor) -> Tensor:
    w = e.double() / e.double().norm(dim=1, keepdim=True)
    w = w - q.double() / q.double().norm(dim=1, keepdim=True)
    square = w.square().sum(1)[:, None, None]
    return _identity(e) - 2 * w[:, :, None] * w[:, None] / square.where(square > 0, 1)


MAPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "rotation": lambda e, q: scale(e, q) * turn(e, q).mT,
    "rodrigues": lambda e, q: scale(e, q) * turn(e, q).mT,
    "rotation_no_scale": lambda e, q: turn(e, q).mT,
    "rotation_radial_free": lambda e, q: (
        (_identity(e) - _radial(e)) @ (scale(e, q) * turn(e, q).mT)
    ),
    "reflection": lambda e, q: scale(e, q) * _mirror(e, q),
    "scale_only": lambda e, q: scale(e, q) * _identity(e),
    "ste": lambda e, q: _identity(e),
}
"""The linear maps by which these estimators carry a gradient, (n, d), (n, d) -> (n, d, d)."""
GUARDED = [name for name in ESTIMATORS if "max_angle" in ESTIMATORS[name].arguments]
