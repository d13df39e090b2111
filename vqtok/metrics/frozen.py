"""Networks that metrics look through: nothing in them learns, is saved or loses digits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from vqtok.errors import LoadError

__all__ = ["Frozen"]

SHOWN = 3  # names in a message


class Frozen(nn.Module):
    """A network whose weights are buffers outside `state_dict`, at least float32, always in eval.

    Optimizers, DDP and checkpoints therefore do not see them. A subclass builds its layers on the
    device "meta", calls `freeze`, and `fill` gives them values; no random number is drawn.
    """

    def freeze(self) -> None:
        """Makes buffers of all parameters."""
        for module in self.modules():
            for name, weight in list(module.named_parameters(recurse=False)):
                delattr(module, name)
                module.register_buffer(name, weight.detach(), persistent=False)
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
                module.num_batches_tracked = None
            module._non_persistent_buffers_set.update(module._buffers)
        self.eval()

    def fill(self, tensors: Mapping[str, Tensor], file: Path, title: str) -> None:
        """Takes the values of all layers from `tensors`; `file` and `title` are for messages.

        Factors of a batch norm may be left out where they are 1, its counters are not looked at.
        """
        own = {name: empty for name, empty in self.named_buffers() if empty.is_meta}
        given = {name: t for name, t in tensors.items() if not name.endswith("batches_tracked")}
        factors = (name for name in own if name.endswith("bn.weight"))
        given = {name: torch.ones(own[name].shape, device="cpu") for name in factors} | given
        _compare(own, given, f"{file} holds no weights of {title}")
        for name in own:
            module, _, leaf = name.rpartition(".")
            self.get_submodule(module)._buffers[leaf] = given[name].float().contiguous()

    def train(self, mode: bool = True) -> Self:
        """Has no effect: there is nothing to learn."""
        return super().train(False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """`.half()` and `.to(dtype)` pass by: figures would change with the dtype."""

        def keep(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            halved = moved.dtype in (torch.float16, torch.bfloat16)
            return tensor.to(moved.device) if halved else moved

        super()._apply(keep, recurse)  # type: ignore[no-untyped-call]
        return self


def _compare(own: Mapping[str, Tensor], given: Mapping[str, Tensor], what: str) -> None:
    faults = (
        ("without", own.keys() - given.keys()),
        ("with the unknown", given.keys() - own.keys()),
        ("of other shapes:", [n for n in own if n in given and own[n].shape != given[n].shape]),
    )
    found = [f"{fault} {_some(names)}" for fault, names in faults if names]
    if found:
        raise LoadError(f"{what}: {'; '.join(found)}")


def _some(names: Iterable[str]) -> str:
    every = sorted(names)
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return ", ".join(every[:SHOWN]) + more
