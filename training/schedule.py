"""What changes along a run, as functions of the step alone: a resumed run needs no memory of it."""

from __future__ import annotations

import math

from vqtok.training.settings import Anneal, Discriminator, Optimizer

__all__ = ["annealed", "discriminator_learns", "discriminator_weight", "learning_rate"]


def learning_rate(optimizer: Optimizer, step: int, steps: int) -> float:
    """The rate of the step number `step`, from 0, in a run of `steps`."""
    warm = min(1.0, (step + 1) / optimizer.warm_up) if optimizer.warm_up else 1.0
    last = optimizer.decay_steps or steps
    done = min(1.0, max(0, step - optimizer.warm_up) / max(1, last - optimizer.warm_up))
    left = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}
    share = left[optimizer.schedule]
    return optimizer.lr * warm * (optimizer.end + (1 - optimizer.end) * share)


def discriminator_learns(settings: Discriminator, step: int) -> bool:
    """Whether the discriminator is trained at this step."""
    return step >= settings.start - settings.warm_up


def discriminator_weight(settings: Discriminator, step: int) -> float:
    """How much the discriminator's judgement counts for the autoencoder at this step."""
    if step < settings.start:
        return 0.0
    risen = (step - settings.start + 1) / settings.ramp if settings.ramp else 1.0
    return settings.weight * min(1.0, risen)


def annealed(anneal: Anneal, step: int) -> float:
    """The value at this step, along half a cosine from `start` to `end`."""
    done = min(1.0, step / anneal.steps)
    return anneal.end + (anneal.start - anneal.end) * (1 + math.cos(math.pi * done)) / 2
