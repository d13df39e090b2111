"""Opens data sets of tokens. Importing and reading them brings no torch.

tokens = open_tokens("OUT", expect="photo-f8")
row = tokens[0]                                     # row.codes, .grid, .label, .text, .key
sampler = tokens.sampler(seed=1)                    # shuffled, shared by ranks
loader = DataLoader(tokens, batch_size=64, sampler=sampler, collate_fn=collate, num_workers=4)
stream = tokens.stream(seed=1)                      # the same without numbers, to be resumed

Rows of Parquet are stored in groups that are read as a whole: `shuffle=True` of a DataLoader reads
one for each row, and the sampler each for many rows. Sets in npy or bin are read anywhere.
"""

from __future__ import annotations

import operator
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from vqtok.errors import ConfigError, InputError, LoadError, MismatchError, plural
from vqtok.offline.choice import Choice, choice_of
from vqtok.offline.ledger import done, read_plan, read_records
from vqtok.offline.manifest import MANIFEST, Manifest, manifest_of
from vqtok.offline.pieces import WINDOW
from vqtok.offline.rows import Row, Rows
from vqtok.offline.scaled import LookedUp, codes_of, scaled
from vqtok.offline.shelf import BLOCKS, Shelf
from vqtok.offline.store import Store, open_store
from vqtok.sources.shared import Shared
from vqtok.types import Codes, Fingerprint

if TYPE_CHECKING:
    from vqtok.offline.plan import Plan
    from vqtok.offline.sampler import TokenSampler
    from vqtok.offline.stream import TokenStream
    from vqtok.offline.tensors import TensorRows
    from vqtok.tokenizer import VisualTokenizer

__all__ = ["TokenSet", "collate", "open_tokens", "torch_dataset"]

# Bytes of memory in which the numbers of shards' chosen rows stay.
CHOSEN = 128 << 20


