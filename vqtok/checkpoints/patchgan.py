"""The discriminator of taming-transformers, latent diffusion and others after pix2pix.

Their layers lie in one sequence, `main.N`; those of `vqtok.training`'s PatchGAN in blocks of a
convolution, a norm and an activation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

__all__ = ["weights"]

_KEY = re.compile(r"main\.(\d+)\.(\w+)")
_CONV = {"weight", "bias"}
_BATCH_NORM = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}


def weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`main.N.*` of an NLayerDiscriminator with batch norms -> those of our PatchGAN with them.

    Running statistics are left out: it judges in training alone, by those of the batch. {} where it
    is another network, such as one with ActNorm, or there is none.
    """
    matches = {key: _KEY.fullmatch(key) for key in tensors}
    found = {(int(m[1]), m[2]): tensors[key] for key, m in matches.items() if m}
    last = max((number for number, _ in found), default=0)
    layers = (last - 2) // 3
    # Counted first, so that a number of a billion does not make a billion names.
    if len(found) != len(tensors) or last != 3 * layers + 2 or len(found) != 4 + 6 * layers:
        return {}
    places = dict(_places(layers))
    wanted = {(number, part) for number, (_, parts) in places.items() for part in parts}
    if layers < 1 or wanted != set(found):
        return {}
    return {
        f"{places[number][0]}.{part}": tensor
        for (number, part), tensor in found.items()
        if part in _CONV
    }


def _places(layers: int) -> list[tuple[int, tuple[str, set[str]]]]:
    """Number in the sequence -> our name, and what a layer of this kind has."""
    places = [(0, ("blocks.0.0", _CONV)), (3 * layers + 2, (f"blocks.{layers + 1}", _CONV))]
    for block in range(1, layers + 1):
        places.append((3 * block - 1, (f"blocks.{block}.0", {"weight"})))
        places.append((3 * block, (f"blocks.{block}.1", _BATCH_NORM)))
    return places
