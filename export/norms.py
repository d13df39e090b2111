"""Group normalisation as graphs have it: sums in two stages, as exact as torch's.

ONNX Runtime adds up a row one number after another, and the rows of a normalisation are a group's
every pixel: of 122,880 floats the latents came out 23 times less exact than torch's, and ids of
flat pictures moved that were no near ties. Sums of sums are as good as torch's. Measured on one
thread of a busy machine, `photo-tiny`'s encoder takes 3 to 10 % more CPU time so than with ONNX
Runtime's own normalisation, and its decoder 7 to 17 %.
"""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["in_stages"]


class _GroupNorm(nn.Module):
    """`nn.GroupNorm` of (N, C, ..., W), in float32."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.groups, self.eps = norm.num_groups, norm.eps
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ..., W) -> the same."""
        # No length is left to be inferred: ONNX Runtime's symbolic shape inference could not.
        shape = self.groups, x.shape[1] // self.groups
        grouped = x.float().unflatten(1, shape)
        centred = grouped - _mean(grouped)
        factor = (_mean(centred.square()) + self.eps).rsqrt()
        each = *shape, *(1,) * (x.ndim - 2)
        if self.weight is not None:
            factor = factor * self.weight.float().view(each)
        normed = centred * factor
        if self.bias is not None:
            normed = normed + self.bias.float().view(each)
        out: Tensor = normed.flatten(1, 2).to(x.dtype)
        return out


def _mean(grouped: Tensor) -> Tensor:
    """(N, G, C / G, ..., W) -> (N, G, 1, ..., 1)."""
    rows = grouped.mean(-1, keepdim=True)
    return rows.mean(tuple(range(2, rows.ndim - 1)), keepdim=True)


def in_stages(module: nn.Module) -> None:
    """Puts such a normalisation in the place of each `nn.GroupNorm` in a module."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.GroupNorm):
                setattr(parent, name, _GroupNorm(child))
