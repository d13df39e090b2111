"""How a gradient crosses the quantizer: one file an estimator.

An estimator is called with `e` (..., D), the encoder's vectors, and `q` (..., D), the codes they
fell on, and returns what the decoder sees. It declares what callers and tests rely on:

- `value`: "q" if the result is exactly q, "other" if it is something near it;
- `grad`: "e" if a gradient reaches the encoder alone, "e,q" if it moves the codebook as well;
- `rotates`: whether the gradient is turned as e is turned onto q. Such an estimator wants a
  codebook that follows quickly, and suffers where codes and vectors point away from each other.

With `needs_loss` it must also be given `loss`, a function from vectors like `q` to the scalar loss
that is about to be propagated back; the training step has that, a lone forward has not.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from vqtok.errors import ConfigError, InputError, did_you_mean
from vqtok.registry import Registry

__all__ = ["ESTIMATORS", "Estimator", "Loss", "estimator"]

Loss = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Estimator:
    """A function (e, q, generator=, **arguments) -> z and what it promises."""

    name: str
    function: Callable[..., Tensor]
    value: Literal["q", "other"]
    grad: Literal["e", "e,q"]
    needs_loss: bool
    rotates: bool

    @property
    def arguments(self) -> list[str]:
        """The names of its own settings."""
        parameters = list(inspect.signature(self.function).parameters)[2:]
        return [name for name in parameters if name not in ("generator", "loss")]

    def check(self, arguments: dict[str, Any]) -> None:
        """Refuses settings that this estimator has not."""
        for name in arguments:
            if name not in self.arguments:
                raise ConfigError(
                    f"the estimator {self.name!r} has no setting {name!r}. "
                    f"{did_you_mean(name, self.arguments)}"
                )

    def __call__(
        self,
        e: Tensor,
        q: Tensor,
        *,
        loss: Loss | None = None,
        generator: torch.Generator | None = None,
        **arguments: Any,
    ) -> Tensor:
        """(..., D), (..., D) -> (..., D): the value and the gradient of the quantized vectors."""
        self.check(arguments)
        if e.shape != q.shape:
            raise InputError(
                f"vectors and their codes have one shape; got {tuple(e.shape)} and {tuple(q.shape)}"
            )
        if self.needs_loss:
            if loss is None:
                raise InputError(
                    f"the estimator {self.name!r} needs the loss itself: pass loss=, a function "
                    "from quantized vectors to the scalar that is propagated back"
                )
            arguments["loss"] = loss
        return self.function(e, q, generator=generator, **arguments)


ESTIMATORS: Registry[Estimator] = Registry("estimator", __name__)


def estimator(
    name: str,
    *,
    value: Literal["q", "other"] = "q",
    grad: Literal["e", "e,q"] = "e",
    needs_loss: bool = False,
    rotates: bool = False,
) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """A decorator that registers a function (e, q, *, generator, ...) as an estimator."""

    def add(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        ESTIMATORS.register(name)(Estimator(name, function, value, grad, needs_loss, rotates))
        return function

    return add
