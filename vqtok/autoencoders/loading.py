"""A model from a folder, with errors that name the file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from vqtok.autoencoders.base import AUTOENCODERS, AutoencoderBase
from vqtok.autoencoders.weights import check_readable, read_json, weight_files
from vqtok.errors import ConfigError, LoadError, VqtokError

__all__ = ["class_of", "load_model"]


def class_of(config: Mapping[str, Any]) -> type[AutoencoderBase]:
    """The class whose settings a config.json holds; `ConfigError` where there is none.

    A stock VQModel's are those of `AutoencoderVQ`.
    """
    known = {kind.__name__: kind for kind in (AUTOENCODERS[name] for name in AUTOENCODERS)}
    named = config.get("_class_name", "VQModel")
    kind = AUTOENCODERS["cnn"] if named == "VQModel" else known.get(str(named))
    if kind is None:
        raise ConfigError(
            f"these are the settings of {named!r}, which is no autoencoder of this package. "
            f"Known: {', '.join(sorted(known))}, VQModel."
        )
    return kind


def load_model(folder: Path, variant: str | None = None) -> AutoencoderBase:
    """The autoencoder of a tokenizer folder, in eval mode, float32."""
    check_readable(weight_files(folder, variant))
    config = read_json(folder / "config.json")
    try:
        kind = class_of(config)
        model = kind.from_pretrained(folder, variant=variant, use_safetensors=True)
    except VqtokError:
        raise
    except (OSError, SafetensorError, ValueError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise LoadError(f"the model in {folder} cannot be loaded: {reason}") from error
    loaded: AutoencoderBase = model.float().eval()
    return loaded
