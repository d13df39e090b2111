"""What codes and latents of one tokenizer look like: all that reading a body must know of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from vqtok.types import axes_text

if TYPE_CHECKING:
    from vqtok.serve.facts import Facts

__all__ = ["Space"]


@dataclass(frozen=True)
class Space:
    """Server and client each make one, of the model's facts.

    codebook_size    K
    axes             of a grid of codes: 2 (h, w), 3 (t, h, w), 1 a sequence (L,)
    codebook         sha256 in the fingerprint; codes that name another one are refused. "": not
                     known, then any are taken
    depth            codes a token has, 0 where ids have no such axis
    video            whether it takes clips
    latent_channels  D, None where latents are not served
    latent_axes      of a grid of latents; 0: as many as codes have
    """

    codebook_size: int
    axes: int = 2
    codebook: str = ""
    depth: int = 0
    video: bool = False
    latent_channels: int | None = None
    latent_axes: int = 0

    @classmethod
    def of(cls, facts: Facts) -> Self:
        """That of a tokenizer that is served."""
        grid = facts.latent_grid
        return cls(
            facts.traits.codebook_size,
            facts.traits.axes,
            facts.fingerprint.codebook,
            facts.traits.depth,
            facts.traits.is_video,
            facts.traits.latent_channels,
            len(facts.traits.stride) if grid is None else len(grid),
        )

    @property
    def code_axes(self) -> tuple[int, ...]:
        """How many axes one picture's codes have; a clip of one frame may leave out its own."""
        whole = self.axes + bool(self.depth)
        return (whole - 1, whole) if self.video else (whole,)

    @property
    def code_shape(self) -> str:
        """For messages: (h, w)."""
        return axes_text(self.axes, self.depth)

    @property
    def vector_axes(self) -> int:
        """How many axes the latents of one picture have."""
        return 1 + (self.latent_axes or self.axes)

    @property
    def vector_shape(self) -> str:
        """For messages: (256, h, w)."""
        grid = axes_text(self.vector_axes - 1).strip("(,)")
        return f"({self.latent_channels}, {grid})"
