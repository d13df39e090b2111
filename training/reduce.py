"""Sums, means and gathers over processes; with one process, what was given."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = [
    "any_rank",
    "gathered",
    "mean_over_ranks",
    "means_over_ranks",
    "rank",
    "summed_over_ranks",
    "widest",
    "world",
]


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is."""
    return dist.get_rank() if dist.is_initialized() else 0


def summed_over_ranks(tensor: Tensor) -> Tensor:
    """The sum of all processes' tensors; a new tensor."""
    if world() == 1:
        return tensor
    out = tensor.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(out)
    return out


def mean_over_ranks(tensor: Tensor) -> Tensor:
    """The mean of all processes' tensors; a new tensor."""
    return summed_over_ranks(tensor) / world() if world() > 1 else tensor


def means_over_ranks(scalars: Mapping[str, Tensor]) -> dict[str, float]:
    """Scalars by name, the same names everywhere -> their means as floats, by one reduction."""
    if not scalars:
        return {}
    together = torch.stack([widest(value.detach()).reshape(()) for value in scalars.values()])
    return dict(zip(scalars, mean_over_ranks(together).tolist(), strict=True))


def gathered(tensor: Tensor) -> Tensor:
    """Tensors of one shape -> (world, *shape), in the order of ranks."""
    if world() == 1:
        return tensor[None]
    out = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(world())]
    dist.all_gather(out, tensor.contiguous())
    return torch.stack(out)


def widest(tensor: Tensor) -> Tensor:
    """In float64, but for devices that have none."""
    return tensor.float() if tensor.device.type == "mps" else tensor.double()


def any_rank(flag: bool) -> bool:
    """Whether it is true on any process."""
    if world() == 1:
        return flag
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    return bool(summed_over_ranks(torch.tensor(int(flag), device=device)))
