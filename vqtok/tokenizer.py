"""`VisualTokenizer`: pictures to ids and back, called like a text tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from vqtok.backends import FolderCodec, LocalCodec, Parts, Place, check_parts, load, parts_of
from vqtok.contents import ONNX, check_place
from vqtok.errors import CodesError, InputError
from vqtok.extras import require
from vqtok.grid_codes import GridCodes
from vqtok.hub import push_folder
from vqtok.precision import check_precision
from vqtok.preprocess import Preprocess
from vqtok.prints import of_settings
from vqtok.sequences import (
    OutputType,
    as_rows,
    check_output_type,
    check_padding,
    pad,
    padded_length,
    table,
)
from vqtok.token_ids import Grid
from vqtok.types import Codec, Fingerprint
from vqtok.vocab import VisualVocab

if TYPE_CHECKING:
    import os

    import torch
    from transformers import BatchFeature

    from vqtok.autoencoders import AutoencoderBase
    from vqtok.backends import Backend

__all__ = ["VisualTokenizer"]

INT8 = "int8"  # which graphs may be in, and no weights


class VisualTokenizer(GridCodes):
    """A preprocessing rule, a codec, and the place of its codes in a vocabulary.

    `tok(images)` gives ids as a text tokenizer does; `tok.decode(ids)` needs nothing else, for rows
    of the grid end with an id of their own. `encode_codes` and `decode_codes` speak grids of codes.

    batch_size     pictures of one size that go through the model together
    conversion     what the conversion.json of its folder says, where another project's checkpoint
                   is behind it; `save_pretrained` writes it again
    discriminator  the file that training goes on from, where its folder has one; `save_pretrained`
                   copies it
    """

    def __init__(
        self, codec: Codec, settings: Preprocess, vocab: VisualVocab, *, batch_size: int = 16
    ) -> None:
        self.codec = codec
        self.settings = settings
        self.vocab = vocab
        self.batch_size = batch_size
        self.conversion: dict[str, Any] | None = None
        self.discriminator: Path | None = None

    # --- folders and hubs -------------------------------------------------------------------

    @classmethod
    def from_model(
        cls,
        model: AutoencoderBase,
        settings: Preprocess | None = None,
        vocab: VisualVocab | None = None,
        *,
        precision: str = "ieee32",
    ) -> VisualTokenizer:
        """A tokenizer around a model in memory, as its weights are now; puts it in eval mode.

        Without `settings`, pictures keep their size and are cut to a multiple of the stride, or
        come to the one size that the model takes. A model that is trained on afterwards is another
        tokenizer: make a new one.
        """
        from vqtok import fingerprint
        from vqtok.folders import plain_settings

        settings = settings or plain_settings(model)
        found = fingerprint.of_model(model, settings)
        return cls._of(parts_of(model, found, settings, vocab, precision))

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str],
        *,
        device: str | torch.device | None = None,
        precision: str | None = None,
        backend: str | Backend = "auto",
        variant: str | None = None,
        revision: str | None = None,
        subfolder: str | None = None,
        token: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        filename: str | None = None,
        family: str | None = None,
        config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    ) -> VisualTokenizer:
        """From a folder, the name of a tokenizer in the package, or `org/name` on the hub.

        Also from another project's checkpoint: its file, a name such as "llamagen-vq16", or
        `org/name` with `filename`. It is converted at first, and kept; see `vqtok.obtain` for
        `family` and `config`.

        device     without one torch loads to the CPU; ONNX Runtime takes a GPU that it can use
        precision  by default that of the folder, for torch "ieee32". Another is faster on a GPU and
                   changes some ids
        backend    "torch", "onnx" for what `vqtok export` wrote, or a `vqtok.backends.Backend` such
                   as `vqtok.export.runtime.OnnxBackend(threads=4)`; by default what the folder
                   is for. A folder of ONNX graphs runs without torch
        """
        if precision not in (None, INT8):
            check_precision(precision)
        options = revision, subfolder, variant, token, cache_dir, local_files_only
        place = Place(name, *options, filename, family, config)
        return cls._of(load(place, backend, device, precision))

    @classmethod
    def _of(cls, parts: Parts) -> VisualTokenizer:
        made = cls(parts.codec, parts.settings, parts.vocab)
        made.conversion, made.discriminator = parts.conversion, parts.discriminator
        return made

    def save_pretrained(
        self,
        folder: str | os.PathLike[str],
        *,
        variant: str | None = None,
        max_shard_size: int | str = "10GB",
    ) -> None:
        """Writes a folder that vqtok, diffusers and transformers load.

        A README.md that is there already is kept. The vocabulary is saved with its offset; a text
        tokenizer that it was attached to is not. On ONNX Runtime it is a copy of the graphs and
        what lies beside them; those name the preprocessing, which has to be as it was. Weights are
        not saved over graphs, nor graphs over weights: a `LoadError`.
        """
        if isinstance(self.codec, FolderCodec):
            check_place(Path(folder), ONNX)
            self.codec.save(Path(folder), self.vocab, variant)
            return
        check_place(Path(folder), "vqtok")
        from vqtok.folders import save

        save(self, Path(folder), variant, max_shard_size)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        token: str | None = None,
        private: bool | None = None,
        commit_message: str | None = None,
    ) -> str:
        """Uploads what `save_pretrained` writes to `org/name`, and returns its address."""
        import tempfile

        from vqtok.card import HERE

        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            card = Path(folder) / "README.md"
            if card.is_file():  # which a folder of graphs may have lost
                text = card.read_text(encoding="utf-8").replace(f'"{HERE}"', f'"{repo_id}"')
                card.write_text(text, encoding="utf-8")
            return push_folder(
                Path(folder), repo_id, token=token, private=private, commit_message=commit_message
            )

    def with_preprocess(self, **changes: Any) -> VisualTokenizer:
        """The same tokenizer with other preprocessing, as in `tok.with_preprocess(size=512)`.

        Its ids for a picture, and so its fingerprint, are others; the codebook is the same. Both
        have one model, or the sessions of one folder of graphs, which lie in memory once. `to` of
        one moves the model of torch for both; of graphs, the sessions of that one alone.
        """
        codec, settings = self._local_codec(), self.settings.changed(**changes)
        check_parts(codec.traits, settings, self.vocab)
        found = replace(self.fingerprint, preprocess=of_settings(settings))
        other = type(self)(codec.with_fingerprint(found), settings, self.vocab)
        other.batch_size = self.batch_size
        other.conversion, other.discriminator = self.conversion, self.discriminator
        return other

    # --- what it is -------------------------------------------------------------------------

    @property
    def fingerprint(self) -> Fingerprint:
        """What makes its ids, and what decodes them."""
        return self.codec.fingerprint

    @property
    def precision(self) -> str:
        """The arithmetic that ids are made with: ieee32, tf32, bf16 or fp16."""
        return self.codec.precision

    @property
    def device(self) -> torch.device | str:
        """Where the model is; on ONNX Runtime as text, such as "cpu" or "cuda:0"."""
        return self.codec.device

    def to(self, device: str | torch.device) -> VisualTokenizer:
        """Moves the model, and returns this tokenizer."""
        self._local_codec().to(device)
        return self

    def _local_codec(self) -> LocalCodec:
        if not isinstance(self.codec, LocalCodec):
            raise InputError(
                f"this tokenizer runs on {type(self.codec).__name__}, whose model is not here"
            )
        return self.codec

    def __repr__(self) -> str:
        return f"VisualTokenizer({self.fingerprint}, {self.codebook_size} codes, {self.precision})"

    # --- flat ids ------------------------------------------------------------------------------

    def __call__(
        self,
        images: Any,
        *,
        add_special_tokens: bool = True,
        padding: bool | Literal["longest", "max_length"] = True,
        padding_side: Literal["left", "right"] = "right",
        max_length: int | None = None,
        return_tensors: Literal["pt", "np"] | None = None,
    ) -> BatchFeature:
        """Pictures -> input_ids and attention_mask (N, L), and image_grid_thw (N, 3), all int64.

        Without `return_tensors` they are lists of lists. Nothing is ever cut: a picture that takes
        more than `max_length` ids is an error. The grid of a picture is (1, h, w), of several
        scales the finest; that of another sequence of codes (1, 1, L).
        """
        batch = require("transformers", "transformers", "ids of several pictures are held together")
        check_padding(padding, padding_side, max_length, return_tensors)
        found = self.encode_images(images)
        grids = [codes.ids[0] for codes in found]
        rows = [self.vocab.flatten(grid, special=add_special_tokens) for grid in grids]
        length = padded_length([len(row) for row in rows], padding, max_length, return_tensors)
        ids = [pad(row, length, self.pad_token_id, padding_side) for row in rows]
        mask = [pad(np.ones_like(row), length, 0, padding_side) for row in rows]
        shapes = [np.array((1, 1, *(codes.scales or [codes.grid])[-1])[-3:]) for codes in found]
        data = dict(zip(self.model_input_names, (ids, mask, shapes), strict=True))
        if return_tensors is None:
            return batch.BatchFeature({k: [row.tolist() for row in v] for k, v in data.items()})
        width = len(ids[0]) if ids else length or 0
        widths = (width, width, 3)
        tables = {k: table(v, w) for (k, v), w in zip(data.items(), widths, strict=True)}
        return batch.BatchFeature(tables, tensor_type=return_tensors)

    def encode(self, image: Any, *, add_special_tokens: bool = True) -> list[int]:
        """One picture -> its ids."""
        grid = self.encode_images([image])[0].ids[0]
        ids: list[int] = self.vocab.flatten(grid, special=add_special_tokens).tolist()
        return ids

    def decode(self, ids: Any, grid: Grid | None = None, *, output_type: OutputType = "pil") -> Any:
        """The ids of one picture or clip -> that picture or clip.

        They are a list, an array or a tensor (L,) on any device, padded or not. `grid`, (h, w) or
        (t, h, w), is needed only where rows do not end with an id of their own, and for codes of
        several scales where pictures have several sizes. Ids alone do not tell how many of a clip's
        last frames were repeated: those come back, too.
        """
        codes = self.vocab.unflatten(ids, self._grid(grid))
        picture: Any = self.decode_codes([codes], output_type, [grid])[0]
        return picture

    def batch_decode(
        self,
        sequences: Iterable[Any],
        grids: Iterable[Grid] | None = None,
        *,
        output_type: OutputType = "pil",
    ) -> list[Any]:
        """The ids of several pictures or clips -> those; `grids` (N, 2) or (N, 3)."""
        check_output_type(output_type)
        rows = as_rows(sequences)
        shapes = [None] * len(rows) if grids is None else list(grids)
        if len(shapes) != len(rows):
            raise CodesError(f"there are {len(rows)} sequences and {len(shapes)} grids")
        codes = []
        for index, (row, shape) in enumerate(zip(rows, shapes, strict=True)):
            try:
                codes.append(self.vocab.unflatten(row, self._grid(shape)))
            except CodesError as error:
                raise CodesError(f"sequence {index}: {error}") from None
        return self.decode_codes(codes, output_type, shapes)

    # --- language models --------------------------------------------------------------------

    def attach(self, text_tokenizer: Any, lm: Any = None) -> VisualTokenizer:
        """Moves the codes behind a text tokenizer's vocabulary, and returns this tokenizer.

        See `vqtok.attach`, which also widens `lm`, a transformers model.
        """
        from vqtok.attach import attach

        self.vocab = attach(self.vocab, text_tokenizer, lm)
        return self
