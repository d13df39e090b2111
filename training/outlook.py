"""What a run would be, before it begins: its model, what moves, a step, and what is missing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, TypeVar

from torch import nn

from vqtok.autoencoders import AUTOENCODERS
from vqtok.errors import VqtokError
from vqtok.fingerprint import WEIGHTS
from vqtok.quantizers.vector import tables_of
from vqtok.training.data.split import split_of
from vqtok.training.freeze import freeze
from vqtok.training.losses import GAN_LOSSES, PIXEL_LOSSES
from vqtok.training.losses.alignment import load_teacher
from vqtok.training.objective import find_lpips
from vqtok.training.parts import check_size, kept_of, make_discriminator, make_model
from vqtok.training.reports.trackers import check_trackers
from vqtok.training.settings import Settings

__all__ = ["Outlook", "outlook"]

T = TypeVar("T")


class Outlook(NamedTuple):
    """Lines on a run, and what it could not begin without."""

    facts: list[str]
    missing: list[str]


def outlook(settings: Settings) -> Outlook:
    """Builds the networks, on the CPU, and opens the data; trains nothing, writes nothing."""
    missing: list[str] = []

    def attempt(make: Callable[[], T]) -> T | None:
        try:
            return make()
        except VqtokError as error:
            missing.append(". ".join([str(error), *getattr(error, "__notes__", ())]))
            return None

    facts: list[str] = []
    model = attempt(lambda: make_model(settings))
    if model is not None:
        attempt(lambda: freeze(model, settings.freeze))
        facts += [*_model(model, settings), *_tokens(model, settings)]
    facts += attempt(lambda: _discriminator(settings)) or []
    split = attempt(lambda: split_of(settings.data))
    facts.append(_length(settings, 0 if split is None else len(split.train)))
    for check in _needs(settings):
        attempt(check)
    # What the folder of init lacks, networks and discriminator both lack.
    return Outlook(facts, list(dict.fromkeys(missing)))


def _model(model: Any, settings: Settings) -> Iterator[str]:
    sizes, moved = {}, {}
    for part, prefixes in WEIGHTS.items():
        weights = [p for name, p in model.named_parameters() if name.startswith(prefixes)]
        sizes[part] = sum(weight.numel() for weight in weights)
        moved[part] = part not in settings.freeze and any(w.requires_grad for w in weights)
    parts = ", ".join(f"{part} {_millions(size)}" for part, size in sizes.items())
    origin = settings.init or settings.architecture
    own = next(name for name in AUTOENCODERS if AUTOENCODERS[name] is type(model))
    yield f"model: {origin}, {_millions(sum(sizes.values()))} parameters ({parts})"
    if settings.init is not None:
        yield f"architecture: {own}, as the source"
    tables = tables_of(model.quantize)
    by_average = any(table.by_average for table in tables) and "codebook" not in settings.freeze
    trained = [part for part, moves in moved.items() if moves]
    if by_average:
        trained.append("codebook (by running means)")
    yield f"trained: {', '.join(trained) or 'nothing'}"
    if settings.freeze:
        yield f"stays as it is: {', '.join(settings.freeze)}"


def _tokens(model: Any, settings: Settings) -> Iterator[str]:
    data, quantizer = settings.data, model.quantize
    sides = (data.frames, data.size, data.size)[-len(model.stride) :]
    grid = model.grid_of(sides)
    tokens, depth = math.prod(grid), max(1, quantizer.depth)
    bits = tokens * depth * math.log2(quantizer.codebook_size) / math.prod(sides)
    codes = f"{quantizer.codebook_size:,} codes of {quantizer.dim} dimensions"
    yield f"tokens: {_by(grid)} for {_by(sides)} pixels, {codes}, {bits:.3g} bits a pixel"
    step = settings.batch_size * tokens
    yield (
        f"a step: {settings.batch_size} {'clips' if len(sides) > 2 else 'pictures'} in "
        f"{settings.accumulate} part{'s' * (settings.accumulate > 1)}, {step:,} tokens, "
        f"{step / quantizer.codebook_size:.3g} a code"
    )
    # Gumbel's gradient passes through its own sample.
    through = model.config.quantizer != "gumbel"
    gradient = f"{quantizer.estimator.name} {settings.estimator_args or ''}".rstrip()
    if settings.init is not None:
        yield f"codebook: {_codebook(model, gradient if through else '', settings)}"
    elif through:
        yield f"gradient: {gradient}"


def _codebook(model: Any, gradient: str, settings: Settings) -> str:
    """How a codebook that a run goes on with is trained, which the run's settings do not say."""
    args = {"commitment_weight": model.quantize.commitment_weight}
    args |= model.config.quantizer_args or {}
    said = [model.config.quantizer, *(f"{name} {value}" for name, value in args.items())]
    other = settings.estimator is not None and gradient
    if gradient and not other:
        said.append(f"gradient {gradient}")
    line = ", ".join([*said, "as the source"])
    return f"{line}; gradient {gradient}, as set" if other else line


def _discriminator(settings: Settings) -> list[str]:
    wanted = settings.discriminator
    if wanted is None:
        return []
    kept = kept_of(settings)
    network: nn.Module = make_discriminator(wanted, settings.network.get("in_channels", 3), kept)
    check_size(wanted, network, settings.data)
    size = _millions(sum(weight.numel() for weight in network.parameters()))
    facts = f"discriminator: {wanted.name}, {size} parameters, counts from step {wanted.start}"
    return [facts] if kept is None else [facts, kept.said(wanted)]


def _length(settings: Settings, samples: int) -> str:
    seen = settings.steps * settings.batch_size
    text = f"run: {settings.steps:,} steps, {seen:,} samples"
    if not samples:
        return text
    times = seen / samples
    return f"{text}: each of {samples:,} is seen {times:,.{0 if times >= 10 else 1}f} times"


def _needs(settings: Settings) -> Iterator[Callable[[], object]]:
    """What may be missing beside networks and data, each as a call that raises then."""
    loss = settings.loss
    yield partial(check_trackers, settings.trackers)
    yield from (partial(PIXEL_LOSSES.__getitem__, name) for name in loss.pixel)
    if settings.discriminator is not None:
        yield partial(GAN_LOSSES.__getitem__, settings.discriminator.loss)
    if loss.lpips:
        yield partial(find_lpips, loss)
    if loss.align is not None:
        yield partial(load_teacher, loss.align.teacher)


def _millions(number: int) -> str:
    return f"{number / 1e6:.2f} M"


def _by(sides: Any) -> str:
    return " x ".join(map(str, sides))
