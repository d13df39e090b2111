"""`vqtok info` on a file of vector-quantize-pytorch: codes without networks, so no tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vqtok import fingerprint
from vqtok.checkpoints import FAMILIES
from vqtok.checkpoints.opening import keys_of, open_checkpoint
from vqtok.checkpoints.vector_quantize_pytorch import (
    Projection,
    codebook,
    is_codebook,
    model_settings,
    projections,
)
from vqtok.errors import ConfigError, LoadError
from vqtok.quantizers import Quantizer
from vqtok.quantizers.residual import ResidualQuantizer
from vqtok.quantizers.vector import tables_of

__all__ = ["describe"]

FAMILY = "vector_quantize_pytorch"
MODULE = f"vqtok.checkpoints.{FAMILY}"


def describe(file: Path, *, prefix: str = "", heads: int | None = None) -> dict[str, object] | None:
    """What is to be said of a codebook's file; None of any other, and of what is no file.

    prefix  of the codebook's keys in the file of a larger model, such as "vq."
    heads   how many share one table, where nothing in the file tells
    """
    if not file.is_file() or not (prefix or is_codebook(keys_of(file))):
        return None
    tensors = open_checkpoint(file).tensors
    quantizer, around = _read(file, tensors, prefix, heads)
    family = FAMILIES[FAMILY]
    return {
        "file": str(file),
        "family": FAMILY,
        "what": family.title,
        "licence": family.licence,
        **_quantizer(quantizer),
        "projections": dict(zip(("in", "out"), map(_projection, around), strict=True)),
        "fingerprint": {"codebook": _print(quantizer)},
        "notes": _notes(file, prefix, heads, quantizer, tensors),
    }


def _read(
    file: Path, tensors: dict[str, Tensor], prefix: str, heads: int | None
) -> tuple[Quantizer, tuple[nn.Module, nn.Module]]:
    try:
        quantizer = codebook(tensors, prefix=prefix, heads=heads)
        return quantizer, projections(tensors, prefix=prefix)
    except (ConfigError, LoadError) as error:
        raise type(error)(f"{file}: {error}") from error
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise LoadError(
            f"{file} looks like a codebook of vector-quantize-pytorch, but its tensors do not fit "
            f"together: {type(error).__name__}: {' '.join(str(error).split())}"
        ) from error


def _quantizer(quantizer: Quantizer) -> dict[str, object]:
    parts = tables_of(quantizer)
    layered = isinstance(quantizer, ResidualQuantizer)
    return {
        "quantizer": model_settings(quantizer)["quantizer"],
        "tables": len({_bytes(part.embedding.weight) for part in parts}),
        "heads": 1 if layered else len(parts),
        "layers": quantizer.depth if layered else 1,
        "codes": quantizer.codebook_size,
        "dimensions": parts[0].dim,
        "codes_per_token": max(1, quantizer.depth),
        "compared_by": "direction" if parts[0].embedding.cosine else "distance",
        "moved_by": "average" if parts[0].by_average else "gradient",
    }


def _bytes(table: Tensor) -> bytes:
    return table.detach().contiguous().view(torch.uint8).numpy().tobytes()


def _projection(module: nn.Module) -> str:
    """A linear layer by its widths."""
    layers = [part for part in module.modules() if isinstance(part, Projection)]
    if not layers:
        return "none"
    norm = ", and a norm" if len(list(module.modules())) > 1 else ""
    return f"{layers[0].in_features} to {layers[0].out_features}{norm}"


def _print(quantizer: Quantizer) -> str:
    settings: dict[str, Any] = model_settings(quantizer)
    return fingerprint.of_codebook(quantizer, settings["quantizer"], settings["quantizer_args"])


def _notes(
    file: Path, prefix: str, heads: int | None, quantizer: Quantizer, tensors: dict[str, Tensor]
) -> list[str]:
    named = f", prefix={prefix!r}" if prefix else ""
    counted = f", heads={heads}" if heads else ""
    found = [
        "It has no encoder and no decoder, so neither convert nor from_pretrained makes a "
        f"tokenizer of it; {MODULE}.codebook({str(file)!r}{named}{counted}) makes a quantizer, and "
        "model_settings there tells what a model that takes its codes is made with."
    ]
    if not prefix:
        found.append(
            "Of a codebook inside a larger model, prefix says where: codebook(FILE, prefix='vq.')."
        )
    projected = any(key.startswith(f"{prefix}project_in.") for key in tensors)
    if heads is None and quantizer.depth == 0 and not projected:
        found.append(
            "Whether several heads share its table, nothing in it tells; heads=N says that they do."
        )
    return found
