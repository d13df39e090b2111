"""The ids of a visual vocabulary, under the names that transformers' tokenizers have for theirs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from vqtok.sequences import parse_grid
from vqtok.vocab import VisualVocab

__all__ = ["Grid", "TokenIds"]

Grid = Sequence[int]


class TokenIds:
    """What a tokenizer can say by its vocabulary alone."""

    model_input_names = ("input_ids", "attention_mask", "image_grid_thw")
    vocab: VisualVocab

    @property
    def grid_axes(self) -> int:
        """Axes of a grid: 2 for pictures (h, w), 3 for clips (t, h, w), 1 for a sequence (L,)."""
        return 1 if self.vocab.is_flat else 2

    @property
    def codebook_size(self) -> int:
        """K, the number of codes."""
        return self.vocab.codebook_size

    @property
    def vocab_size(self) -> int:
        """The smallest vocabulary that holds every id."""
        return self.vocab.size

    @property
    def offset(self) -> int:
        """The id of code 0."""
        return self.vocab.offset

    @property
    def boi_token_id(self) -> int:
        """Begins a picture."""
        return self.vocab.boi

    @property
    def eoi_token_id(self) -> int:
        """Ends a picture."""
        return self.vocab.eoi

    @property
    def eol_token_id(self) -> int:
        """Ends a row of a picture's grid."""
        return self.vocab.eol

    @property
    def eof_token_id(self) -> int:
        """Ends a frame of a clip."""
        return self.vocab.eof

    @property
    def pad_token_id(self) -> int:
        """Fills shorter rows of a batch."""
        return self.vocab.pad

    def __len__(self) -> int:
        return self.vocab.size

    def prefix_allowed_tokens_fn(
        self, grid: Grid, prompt_length: int
    ) -> Callable[[int, Any], list[int]]:
        """For `generate`: lets a model write one picture or clip of `grid` after the prompt.

        All prompts of a batch are `prompt_length` ids long, so pad them on the left.
        """
        shape = parse_grid(grid, self.grid_axes)

        def allowed(batch: int, ids: Any) -> list[int]:
            return list(self.vocab.allowed_next(ids[prompt_length:], shape))

        return allowed
