"""A discriminator that a converted tokenizer keeps beside its weights, to train on with."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vqtok.autoencoders.weights import stored_tensors
from vqtok.errors import ConfigError
from vqtok.obtain import DISCRIMINATOR
from vqtok.training.settings import Discriminator

__all__ = ["Kept"]

NAME = "patchgan"  # of those that `vqtok.checkpoints` keeps
FIRST = "blocks.0.0.weight"
DEFAULTS = {"channels": 64, "layers": 3, "norm": "group"}


class Kept:
    """The discriminator of the folder of a tokenizer, if it has one.

    init  what messages call the tokenizer
    """

    def __init__(self, init: str, folder: Path) -> None:
        self.init, self.file = init, folder / DISCRIMINATOR

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        """By the names of our PatchGAN; {} where there is none."""
        return dict(stored_tensors([self.file])) if self.file.is_file() else {}

    @cached_property
    def own_args(self) -> dict[str, Any]:
        """With which a PatchGAN has these weights: those that taming-transformers trains."""
        if FIRST not in self.weights:
            raise ConfigError(f"{self.file} holds no discriminator of this package")
        last = max(int(key.split(".")[1]) for key in self.weights)
        return {"channels": len(self.weights[FIRST]), "layers": last - 1, "norm": "batch"}

    def args(self, wanted: Discriminator) -> dict[str, Any]:
        """The wanted ones or, where nobody wants any, those of the kept one."""
        return self.own_args if self.fits(wanted) else wanted.args

    def fits(self, wanted: Discriminator) -> bool:
        """Whether the wanted discriminator can go on from it."""
        if not self.weights or wanted.name != NAME:
            return False
        return not wanted.args or {**DEFAULTS, **wanted.args} == self.own_args

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
        return (
            f"the discriminator is new: {self.init} keeps a {NAME} with {args}, and would go on "
            f"from it without discriminator.args, or with these"
        )
