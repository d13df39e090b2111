"""What a file is that is of no family, where its keys tell."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from vqtok.checkpoints.vector_quantize_pytorch import places

__all__ = ["stranger"]

# What codes are called by those who have some.
CODES = ("quantiz", "codebook", "embedding", "vq.")
BEFORE, BEHIND = "encoder.conv_out.weight", "decoder.conv_in.weight"


def stranger(tensors: Mapping[str, Tensor]) -> str | None:
    """A clause on what these tensors are, to stand behind a file's name; None if nothing tells."""
    found = places(tensors)
    if found:
        return (
            f"is of no family that is known, and holds a codebook of vector-quantize-pytorch under "
            f"{found[0]!r}: vqtok.checkpoints.vector_quantize_pytorch.codebook(FILE, "
            f"prefix={found[0]!r}) makes a quantizer of that"
        )
    if _is_continuous(tensors):
        return (
            "is a continuous autoencoder (AutoencoderKL of diffusers, or a KL first stage of "
            "latent diffusion): its latents are a mean and a variance, and it has no codes to make "
            "a tokenizer of"
        )
    return None


def _is_continuous(tensors: Mapping[str, Tensor]) -> bool:
    """Whether an encoder puts out twice what the decoder takes, and nothing is called codes."""
    if not {BEFORE, BEHIND} <= tensors.keys() or any(_is_code(key) for key in tensors):
        return False
    before, behind = tensors[BEFORE], tensors[BEHIND]
    return before.ndim > 1 and behind.ndim > 1 and before.shape[0] == 2 * behind.shape[1]


def _is_code(key: str) -> bool:
    return not key.startswith("discriminator.") and any(name in key for name in CODES)