class TokenSet(Sequence[Row]):
    """The rows of a data set, in order: shards, samples, views; a shard's retries after it.

    A map-style data set for torch, too, with workers forked or spawned. Arrays of rows are the
    caller's own.

    plan            what the job was to make
    manifest        what it made; of an unfinished set, what is there so far
    shift_factor    latents are centred by it, and
    scaling_factor  scaled; None for a set of codes that is not read as latents
    epoch           with views="random" another one chooses other views. Set it before workers start
    """

    def __init__(
        self, shelf: Shelf, manifest: Manifest, choice: Choice, lookup: LookedUp | None, scale: bool
    ) -> None:
        self.manifest = manifest
        self.epoch = 0
        self.shift_factor: float | None = None
        self.scaling_factor: float | None = None
        self._shelf, self._choice = shelf, choice
        self._lookup, self._scale = lookup, scale
        counts = [choice.count(shelf, shard) for shard in range(len(shelf.shards))]
        self._starts = [0, *accumulate(counts)]
        self._places = Shared(CHOSEN)
        if manifest.latents is not None:
            self.shift_factor = manifest.latents.shift_factor
            self.scaling_factor = manifest.latents.scaling_factor
        elif lookup is not None:
            self.shift_factor, self.scaling_factor = lookup.shift, lookup.scaling

    @property
    def plan(self) -> Plan:
        """What the job was to make."""
        return self._shelf.plan

    @property
    def classes(self) -> list[str] | None:
        """All labels in order, as text; None where there are 10,000 or more."""
        return self.manifest.classes

    @property
    def views(self) -> list[str] | None:
        """Those that were asked for; None for all."""
        return None if self._choice.views is None else list(self._choice.views)

    @property
    def sha256(self) -> str:
        """Of the data set."""
        return self.manifest.dataset_sha256

    def __repr__(self) -> str:
        rows, samples = plural(len(self), "row"), plural(self.plan.source.samples, "sample")
        made = f"{self.plan.format}, {self.plan.tokenizer.name}"
        return f"TokenSet({self._shelf.url!r}: {rows} of {samples}, {made})"

    def __len__(self) -> int:
        return self._starts[-1]

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        try:
            index = operator.index(index)
        except TypeError:
            raise TypeError(
                f"a row is asked for by a whole number, and several by a slice; got {index!r}. "
                "For a list of numbers: [tokens[number] for number in numbers]"
            ) from None
        if not -len(self) <= index < len(self):
            raise IndexError(f"there are {len(self)} rows; asked for {index}")
        index %= len(self)
        shard = bisect_right(self._starts, index) - 1
        place = int(self._chosen(shard, self.epoch)[index - self._starts[shard]])
        return self.finished(self._shelf.row(shard, place))

    def __iter__(self) -> Iterator[Row]:
        return (self[index] for index in range(len(self)))

    def codes(self, index: int) -> Codes:
        """The codes of one row, a batch of one, that know which codebook made them."""
        return codes_of(self[index], self.plan)

    def stream(
        self,
        *,
        shuffle: bool = True,
        seed: int = 0,
        rank: int | None = None,
        world: int | None = None,
        window: int = WINDOW,
    ) -> TokenStream:
        """The rows as a torch IterableDataset: see `vqtok.offline.stream.TokenStream`."""
        from vqtok.offline.stream import TokenStream

        return TokenStream(self, shuffle=shuffle, seed=seed, rank=rank, world=world, window=window)

    def sampler(
        self,
        *,
        seed: int = 0,
        rank: int | None = None,
        world: int | None = None,
        window: int | None = None,
    ) -> TokenSampler:
        """Shuffles for a DataLoader of these rows: see `vqtok.offline.sampler.TokenSampler`."""
        from vqtok.offline.sampler import TokenSampler

        return TokenSampler(self, seed=seed, rank=rank, world=world, window=window)

    # --- for streams and samplers -------------------------------------------------------------

    @property
    def counts(self) -> list[int]:
        """How many rows there are of each shard."""
        return [stop - start for start, stop in zip(self._starts, self._starts[1:], strict=False)]

    @property
    def rows_in_memory(self) -> int:
        """About how many chosen rows fit into half of what is kept of those read lately."""
        stored = sum(shard.rows for shard in self._shelf.shards)
        fitting = BLOCKS // 2 // self._shelf.row_bytes()
        return max(1, fitting * len(self) // max(1, stored))

    def part(self, shard: int, start: int, stop: int, epoch: int) -> Rows:
        """Some of a shard's rows, which are read at once and not kept."""
        places = self._chosen(shard, epoch)[start:stop]
        parts, at = [], 0
        if len(places) and (np.diff(places) == 1).all():
            return self._shelf.rows(shard, int(places[0]), int(places[-1]) + 1)
        while at < len(places):
            first, end = self._shelf.block(shard, int(places[at]))
            # Rows of retries lie behind others, so that places need not rise.
            outside = (places[at:] < first) | (places[at:] >= end)
            upto = at + (int(np.argmax(outside)) if outside.any() else len(outside))
            rows = self._shelf.rows(shard, first, end)
            parts.append(rows.take(places[at:upto] - first))
            at = upto
        return Rows.concat(parts)

    def finished(self, row: Row) -> Row:
        """With latents as they were asked for, and arrays of its own."""
        codes = None if row.codes is None else np.array(row.codes)
        row = row._replace(codes=codes)
        if not self._scale:
            latents = None if row.latents is None else np.array(row.latents)
            return row._replace(latents=latents)
        row = row if self._lookup is None else self._lookup(row)
        return scaled(row, self.shift_factor or 0.0, self.scaling_factor)

    # --- inside -----------------------------------------------------------------------------

    def _chosen(self, shard: int, epoch: int) -> npt.NDArray[np.int64]:
        epoch = epoch if self._choice.is_random else 0
        places: npt.NDArray[np.int64] = self._places.get(
            (shard, epoch),
            lambda: self._choice.places(self._shelf, shard, epoch),
            lambda found: found.nbytes,
        )
        return places


def open_tokens(
    path: str | os.PathLike[str],
    expect: str | VisualTokenizer | Fingerprint | None = None,
    *,
    as_latents: bool = False,
    tokenizer: str | VisualTokenizer | None = None,
    views: str | Sequence[str] | None = None,
    partial: bool = False,
    seed: int = 0,
) -> TokenSet:
    """A data set that `vqtok tokenize` made: a folder, or what fsspec reaches.

    expect      what the codes have to be of, or a `MismatchError` says which part is another; a
                name is loaded as `VisualTokenizer.from_pretrained` does. Encoder and codebook are
                compared; decoder and preprocessing may differ, and stand in `tokens.plan`
    as_latents  rows' latents are float32, (latents - shift_factor) * scaling_factor: those that
                are stored, or, of a set of codes, those that `tokenizer` looks up. Both factors
                are of all rows, whatever views are chosen; of an unfinished set, of those there
    tokenizer   for that; `expect` serves where it is one. Codes of several a token or of several
                scales are looked up by the model itself, which then goes to workers, too: load
                it with device="cpu"
    views       names of views; "random" for one view of each sample, by `seed`, epoch and key;
                None for all rows
    partial     take an unfinished set as far as it is
    """
    store = open_store(os.fspath(path))
    plan = read_plan(store)
    expected = _loaded(expect)
    if expected is not None:
        _check_print(plan, expected)
    manifest = _manifest(store, plan, partial)
    lookup = None
    if as_latents and not plan.with_latents:
        lookup = LookedUp(plan, _tokenizer_for_lookup(tokenizer, expected))
    elif tokenizer is not None and as_latents:
        raise ConfigError("this data set stores its latents: leave tokenizer= out")
    elif tokenizer is not None:
        raise ConfigError("tokenizer= looks up latents of codes: it goes with as_latents=True")
    shelf = Shelf(store.url, plan, manifest.parts)
    if lookup is not None:
        lookup.measure(shelf, [record.histogram for record in read_records(store)])
    return TokenSet(shelf, manifest, choice_of(plan, views, seed), lookup, as_latents)


def torch_dataset(tokens: TokenSet) -> TensorRows:
    """Rows as dicts of tensors, for a DataLoader without a `collate_fn`.

    All rows have to have the same: a caption that some lack, or grids of several shapes, want
    `collate` instead.
    """
    from vqtok.offline.tensors import TensorRows

    return TensorRows(tokens)


def collate(rows: Sequence[Row]) -> dict[str, Any]:
    """For a DataLoader: rows -> tensors of what numbers they hold, and lists of all else.

    codes are int64 (B, *grid[, Q]), latents as in the rows (B, D, *grid), label int64 (B,), flip
    bool (B,); box and size int64 tables. What some rows lack, and arrays of several shapes, are
    lists.
    """
    import torch

    batch: dict[str, Any] = {name: [getattr(row, name) for row in rows] for name in Row._fields}
    for name, kind in (("codes", torch.int64), ("latents", None)):
        arrays = batch[name]
        if all(array is not None and array.shape == arrays[0].shape for array in arrays):
            whole = np.stack(arrays)
            whole = whole if kind is None else whole.astype(np.int64)
            batch[name] = torch.from_numpy(whole)
    for name in ("label", "flip", "box", "size"):
        values = batch[name]
        if all(isinstance(value, (int, tuple)) for value in values):
            batch[name] = torch.tensor(values)
    return batch


# --- inside -------------------------------------------------------------------------------------


def _manifest(store: Store, plan: Plan, partial: bool) -> Manifest:
    if store.exists(MANIFEST):
        manifest = Manifest.from_bytes(store.get(MANIFEST), f"{store.url}/{MANIFEST}")
        if manifest.plan != plan.hash:
            raise MismatchError(
                f"the manifest of '{store.url}' is of the plan {manifest.plan[:16]}, and the plan "
                f"there is {plan.hash[:16]}"
            )
        return manifest
    if partial:
        return manifest_of(plan, read_records(store))
    raise LoadError(
        f"'{store.url}' is not finished: {len(done(store))} of {plan.shards} shards are there. "
        "Start its job again, or take what is there with partial=True"
    )


def _loaded(given: str | VisualTokenizer | Fingerprint | None) -> Any:
    if not isinstance(given, str):
        return given
    from vqtok.tokenizer import VisualTokenizer

    return VisualTokenizer.from_pretrained(given)


def _check_print(plan: Plan, expect: VisualTokenizer | Fingerprint) -> None:
    found = expect if isinstance(expect, Fingerprint) else expect.fingerprint
    planned = Fingerprint.from_dict(plan.tokenizer.fingerprint)
    other = [part for part in planned.differences(found) if part in ("encoder", "codebook")]
    if other:
        raise MismatchError(
            f"this data set was made by {plan.tokenizer.name!r}, {planned}; expected {found}: "
            f"another {' and another '.join(other)}"
        )


def _tokenizer_for_lookup(tokenizer: str | VisualTokenizer | None, expect: Any) -> VisualTokenizer:
    found = _loaded(tokenizer) if tokenizer is not None else expect
    if found is None or isinstance(found, Fingerprint):
        raise InputError(
            "this data set holds codes; to read them as latents, pass the tokenizer that made them "
            "as tokenizer="
        )
    loaded: VisualTokenizer = found
    return loaded
