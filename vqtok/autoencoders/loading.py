"""A model from a folder, with errors that name the file."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError

from vqtok.autoencoders.image import AutoencoderVQ
from vqtok.autoencoders.weights import check_readable, weight_files
from vqtok.errors import LoadError, VqtokError

__all__ = ["load_model"]


def load_model(folder: Path, variant: str | None = None) -> AutoencoderVQ:
    """The autoencoder of a tokenizer folder, in eval mode, float32."""
    check_readable(weight_files(folder, variant))
    try:
        model = AutoencoderVQ.from_pretrained(folder, variant=variant, use_safetensors=True)
    except VqtokError:
        raise
    except (OSError, SafetensorError, ValueError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise LoadError(f"the model in {folder} cannot be loaded: {reason}") from error
    loaded: AutoencoderVQ = model.float().eval()
    return loaded
