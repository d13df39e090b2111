"""A server's model where a codec is asked for: pixels that are preprocessed already, and codes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vqtok.errors import ImageError, InputError
from vqtok.frames import FramePlan
from vqtok.geometry import geometry
from vqtok.pictures import Pixels
from vqtok.serve.facts import Facts
from vqtok.traits import Traits
from vqtok.types import Codes, Fingerprint
from vqtok.verdicts import ProbeResult

if TYPE_CHECKING:
    from vqtok.serve.client.sync import Client
    from vqtok.tokenizer import VisualTokenizer

__all__ = ["RemoteClipCodec", "RemoteCodec", "codec_of", "tokenizer_of"]


class RemoteCodec:
    """A `vqtok.types.Codec` over a client, which stays its caller's to close."""

    runs_on = "a server"
    AXES = 2
    WHAT = "pictures is a uint8 array of the shape (N, H, W, 3)"

    def __init__(self, client: Client, facts: Facts) -> None:
        self._client = client
        self.facts = facts

    @property
    def fingerprint(self) -> Fingerprint:
        """See `Encoder.fingerprint`."""
        return self.facts.fingerprint

    @property
    def precision(self) -> str:
        """See `Encoder.precision`."""
        return self.facts.precision

    @property
    def traits(self) -> Traits:
        """See `Codec.traits`."""
        return self.facts.traits

    @property
    def device(self) -> str:
        """The server's address."""
        return self._client.url

    def verify(self) -> ProbeResult:
        """What came of it when the server started, which starts with no tokenizer that is refused.

        The server has the figures; here is the verdict.
        """
        return ProbeResult.from_summary(self.facts.check)

    def encode(self, pixels: npt.NDArray[np.uint8]) -> Codes:
        """See `Encoder.encode`."""
        self._check(pixels)
        found = self._client.encode(list(pixels))
        size = np.array(pixels.shape[1:-1], np.int32)
        return replace(_joined(found), sizes=np.tile(size, (len(found), 1)))

    def decode(self, codes: Codes) -> npt.NDArray[np.uint8]:
        """See `Codec.decode`."""
        uncut = replace(codes, sizes=np.zeros_like(codes.sizes))
        return np.stack(self._client.decode([uncut], output_type="np"))

    def _check(self, pixels: npt.NDArray[np.uint8]) -> None:
        """Raises for what the server would make other pixels of."""
        axes = 2 + self.AXES
        if (
            pixels.dtype != np.uint8
            or pixels.ndim != axes
            or pixels.shape[-1] != 3
            or not len(pixels)
        ):
            raise ImageError(f"a batch of {self.WHAT}; got {pixels.dtype} {pixels.shape}")
        height, width = pixels.shape[-3:-1]
        plan = geometry(height, width, self.facts.preprocess)
        if plan.size != (height, width) or plan.scaled != (height, width):
            raise InputError(
                f"the server's preprocessing makes {plan.size[1]} x {plan.size[0]} pixels of "
                f"{width} x {height}, so these are not preprocessed as it does it; see "
                "`client.model().preprocess`"
            )


class RemoteClipCodec(RemoteCodec):
    """A `vqtok.types.ClipCodec` over a client."""

    AXES = 3
    WHAT = "clips is a uint8 array of the shape (N, T, H, W, 3)"

    def plan_frames(self, count: int) -> FramePlan:
        """See `ClipCodec.plan_frames`."""
        return self.facts.traits.plan_frames(count)

    def encode_frames(self, frames: Iterable[Pixels], size: tuple[int, int]) -> Codes:
        """See `ClipCodec.encode_frames`."""
        codes = self._client.encode_clip(self._checked(frames))
        count = codes.sizes[0, 0]
        return replace(codes, sizes=np.array([[count, *size]], np.int32))

    def _checked(self, frames: Iterable[Pixels]) -> Iterator[Pixels]:
        count = 0
        for frame in frames:
            if not count:
                self._check(frame[None, None])
            count += 1
            yield frame
        if not count:
            raise ImageError("a clip has at least one frame; got none")

    def decode_frames(self, codes: Codes) -> Iterator[Pixels]:
        """See `ClipCodec.decode_frames`."""
        return self._client.decode_frames(codes)


def codec_of(client: Client) -> RemoteCodec:
    """The codec of a client's model."""
    facts = client.model()
    return RemoteClipCodec(client, facts) if facts.traits.is_video else RemoteCodec(client, facts)


def tokenizer_of(client: Client) -> VisualTokenizer:
    """A tokenizer over it, whose vocabulary begins with the codes."""
    from vqtok.tokenizer import VisualTokenizer
    from vqtok.vocab import VisualVocab

    facts = client.model()
    order = "sequence" if facts.traits.axes == 1 else "raster"
    vocab = VisualVocab(facts.traits.codebook_size, depth=facts.traits.depth, order=order)
    return VisualTokenizer(codec_of(client), facts.preprocess, vocab)


def _joined(codes: list[Codes]) -> Codes:
    """Batches of one and of one shape."""
    ids = np.concatenate([one.ids for one in codes])
    sizes = np.concatenate([one.sizes for one in codes])
    return replace(codes[0], ids=ids, sizes=sizes)
