"""A tokenizer for batches of rows, as Ray Data's `map_batches` takes it. It needs no Ray itself.

ds.map_batches(TokenizerActor, fn_constructor_kwargs={"tokenizer": "photo-tiny"}, concurrency=2)

For pipelines that have pictures in their hands already. What a data set of `vqtok tokenize` has
besides (a plan, records, checksums, going on after a crash) is not here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from vqtok.backends import AUTO, check_backend
from vqtok.errors import ConfigError, InputError, VqtokError
from vqtok.offline.decode import reason_of
from vqtok.pictures import Pixels
from vqtok.preprocess import preprocess
from vqtok.types import code_dtype
from vqtok.wanted import Wanted

__all__ = ["TokenizerActor"]

COLUMNS = ("bytes", "image")


class TokenizerActor:
    """Called with columns of rows, it adds `codes`, `grid` and `error`.

    tokenizer  a name as `VisualTokenizer.from_pretrained` takes it
    device     None or "auto" for an accelerator where there is one
    precision  None for that of the tokenizer's folder
    backend    "torch", "onnx", or "auto" for what the folder is for
    batch      rows that go through the model together; one that is not full is filled with zeros,
               so that codes don't depend on how rows were handed in
    decoders   threads that decode
    """

    def __init__(
        self,
        tokenizer: str,
        *,
        device: str | None = None,
        precision: str | None = None,
        backend: str = AUTO,
        batch: int = 32,
        decoders: int = 2,
    ) -> None:
        for name, value in (("batch", batch), ("decoders", decoders)):
            if value < 1:
                raise ConfigError(f"{name} is a whole number, at least 1; got {value!r}")
        tok = Wanted(name=tokenizer, backend=check_backend(backend)).load(device, precision)
        if tok.is_video:
            raise InputError(f"rows hold pictures, and the tokenizer {tokenizer!r} takes clips")
        self._tok = tok
        self._batch = 1 if tok.settings.keeps_size else batch
        self._dtype = code_dtype(tok.codebook_size)
        self._pool = ThreadPoolExecutor(decoders, "vqtok-decode")

    def __call__(self, rows: Mapping[str, Any]) -> dict[str, Any]:
        """Columns with `bytes` of files, or `image` (arrays, or what `datasets` has) -> more.

        codes  bytes of each grid, little-endian uint16 (uint32 above 2^16 codes), as in shards:
               `np.frombuffer(codes, "<u2").reshape(grid)`
        grid   (N, axes) int32, with a last axis for several codes a token
        error  "", or why a row has no codes: then they are empty, and its grid is zeros
        """
        name = next((name for name in COLUMNS if name in rows), None)
        if name is None:
            raise InputError(f"rows have a column 'bytes' or 'image'; got {', '.join(rows)}")
        found = list(self._pool.map(self._decoded, rows[name]))
        codes, grids = [b""] * len(found), dict[int, tuple[int, ...]]()
        errors = [each if isinstance(each, str) else "" for each in found]
        for places, pixels in self._batches(found):
            try:
                ids = self._tok.codec.encode(pixels).ids[: len(places)].astype(self._dtype)
            except VqtokError as error:
                errors = [reason_of(error) if n in places else e for n, e in enumerate(errors)]
                continue
            for place, grid in zip(places, ids, strict=True):
                codes[place], grids[place] = grid.tobytes(), grid.shape
        axes = max(map(len, grids.values()), default=2)
        grid = [grids.get(place, (0,) * axes) for place in range(len(found))]
        return {
            **rows,
            "codes": np.array(codes, object),
            "grid": np.array(grid, np.int32).reshape(-1, axes),
            "error": np.array(errors, object),
        }

    def _decoded(self, source: Any) -> Pixels | str:
        """The pixels, or why there are none."""
        try:
            if isinstance(source, Mapping):
                source = source["bytes"]
            return preprocess(source, self._tok.settings, name="the picture")
        except Exception as error:  # a row may fail in any way, and costs no other
            return reason_of(error)

    def _batches(self, found: list[Pixels | str]) -> Iterator[tuple[list[int], Pixels]]:
        """Pixels of one shape with the places that they came from, filled up with zeros."""
        alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for place, pixels in enumerate(found):
            if not isinstance(pixels, str):
                alike[pixels.shape].append(place)
        for shape, places in alike.items():
            for start in range(0, len(places), self._batch):
                some = places[start : start + self._batch]
                whole = np.zeros((self._batch, *shape), np.uint8)
                whole[: len(some)] = [found[place] for place in some]
                yield some, whole
