"""What a model card tells of the training: on what, how, how good it came out, and its limits."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, TypedDict

from vqtok.quantizers import QUANTIZERS
from vqtok.training.reports.console import duration, number
from vqtok.training.reports.flat import flat_settings
from vqtok.training.settings import Data, Discriminator, Loss, Optimizer, Settings

__all__ = ["Facts", "base_name", "placeless", "tell"]

# Columns, where a run has them; ssim_gaussian11 is one of ssim.
CURVE = ("psnr", "ssim", "lpips", "usage", "perplexity")
POINTS = 10  # rows of the curve
OUTPUT = ("--output", "-o")  # whose value is where the run itself lies
PATH = re.compile(r"(?<![\w:/\\])[^\s'\"`(),;:=]*[/\\][^\s'\"`(),;]*")


class Facts(TypedDict, total=False):
    """What a run knows of itself and its settings do not say. What is not there is not told."""

    command: Sequence[str]  # as it was typed, a word each
    pictures: int  # trained on
    held_out: int  # validated on; 0 where there were none
    steps: int  # done, where that is not `settings.steps`
    precision: str  # that the networks ran in
    processes: int
    hardware: str
    seconds: float  # of the whole run
    validation: Mapping[str, float | str | None]  # its last figures
    reasons: Mapping[str, str]  # why a figure is None
    warnings: Sequence[str]  # that the run gave out; those of metrics.jsonl take their place


def tell(
    settings: Settings,
    facts: Facts,
    curve: Sequence[Mapping[str, Any]],
    latents: str,
    limits: Sequence[str] = (),
) -> str:
    """The sections of a card between its head and its fingerprint, Markdown.

    curve    lines of metrics.jsonl from validations
    latents  a paragraph on scale and shift
    limits   sentences to add to those that follow from settings and facts
    """
    settings = _placeless(settings)
    sections = {
        "How it was trained": _training(settings, facts),
        "Settings": _settings(settings),
        "How good it is": _quality(settings, facts, curve),
        "Latents": latents,
        "Where it differs from what it is named after": _listed(
            map(placeless, settings.discrepancies)
        ),
        "Known limits": _listed([*_limits(settings, facts), *limits]),
    }
    return "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items() if text)


def base_name(text: str) -> str:
    """The last part of a path of this machine; other words, `name=path` but for its path, as is.

    Two words with a slash between them, and nothing of that name here, are a name on the hub.
    """
    before, equals, value = text.rpartition("=")
    if equals:
        return f"{before}={base_name(value)}"
    parts = [part for part in re.split(r"[/\\]", text) if part]
    absolute = text[:1] in ("/", "\\", "~", ".")
    on_hub = len(parts) == 2 and not absolute and not os.path.exists(text)
    return parts[-1] if len(parts) > 1 - absolute and not on_hub else text


def placeless(text: str) -> str:
    """Words with no path of this machine among them."""
    return PATH.sub(lambda found: base_name(found[0]), text)


def _placeless(settings: Settings) -> Settings:
    """Settings that name files without the folders they lie in."""

    def bare(path: str | list[str] | None) -> str | list[str] | None:
        if isinstance(path, list):
            return [base_name(one) for one in path]
        return None if path is None else base_name(path)

    data = {name: bare(getattr(settings.data, name)) for name in ("path", "validation")}
    loss = {"lpips_weights": bare(settings.loss.lpips_weights)}
    return settings.model_copy(
        update={
            "init": bare(settings.init),
            "data": settings.data.model_copy(update=data),
            "loss": settings.loss.model_copy(update=loss),
        }
    )


# --- how it was trained -----------------------------------------------------------------------


def _training(settings: Settings, facts: Facts) -> str:
    rows = {
        "data": _data(settings.data, facts),
        "what the network saw": _views(settings.data),
        **_model(settings),
        "loss": _loss(settings.loss),
        "discriminator": _discriminator(settings.discriminator),
        "training": _steps(settings, facts),
        "optimizer": _optimizer(settings.optimizer),
        "weights": f"running mean, decay {settings.average:g}" if settings.average else "",
        "precision": f"{facts.get('precision', settings.precision)}; the codes' search in float32",
        "hardware": _hardware(facts),
        "command": f"`{_command(facts)}`" if facts.get("command") else "",
    }
    return _table(["", ""], [[name, text] for name, text in rows.items() if text])


def _data(data: Data, facts: Facts) -> str:
    names = [data.path] if isinstance(data.path, str) else data.path or []
    said = ", ".join(f"`{name}`" for name in names) or "not stated"
    unit = "clips" if data.frames > 1 else "pictures"
    if "pictures" in facts:
        said += f", {facts['pictures']:,} {unit} trained on"
    if facts.get("held_out"):
        said += f" and {facts['held_out']:,} others validated on"
    return said


def _views(data: Data) -> str:
    scale = f" times {data.scale:g}" if data.scale > 1 else ""
    said = f"{data.crop} crops of {data.size} x {data.size} pixels"
    what = "pictures"
    if data.frames > 1:
        what = "frames"
        apart = f" that are {data.stride} apart" if data.stride > 1 else ""
        said = f"{data.frames} frames{apart}, {said}"
    if data.pad:
        said += f" after {data.pad} mirrored pixels on each side"
    if data.resize == "short":
        said += f" from {what} whose short side was brought to that{scale} ({data.filter})"
    return said + (", half of them mirrored" if data.flip else "")


def _model(settings: Settings) -> dict[str, str]:
    if settings.init is not None:  # whose model it is, and settings say nothing of that
        frozen = f"; frozen: {', '.join(settings.freeze)}" if settings.freeze else ""
        return {"start": f"went on from `{settings.init}`{frozen}"}
    kind = settings.estimator or QUANTIZERS[settings.quantizer].default_estimator
    quantizer = f"quantizer `{settings.quantizer}`{_in_brackets(settings.codebook)}"
    estimator = f"estimator `{kind}`{_in_brackets(settings.estimator_args)}"
    return {
        "network": f"architecture `{settings.architecture}`",
        "codes": f"{quantizer}; {estimator}",
    }


def _in_brackets(given: Mapping[str, Any]) -> str:
    own = ", ".join(f"{name} {value}" for name, value in given.items())
    return f" ({own})" if own else ""


def _loss(loss: Loss) -> str:
    terms = {**loss.pixel, f"LPIPS ({loss.lpips_net})": loss.lpips, "entropy": loss.entropy}
    if loss.align is not None:
        terms[f"alignment with `{loss.align.teacher}`"] = loss.align.weight
    said = " + ".join(f"{weight:g} {name}" for name, weight in terms.items() if weight)
    return f"{said} + the quantizer's own" if said else "the quantizer's own"


def _discriminator(judge: Discriminator | None) -> str:
    if judge is None:
        return "none"
    adaptive = ", adaptive" if judge.adaptive else ""
    extras = {"LeCAM": judge.lecam, "R1": judge.r1, "feature matching": judge.feature_matching}
    said = f"`{judge.name}`, {judge.loss} loss, weight {judge.weight:g}{adaptive}"
    said += f", from step {judge.start:,}"
    return said + "".join(f", {name} {weight:g}" for name, weight in extras.items() if weight)


def _steps(settings: Settings, facts: Facts) -> str:
    steps = facts.get("steps", settings.steps)
    said = f"{steps:,} steps of {settings.batch_size}"
    if facts.get("pictures"):
        epochs = steps * settings.batch_size / facts["pictures"]
        said += f" ({epochs:.3g} epochs)"
    return f"{said}, seed {settings.seed}"


def _optimizer(optimizer: Optimizer) -> str:
    betas = " and ".join(f"{beta:g}" for beta in optimizer.betas)
    said = f"{optimizer.name}, rate {optimizer.lr:g} ({optimizer.schedule}"
    said += f" to {optimizer.end:g} of it" if optimizer.schedule != "constant" else ""
    said += f", {optimizer.warm_up:,} steps of warm-up" if optimizer.warm_up else ""
    said += f"), betas {betas}"
    said += f", weight decay {optimizer.weight_decay:g}" if optimizer.weight_decay else ""
    clip = optimizer.clip_norm
    return said + (f", gradients clipped to a norm of {clip:g}" if clip else "")


def _hardware(facts: Facts) -> str:
    parts = [facts.get("hardware", "")]
    if facts.get("processes", 1) > 1:
        parts.append(f"{facts['processes']} processes")
    if "seconds" in facts:
        parts.append(duration(facts["seconds"]))
    return ", ".join(part for part in parts if part)


def _command(facts: Facts) -> str:
    words = facts["command"]
    before = ("", *words)
    return shlex.join(
        word if option in OUTPUT and _is_inside(word) else base_name(word)
        for option, word in zip(before, words, strict=False)
    )


def _is_inside(path: str) -> bool:
    """Whether a path goes down from where the command was typed, and so says nothing of above."""
    parts = PurePath(path).parts
    return bool(parts) and not PurePath(path).is_absolute() and not {"..", "~"} & {*parts}


def _settings(settings: Settings) -> str:
    own = flat_settings(settings, defaults=False)
    own.pop("discrepancies", None)
    if not own:
        return ""
    # As YAML has them: true, not True.
    lines = [f"{n}={v if isinstance(v, str) else json.dumps(v)}" for n, v in own.items()]
    return "\n".join(["Those that are not the default:", "", "```", *lines, "```"])


# --- how good it is, and where it is not ---------------------------------------------------------


def _quality(settings: Settings, facts: Facts, curve: Sequence[Mapping[str, Any]]) -> str:
    final = facts.get("validation", {})
    if not final and not curve:
        return "Not measured."
    side = settings.data.size
    where = f"On {_held_out(settings, facts)}, {side} x {side} centre crops."
    reasons = facts.get("reasons", {})
    rows = [[f"`{name}`", _shown(value, reasons.get(name))] for name, value in final.items()]
    parts = [where, _table(["figure", ""], rows) if rows else "", _curve(curve)]
    return "\n\n".join(part for part in parts if part)


def _held_out(settings: Settings, facts: Facts) -> str:
    unit = "clips" if settings.data.frames > 1 else "pictures"
    if "held_out" not in facts:
        return f"the {unit} of the validation"
    if not facts["held_out"]:
        return f"{unit} that it was trained on"
    return f"{facts['held_out']:,} {unit} that it was not trained on"


def _curve(curve: Sequence[Mapping[str, Any]]) -> str:
    """A table of some of the validations, from the first to the last."""
    if len(curve) < 2:
        return ""
    last = len(curve) - 1
    chosen = sorted({round(last * row / (POINTS - 1)) for row in range(POINTS)})
    known = dict.fromkeys(name for line in curve for name in line if line[name] is not None)
    names = [n for start in CURVE for n in known if n == start or n.startswith(f"{start}_")]
    rows = [
        [f"{curve[row]['step']:,}", *(_shown(curve[row].get(name)) for name in names)]
        for row in chosen
    ]
    return "How it came there:\n\n" + _table(["step", *(f"`{name}`" for name in names)], rows)


def _shown(value: float | str | None, reason: str | None = None) -> str:
    if isinstance(value, str):
        return placeless(value)
    if value is None:
        return f"not measured: {placeless(reason)}" if reason else "not measured"
    return f"{value:,}" if isinstance(value, int) else number(value)


def _limits(settings: Settings, facts: Facts) -> list[str]:
    side, loss = settings.data.size, settings.loss
    one, many = ("clip", "clips") if settings.data.frames > 1 else ("picture", "pictures")
    steps, count = facts.get("steps", settings.steps), facts.get("pictures", 0)
    said = [
        "It was trained once, with one seed: differences to another run that are as small as those "
        "between two seeds mean nothing.",
        f"It knows what its data show, at {side} x {side} pixels; other subjects and sizes were "
        "not measured.",
    ]
    if not loss.lpips and settings.discriminator is None:
        said.append(
            "No perceptual loss and no discriminator took part: fine texture comes out blurred."
        )
    if count and steps * settings.batch_size < count:
        said.append(f"It has not seen each {one} of its data once.")
    if facts.get("held_out") == 0:
        said.append(f"Nothing was held out: how well it does on new {many} is not known.")
    if settings.data.resize == "none":
        said.append(
            f"It was trained on cut-outs of {many} in their own size; as a tokenizer it brings "
            "them to its size first."
        )
    return [*said, *(f"The run warned: {placeless(w)}" for w in facts.get("warnings", ()))]


# --- Markdown ---------------------------------------------------------------------------------


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in lines)


def _listed(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)
