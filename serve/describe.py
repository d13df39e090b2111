"""The facts of a tokenizer that somebody holds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vqtok.serve.facts import UNCHECKED, Facts
from vqtok.types import LatentCodec, code_dtype

if TYPE_CHECKING:
    from vqtok.tokenizer import VisualTokenizer

__all__ = ["describe"]


def describe(tok: VisualTokenizer, name: str, tokenizer: str, *, check: str = UNCHECKED) -> Facts:
    """The facts of a tokenizer; `check` is what its probe said.

    `ConfigError` for one whose codes have no room in 32 bits.
    """
    from vqtok import __version__

    code_dtype(tok.codebook_size)
    traits = tok.codec.traits
    if not isinstance(tok.codec, LatentCodec):
        traits = replace(traits, latent_channels=None)
    return Facts(
        name=name,
        tokenizer=tokenizer,
        version=__version__,
        fingerprint=tok.fingerprint,
        precision=tok.precision,
        preprocess=tok.settings,
        traits=traits,
        check=check,
    )
