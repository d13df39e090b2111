"""An evaluation for people and for files: a table, and where its figures come from."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

import torch

from vqtok.evaluation.parts import SPLITS
from vqtok.metrics.usage import BATCH, WINDOW

__all__ = ["SCHEMA", "device_name", "table", "versions"]

SCHEMA = "vqtok-eval/1"

# label, and how the figure is written
LABELS = {
    "psnr": ("PSNR, mean over {unit}", "{:.2f} dB"),
    "psnr_of_mean_mse": ("PSNR of the mean error", "{:.2f} dB"),
    "ssim_uniform7": ("SSIM, uniform 7 x 7", "{:.4f}"),
    "ssim_gaussian11": ("SSIM, gaussian 11 x 11", "{:.4f}"),
    "lpips_vgg": ("LPIPS, VGG", "{:.4f}"),
    "lpips_alex": ("LPIPS, Alex", "{:.4f}"),
    "rfid": ("{rfid}", "{:.3f}"),
    "ris": (f"{{ris}}, mean of {SPLITS} splits", "{:.2f}"),
    "ris_deviation": ("{ris}, deviation of the splits", "{:.2f}"),
    "rfvd": ("{rfvd}", "{:.2f}"),
    "bits_per_pixel": ("bits per pixel", "{:.4f}"),
}
USAGE = {
    "whole": ("codes used in the whole set", "{:.2%}"),
    f"per_batch_of_{BATCH}": (f"codes used per batch of {BATCH}", "{:.2%}"),
    f"window_of_{WINDOW}": (f"codes used in the last {WINDOW:,} tokens", "{:.2%}"),
    "perplexity": ("perplexity", "{:.1f}"),
}
QUANTIZATION = {
    "error": ("|e - q|²", "{:.4g}"),
    "mean_squared_error": ("|e - q|² a coordinate", "{:.4g}"),
    "relative_error": ("|e - q|² / variance of e", "{:.4f}"),
    "e_norm": ("|e|", "{:.4g}"),
    "q_norm": ("|q|", "{:.4g}"),
    "angle": ("angle of e and q", "{:.2f}°"),
    "obtuse": ("obtuse angles", "{:.2%}"),
    "scale_p05": ("|q| / |e|, 5th percentile", "{:.3f}"),
    "scale_p50": ("|q| / |e|, median", "{:.3f}"),
    "scale_p95": ("|q| / |e|, 95th percentile", "{:.3f}"),
}
NONE = "-"


def table(result: Mapping[str, Any]) -> list[str]:
    """What `Evaluation.result` gave, as lines; below them, why figures could not be had."""
    rows = list(_rows(result))
    width = max(len(label) for label, _ in rows)
    below: dict[str, list[str]] = {}
    for name, text in [*result["reasons"].items(), *result["notes"].items()]:
        below.setdefault(text, []).append(name)
    return [
        *(f"{label:<{width}}  {text}" for label, text in rows),
        *(f"{', '.join(names)}: {text}" for text, names in below.items()),
    ]


def versions() -> dict[str, str]:
    """Of what figures depend on."""
    from vqtok import __version__

    others = {name: version(name) for name in ("torch", "numpy", "pillow")}
    return {"vqtok": __version__, "python": sys.version.split()[0], **others}


def device_name(device: torch.device) -> str:
    """Its type, and of a GPU the model."""
    if device.type != "cuda":
        return device.type
    return f"cuda ({torch.cuda.get_device_name(device)})"


def _rows(result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    metrics, unit = result["metrics"], next(iter(result["counts"]))
    for kind, count in result["counts"].items():
        yield kind, f"{count:,}"
    for key, (label, form) in LABELS.items():
        if key in metrics:
            yield label.format(unit=unit, **result["names"]), _text(metrics[key], form)
    books = metrics.get("usage") or []
    for at, book in enumerate(books, 1):
        prefix = f"codebook {at}: " if len(books) > 1 else ""
        yield from (
            (prefix + label, _text(book[key], form)) for key, (label, form) in USAGE.items()
        )
    errors = metrics.get("quantization") or {}
    for key, value in errors.items():
        label, form = QUANTIZATION[key]
        yield label, _text(value, form)


def _text(value: float | None, form: str) -> str:
    return NONE if value is None else form.format(value)
