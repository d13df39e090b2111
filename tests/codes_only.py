"""A codec that gives codes and pixels and nothing else, as those of ONNX Runtime do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from vqtok.frames import FramePlan
from vqtok.tokenizer import VisualTokenizer
from vqtok.traits import Traits
from vqtok.types import Codec, Codes, Fingerprint
from vqtok.verdicts import ProbeResult

Pixels = npt.NDArray[np.uint8]


class CodesOnly:
    """What a `Codec` has, of another one."""

    runs_on = "ONNX Runtime"
    device = "cpu"

    def __init__(self, codec: Any) -> None:
        self._codec: Codec = codec
        self.moved: int | None = None  # a row of batches, one of whose ids comes out other

    @property
    def fingerprint(self) -> Fingerprint:
        return self._codec.fingerprint

    @property
    def precision(self) -> str:
        return self._codec.precision

    @property
    def traits(self) -> Traits:
        return self._codec.traits

    def verify(self) -> ProbeResult:
        return ProbeResult("exact", 9, 9, latent_error=None)

    def encode(self, pixels: Pixels) -> Codes:
        codes = self._codec.encode(pixels)
        if self.moved is not None:
            codes.ids[self.moved].flat[0] ^= 1
        return codes

    def decode(self, codes: Codes) -> Pixels:
        return self._codec.decode(codes)


class ClipCodesOnly(CodesOnly):
    """What a `ClipCodec` has."""

    _codec: Any

    def plan_frames(self, count: int) -> FramePlan:
        return self.traits.plan_frames(count)

    def encode_frames(self, frames: Iterable[Pixels], size: tuple[int, int]) -> Codes:
        codes: Codes = self._codec.encode_frames(frames, size)
        return codes

    def decode_frames(self, codes: Codes) -> Iterator[Pixels]:
        frames: Iterator[Pixels] = self._codec.decode_frames(codes)
        return frames


def codes_only(tok: VisualTokenizer) -> VisualTokenizer:
    """The same tokenizer without latents, vectors and a model."""
    codec = (ClipCodesOnly if tok.is_video else CodesOnly)(tok.codec)
    return VisualTokenizer(codec, tok.settings, tok.vocab)
