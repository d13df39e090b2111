"""What modules hand to each other. Importing this module brings no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from vqtok.errors import CodesError, ConfigError, LoadError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vqtok.frames import FramePlan
    from vqtok.traits import Traits
    from vqtok.verdicts import ProbeResult

__all__ = [
    "ClipCodec",
    "CodeSums",
    "Codec",
    "Codes",
    "Encoder",
    "Fingerprint",
    "LatentCodec",
    "Quantized",
    "axes_text",
    "code_dtype",
]

# How many sizes `repr` of codes lists.
SIZES = 3


def code_dtype(codebook_size: int) -> np.dtype[Any]:
    """Of ids in files, bodies and slots: little-endian, 16 bits up to 65,536 codes, else 32."""
    if codebook_size > 1 << 32:
        raise ConfigError(
            f"ids are kept as numbers of 32 bits, which name {1 << 32:,} codes; this codebook has "
            f"{codebook_size:,}"
        )
    return np.dtype("<u2" if codebook_size <= 1 << 16 else "<u4")


def axes_text(axes: int, depth: int | str = 0) -> str:
    """The shape of one grid of codes as messages write it: (h, w), (t, h, w, 4), (L,)."""
    names = [*"thw"[-axes:]] if axes > 1 else ["L"]
    names += [str(depth)] if depth else []
    return f"({', '.join(names)}{',' * (len(names) == 1)})"


class CodeSums(NamedTuple):
    """What one forward contributes to the codebook's next step; float32, fixed shapes.

    Sums of several micro-batches or ranks are the statistics of the joint batch: add (or
    all-reduce) `count` and `total`, concatenate (or gather) `candidates` along the last axis but
    one. Quantizers of several codebooks have an axis for these before all others.
    """

    count: Tensor  # type: ignore[assignment]  # (K,) tokens on each code; not tuple.count
    total: Tensor  # (K, D) sum of the vectors on each code
    candidates: Tensor  # (R, D) vectors that may take a dead code's place


class Quantized(NamedTuple):
    """What a quantizer's forward returns.

    A NamedTuple, because accelerate casts the tensors in one back to float32 after a
    mixed-precision forward, and those in a dataclass it does not.
    """

    z: Tensor  # (B, D, *grid) what the decoder sees; carries the gradient
    codes: Tensor  # (B, *grid) int64; several codebooks: (B, *grid, Q)
    losses: dict[str, Tensor]  # unweighted scalars: commit, codebook, entropy
    sums: CodeSums | None  # None in eval, and for quantizers that keep no statistics


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Codes:
    """A batch of code grids of one shape, and where they come from.

    ids            (N, *grid) or (N, *grid, Q), an integer array in [0, codebook_size)
    sizes          (N, 2) height and width in pixels of the pictures that the grids stand for, or
                   (N, 3) frames, height and width of clips; 0 where it is not known. A grid may
                   stand for a little more, which is cut off again
    codebook_size  K
    codebook       the codebook's sha256 in the fingerprint, or "" where it is not known
    depth          Q, the number of codes a token has, or 0 where ids have no such axis
    scales         height and width of each grid, coarse to fine, where the codes of several follow
                   each other in ids (N, L)
    """

    ids: npt.NDArray[np.integer]
    sizes: npt.NDArray[np.int32]
    codebook_size: int
    codebook: str = ""
    depth: int = 0
    scales: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.ids, np.ndarray):
            raise CodesError(f"ids are a numpy array; got {type(self.ids).__name__}")
        if not np.issubdtype(self.ids.dtype, np.integer):
            raise CodesError(f"codes are whole numbers; got an array of {self.ids.dtype}")
        low, high = (int(self.ids.min()), int(self.ids.max())) if self.ids.size else (0, 0)
        if low < 0 or high >= self.codebook_size:
            raise CodesError(
                f"codes of this tokenizer lie in [0, {self.codebook_size}); got some from {low} "
                f"to {high}"
            )
        if self.ids.ndim < (3 if self.depth else 2):
            shape = "(N, *grid, Q)" if self.depth else "(N, *grid)"
            raise CodesError(f"codes have the shape {shape}; got {self.ids.shape}")
        if self.depth and self.ids.shape[-1] != self.depth:
            raise CodesError(
                f"depth={self.depth}, but the last axis of the codes, whose shape is "
                f"{self.ids.shape}, is not that long"
            )
        self._check_sizes()
        self._check_scales()

    def _check_sizes(self) -> None:
        if not isinstance(self.sizes, np.ndarray) or self.sizes.dtype.kind not in "iu":
            kind = getattr(self.sizes, "dtype", type(self.sizes).__name__)
            raise CodesError(f"sizes are a numpy array of whole numbers; got {kind}")
        rows = len(self.ids)
        if self.sizes.shape not in ((rows, 2), (rows, 3)):
            raise CodesError(
                f"sizes has the shape (N, 2), or (N, 3) for clips, here N = {rows}; got "
                f"{self.sizes.shape}"
            )
        if self.sizes.size and self.sizes.min() < 0:
            raise CodesError(f"sizes are pixels, at least 0; got {self.sizes.min()}")

    def _check_scales(self) -> None:
        if not self.scales:
            return
        try:
            areas = [height * width for height, width in self.scales]
            whole = all(side == int(side) >= 1 for scale in self.scales for side in scale)
        except (TypeError, ValueError):
            whole = False
        if not whole or self.depth:
            raise CodesError(
                "scales are the height and width of each grid, all at least 1, of codes with one "
                f"a token; got {self.scales!r} and depth={self.depth}"
            )
        plain = tuple((int(height), int(width)) for height, width in self.scales)
        object.__setattr__(self, "scales", plain)
        if self.grid != (sum(areas),):
            raise CodesError(
                f"the scales {' '.join(f'{h}x{w}' for h, w in plain)} hold {sum(areas)} codes; got "
                f"codes of the shape {self.ids.shape}"
            )

    @property
    def grid(self) -> tuple[int, ...]:
        """The shape of one picture's codes: (h, w); (t, h, w) for a clip; (L,) for a sequence."""
        shape = self.ids.shape[1:]
        return shape[:-1] if self.depth else shape

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int | slice) -> Codes:
        """One picture's codes, or a range of them, still a batch."""
        if isinstance(index, slice):
            rows = index
        elif -len(self) <= index < len(self):
            rows = slice(index % len(self), index % len(self) + 1)
        else:
            raise IndexError(f"there are {len(self)} pictures in these codes; asked for {index}")
        return replace(self, ids=self.ids[rows], sizes=self.sizes[rows])

    def __iter__(self) -> Iterator[Codes]:
        return (self[index] for index in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Codes):
            return NotImplemented
        return (
            (self.codebook_size, self.codebook, self.depth, self.scales)
            == (other.codebook_size, other.codebook, other.depth, other.scales)
            and np.array_equal(self.ids, other.ids)
            and np.array_equal(self.sizes, other.sizes)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """What it holds, and of the codebook's print the first eight digits, as prints show it."""
        shown = ["x".join(map(str, size)) for size in np.unique(self.sizes, axis=0)]
        more = f" and {len(shown) - SIZES} more" if len(shown) > SIZES else ""
        parts = {
            "ids": f"{self.ids.dtype}{list(self.ids.shape)}",
            "sizes": " ".join(shown[:SIZES]) + more,
            "codebook_size": self.codebook_size,
            "codebook": self.codebook[:8] or "not known",
            "depth": self.depth,
            "scales": " ".join(f"{h}x{w}" for h, w in self.scales),
        }
        return f"Codes({', '.join(f'{name}={part}' for name, part in parts.items() if part)})"

    def __bytes__(self) -> bytes:
        """The ids alone, little-endian: uint16 up to 65,536 codes, uint32 above."""
        return np.ascontiguousarray(self.ids, code_dtype(self.codebook_size)).tobytes()


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a tokenizer is: four sha256 in hexadecimal (`vqtok.fingerprint` makes them).

    Ids come out equal where the first three are; they can be decoded where the third is.
    """

    preprocess: str
    encoder: str
    codebook: str
    decoder: str

    SCHEMA: ClassVar[str] = "vqtok-fp/1"

    def same_ids(self, other: Fingerprint) -> bool:
        """Whether the same picture gives the same ids."""
        return set(self.differences(other)) <= {"decoder"}

    def can_decode(self, codes: Codes) -> bool:
        """Whether `codes` were made with this codebook; those that do not say so are trusted."""
        return codes.codebook in ("", self.codebook)

    def differences(self, other: Fingerprint) -> list[str]:
        """The parts that are not equal, by name."""
        return [name for name in PRINT_PARTS if getattr(self, name) != getattr(other, name)]

    def to_dict(self) -> dict[str, str]:
        """For JSON; `from_dict` reads it."""
        parts = {name: getattr(self, name) for name in PRINT_PARTS}
        return {"schema": self.SCHEMA, **parts}

    @classmethod
    def from_dict(cls, stored: Mapping[str, object]) -> Fingerprint:
        """From what `to_dict` gave; `LoadError` for anything else."""
        given = stored if isinstance(stored, Mapping) else {}
        parts = {name: given.get(name) for name in PRINT_PARTS}
        if given.get("schema") != cls.SCHEMA or not all(map(_is_sha256, parts.values())):
            raise LoadError(
                f"a fingerprint of the schema {cls.SCHEMA} has the sha256 of "
                f"{', '.join(PRINT_PARTS)}; got {stored!r}"
            )
        return cls(**{name: str(value) for name, value in parts.items()})

    def __str__(self) -> str:
        """Short, for people: the first eight digits of each part."""
        return f"{self.SCHEMA}:" + "-".join(getattr(self, name)[:8] for name in PRINT_PARTS)


PRINT_PARTS = ("preprocess", "encoder", "codebook", "decoder")


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


@runtime_checkable
class Encoder(Protocol):
    """Anything that turns pixels into codes: torch here, ONNX Runtime, a server's client."""

    @property
    def fingerprint(self) -> Fingerprint:
        """What makes the ids."""
        ...

    @property
    def precision(self) -> str:
        """The arithmetic that ids are made with: ieee32, tf32, bf16 or fp16."""
        ...

    def encode(self, pixels: npt.NDArray[np.uint8]) -> Codes:
        """(N, H, W, 3) uint8 pixels, sides a multiple of the stride -> codes of N grids."""
        ...


@runtime_checkable
class Codec(Encoder, Protocol):
    """An `Encoder` that also knows the way back, and what it is."""

    @property
    def traits(self) -> Traits:
        """The sizes, frames and codes of its model."""
        ...

    @property
    def runs_on(self) -> str:
        """What computes, for messages: torch, ONNX Runtime, a server."""
        ...

    @property
    def device(self) -> torch.device | str:
        """Where the model is; text where that is no device of torch."""
        ...

    def verify(self) -> ProbeResult:
        """Compares it with the probe in its folder; `MismatchError` where it is refused."""
        ...

    def decode(self, codes: Codes) -> npt.NDArray[np.uint8]:
        """Codes of N grids -> all their pixels, (N, H, W, 3) uint8.

        `MismatchError` where another codebook made them; see `Fingerprint.can_decode`.
        """
        ...


@runtime_checkable
class LatentCodec(Codec, Protocol):
    """A `Codec` that also gives what lies before quantization, as torch does."""

    def encode_latents(
        self, pixels: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.float32], Codes]:
        """As `encode`, and the latents (N, D, *grid) that the codes are of."""
        ...

    def decode_latents(self, latents: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """Latents (N, D, *grid) -> what decoding their codes gives."""
        ...


@runtime_checkable
class ClipCodec(Codec, Protocol):
    """A `Codec` of clips, whose batches have the shape (N, T, H, W, 3)."""

    def plan_frames(self, count: int) -> FramePlan:
        """What becomes of so many frames."""
        ...

    def encode_frames(
        self, frames: Iterable[npt.NDArray[np.uint8]], size: tuple[int, int]
    ) -> Codes:
        """One clip, frame by frame (h, w, 3) -> its codes, a batch of one.

        Memory holds a few frames at a time. The last one is repeated as `plan_frames` says.

        size  height and width that come back: less than those of a frame where it was extended
        """
        ...

    def decode_frames(self, codes: Codes) -> Iterator[npt.NDArray[np.uint8]]:
        """The codes of one clip -> its frames (H, W, 3), one by one, cut to `codes.sizes`."""
        ...
