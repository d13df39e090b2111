"""The discriminator that a tokenizer's folder keeps beside its weights, to train on with.

A run writes its own, and in the file's header which it is, with which settings. Files without that
are PatchGANs with batch norms, which taming-transformers trains and `vqtok.checkpoints` keeps.
"""

from __future__ import annotations

import inspect
import json
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor, nn

from vqtok.autoencoders.weights import stored_tensors
from vqtok.contents import DISCRIMINATOR
from vqtok.errors import ConfigError
from vqtok.files import save_tensors
from vqtok.training.discriminators import DISCRIMINATORS
from vqtok.training.settings import Discriminator

__all__ = ["Kept", "keep"]

HEADER = "discriminator"  # the key of a file's header that says which it is
TAMING = "patchgan"  # of those that `vqtok.checkpoints` keeps
FIRST = "blocks.0.0.weight"


def keep(network: nn.Module, name: str, args: dict[str, Any], folder: Path) -> None:
    """Writes a discriminator, made by that name with these settings, into a tokenizer's folder."""
    # Contiguous, each with memory of its own, as safetensors wants them.
    tensors = {key: tensor.clone().contiguous() for key, tensor in network.state_dict().items()}
    header = json.dumps({"name": name, "args": {**_defaults(name), **args}}, sort_keys=True)
    save_tensors(tensors, folder / DISCRIMINATOR, {HEADER: header})


class Kept:
    """The discriminator of the folder of a tokenizer, if it has one.

    init  what messages call the tokenizer
    """

    def __init__(self, init: str, folder: Path) -> None:
        self.init, self.file = init, folder / DISCRIMINATOR

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        """By the names of our networks; {} where there is none."""
        return dict(stored_tensors([self.file])) if self.file.is_file() else {}

    @property
    def name(self) -> str:
        """The name that it has in `DISCRIMINATORS`."""
        return self._made[0]

    @property
    def own_args(self) -> dict[str, Any]:
        """With which that has these weights."""
        return self._made[1]

    @cached_property
    def _made(self) -> tuple[str, dict[str, Any]]:
        with safe_open(self.file, framework="pt") as file:
            header = (file.metadata() or {}).get(HEADER)
        try:
            if header is not None:
                said = json.loads(header)
                return str(said["name"]), dict(said["args"])
        except (KeyError, TypeError, ValueError):
            raise self._strange() from None
        if FIRST not in self.weights:
            raise self._strange()
        last = max(int(key.split(".")[1]) for key in self.weights)
        args = {"channels": len(self.weights[FIRST]), "layers": last - 1, "norm": "batch"}
        return TAMING, args

    def _strange(self) -> ConfigError:
        return ConfigError(f"{self.file} holds no discriminator of this package")

    def args(self, wanted: Discriminator) -> dict[str, Any]:
        """The wanted ones or, where nobody wants any, those of the kept one."""
        return self.own_args if self.fits(wanted) else wanted.args

    def fits(self, wanted: Discriminator) -> bool:
        """Whether the wanted discriminator can go on from it."""
        if not self.weights or wanted.name != self.name:
            return False
        return not wanted.args or {**_defaults(self.name), **wanted.args} == self.own_args

    def load(self, network: nn.Module) -> None:
        """Into a network that it fits; `ConfigError` where its shapes are others after all."""
        try:
            network.load_state_dict(self.weights)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise ConfigError(
                f"{self.file} is no discriminator for these pixels: {reason}"
            ) from error

    def said(self, wanted: Discriminator) -> str:
        """What becomes of it, for people."""
        if not self.weights:
            return f"the discriminator is new: {self.init} keeps none"
        if self.fits(wanted):
            return f"the discriminator goes on from the one that {self.init} keeps"
        args = ", ".join(f"{name}={value}" for name, value in self.own_args.items())
        named = "" if wanted.name == self.name else f" with discriminator.name={self.name} and"
        return (
            f"the discriminator is new: {self.init} keeps a {self.name} with {args}, and would go "
            f"on from it{named} without discriminator.args, or with these"
        )


def _defaults(name: str) -> dict[str, Any]:
    """The settings of a discriminator and their defaults, but for what pixels say."""
    parameters = inspect.signature(DISCRIMINATORS[name]).parameters
    return {key: given.default for key, given in parameters.items() if key != "in_channels"}
