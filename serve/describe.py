"""The facts of a tokenizer that somebody holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vqtok.serve.facts import UNCHECKED, Facts
from vqtok.types import code_dtype

if TYPE_CHECKING:
    from vqtok.tokenizer import VisualTokenizer

__all__ = ["describe"]


def describe(tok: VisualTokenizer, name: str, tokenizer: str, *, check: str = UNCHECKED) -> Facts:
    """The facts of a tokenizer; `check` is what its probe said.

    `ConfigError` for one whose codes have no room in 32 bits.
    """
    from vqtok import __version__

    code_dtype(tok.codebook_size)
    model = tok.model
    quantize: Any = model.quantize
    grids = _grids(tok)
    return Facts(
        name=name,
        tokenizer=tokenizer,
        version=__version__,
        fingerprint=tok.fingerprint,
        precision=tok.precision,
        preprocess=tok.settings,
        codebook_size=tok.codebook_size,
        depth=quantize.depth,
        axes=model.code_axes,
        stride=tuple(model.stride),
        only_size=model.only_size,
        grid=grids[0],
        latent_grid=grids[1],
        latent_channels=quantize.dim,
        scale_sides=tuple(quantize.scales) if tok.is_multiscale else (),
        causal=model.causal,
        window=model.window if tok.is_video else None,
        check=check,
    )


def _grids(tok: VisualTokenizer) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """Of codes and of vectors, where all pictures come to one size."""
    if tok.settings.keeps_size:
        return None, None
    frames = (tok.plan_frames(1).padded,) if tok.is_video else ()
    latents = tuple(tok.model.grid_of((*frames, *tok.settings.sides)))
    quantize = tok.model.quantize
    codes = tuple(quantize.codes_shape(latents))
    return (codes[:-1] if quantize.depth else codes), latents
