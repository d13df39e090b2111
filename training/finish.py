"""From a trained model to `RUN/tokenizer`: a folder that loads, and a card that says what it is."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vqtok import card
from vqtok.checkpoints.report import SCHEMA
from vqtok.errors import InputError, LoadError
from vqtok.folders import read_report, settings_of, unstarted
from vqtok.hub import of_run
from vqtok.obtain import obtain
from vqtok.preprocess import Preprocess
from vqtok.tokenizer import VisualTokenizer
from vqtok.training.reports.metrics import FILE, read_metrics
from vqtok.training.reports.story import Facts, placeless, tell
from vqtok.training.settings import Settings

__all__ = ["FOLDER", "LatentSums", "finish"]

FOLDER = "tokenizer"


@dataclass
class LatentSums:
    """Mean and deviation of all numbers of latents that come in parts, over channels and places.

    Latents are those that `encode` returns, before quantization: what a diffusion model is trained
    on. Sums are float64, and those of several processes add up: `tensors` is to be all-reduced.
    """

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, latents: Tensor) -> None:
        """Takes in latents of any shape."""
        wide = latents.detach().cpu().double()
        self.count += wide.numel()
        self.total += float(wide.sum())
        self.squares += float(wide.square().sum())

    def tensors(self) -> Tensor:
        """(3,) float64: count, sum, sum of squares."""
        return torch.tensor([self.count, self.total, self.squares], dtype=torch.float64)

    @classmethod
    def from_tensors(cls, sums: Tensor) -> LatentSums:
        """The inverse of `tensors`."""
        count, total, squares = sums.tolist()
        return cls(round(count), total, squares)

    @property
    def mean(self) -> float:
        """The mean, NaN of nothing."""
        return self.total / self.count if self.count else math.nan

    @property
    def deviation(self) -> float:
        """The standard deviation, NaN of nothing."""
        if not self.count:
            return math.nan
        # In this order NaN stays NaN.
        return math.sqrt(max(self.squares / self.count - self.mean**2, 0.0))


def finish(
    model: Any,
    settings: Settings,
    run_dir: Path,
    *,
    latents: LatentSums,
    facts: Facts,
    force: bool = False,
    keep: Callable[[Path], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> Path:
    """Writes `run_dir/tokenizer`, in the place of one that is there, and returns its path.

    `model.config` gets the scale and the shift of its latents, but with encoder and codebook frozen
    keeps those it came with. The folder is a tokenizer's, that
    brings pictures or frames to `settings.data.size`. Without `force`, a codebook that has not
    started and latents without a spread are an `InputError`. `keep` writes what else is to be in
    the folder: a discriminator. `say` gets a line on the scale that a tokenizer came with.
    """
    limits = _faults(model, latents)
    if limits and not force:
        raise InputError(f"this model is no tokenizer yet. {' '.join(limits)}")
    rescaled = _rescale(model, settings, latents)
    if rescaled and say is not None:
        say(rescaled)
    metrics = run_dir / FILE
    lines = read_metrics(metrics) if metrics.is_file() else []
    curve = [line for line in lines if line["kind"] == "validation"]
    # The last of each kind, and those from before a resume as well.
    warned = {line["event"]: line["message"] for line in lines if "message" in line}
    if warned:
        facts = {**facts, "warnings": list(warned.values())}
    about = _about(latents, facts, rescaled, kept=_keeps_ids(settings))
    story = tell(settings, facts, curve, about, limits)
    return _write(model, settings, run_dir / FOLDER, story, keep)


def _faults(model: Any, latents: LatentSums) -> list[str]:
    """What keeps a model from being a tokenizer, in sentences."""
    found = []
    left = unstarted(model)
    if left:
        found.append(
            f"Its codebook has not started: that takes {left} more optimizer steps, and until then "
            "the network was trained without codes."
        )
    if not _has_spread(latents):
        found.append(
            f"Its latents have no spread to be scaled by: over {latents.count:,} numbers the mean "
            f"is {latents.mean:g} and the standard deviation {latents.deviation:g}."
        )
    return found


def _has_spread(latents: LatentSums) -> bool:
    # Under the rounding of the sums a deviation is noise.
    least = 1e-6 * abs(latents.mean)
    return math.isfinite(latents.deviation) and latents.deviation > least


def _keeps_ids(settings: Settings) -> bool:
    """Whether ids and latents stay those of the tokenizer that the run began with."""
    return settings.init is not None and {"encoder", "codebook"} <= set(settings.freeze)


def _rescale(model: Any, settings: Settings, latents: LatentSums) -> str:
    """Names scale and shift in the configuration; of one that had others, a sentence on both.

    Latents that stay what they were keep theirs: models that were trained on them count on it.
    """
    before = _scaling(model)
    if _keeps_ids(settings):
        return (
            f"Encoder and codebook are frozen, so the latents keep the {before} of what it went "
            "on from."
        )
    if not _has_spread(latents):
        return ""
    model.register_to_config(scaling_factor=1 / latents.deviation, shift_factor=latents.mean)
    if settings.init is None:
        return ""
    return (
        f"The latents are measured anew: {_scaling(model)}; what it went on from has {before}, so "
        "a model that was trained on its latents does not fit these."
    )


def _scaling(model: Any) -> str:
    config = model.config
    scale, shift = config.scaling_factor, config.shift_factor or 0
    return f"scaling_factor {scale:.6g} and shift_factor {shift:.6g}"


def _about(latents: LatentSums, facts: Facts, rescaled: str, *, kept: bool) -> str:
    """A paragraph on what scale and shift are, for people who train on latents."""
    if not _has_spread(latents):
        return f"Not measured. {rescaled}".rstrip()
    source = "held-out" if facts.get("held_out") else "training"
    measured = (
        f"What `encode` returns, before quantization, has the mean {latents.mean:.4g} and the "
        f"standard deviation {latents.deviation:.4g}, over {latents.count:,} numbers of the "
        f"{source} data."
    )
    if kept:
        return f"{measured} {rescaled}"
    return (
        f"{measured} The configuration names them as diffusers does: `(z - shift_factor) * "
        "scaling_factor` has mean 0 and deviation 1, and `decode(z / scaling_factor + "
        f"shift_factor)` takes such numbers back to pixels, through the codebook. {rescaled}"
    ).rstrip()


def _write(
    model: Any,
    settings: Settings,
    folder: Path,
    story: str,
    keep: Callable[[Path], None] | None,
) -> Path:
    """The folder beside its place first: a kill leaves the old one, the new one, or none there."""
    beside = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    training = model.training
    _save(model.eval(), settings, beside, story)
    if keep is not None:
        keep(beside)
    model.train(training)
    shutil.rmtree(folder, ignore_errors=True)
    return beside.rename(folder)


def _rule(model: Any, settings: Settings) -> Preprocess:
    """How the tokenizer prepares pictures: at the size it was trained on.

    With encoder and codebook frozen, as the tokenizer did that the run began with: else the same
    picture would have other ids.
    """
    if settings.init is not None and _keeps_ids(settings):
        return settings_of(obtain(of_run(settings.init)).path, model)
    stride = model.spatial_compression_ratio
    return Preprocess(policy="center", size=settings.data.size, stride=stride)


def _derived(settings: Settings) -> tuple[dict[str, Any] | None, str]:
    """What is carried on of the checkpoint that the run began with, and a sentence on it.

    A run that went on from a fine-tuned one names what that went on from.
    """
    if settings.init is None:
        return None, ""
    try:
        report = read_report(obtain(of_run(settings.init)).path)
    except LoadError as error:
        # Hours of training are not lost for a note.
        why = placeless(str(error))
        return None, f"What it went on from could not be read again for its licence: {why}.\n\n"
    if not report:
        return None, ""
    origin = report.get("derived_from", report)
    kept = {name: origin[name] for name in ("family", "title", "licence", "source")}
    return {"schema": SCHEMA, "derived_from": kept}, f"{card.derived(kept)}\n\n"


def _save(model: Any, settings: Settings, folder: Path, story: str) -> None:
    tok = VisualTokenizer.from_model(model, _rule(model, settings))
    tok.conversion, origin = _derived(settings)
    tok.save_pretrained(folder)
    text = card.model_card(tok, title=settings.name, story=origin + story)
    (folder / "README.md").write_text(text, encoding="utf-8")
