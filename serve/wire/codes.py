"""Codes and latents in bodies, both ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vqtok.errors import CodesError
from vqtok.serve.wire import documents
from vqtok.serve.wire import headers as names
from vqtok.serve.wire.carriers import CARRIERS as CARRIERS_BY_NAME
from vqtok.serve.wire.errors import Failure, WireError, shown
from vqtok.serve.wire.limits import Limits
from vqtok.serve.wire.media import LINES, content_of
from vqtok.serve.wire.sheets import Array, Expect, Head, Row, Sheet, described
from vqtok.serve.wire.sniff import is_vague, medium_of
from vqtok.serve.wire.space import Space
from vqtok.types import Codes, code_dtype

__all__ = [
    "CARRIERS",
    "Latents",
    "check_range",
    "head_of",
    "read_codes",
    "read_tokens",
    "row_of",
    "write_tokens",
]

# The media that hold codes and latents, the default first.
CARRIERS: tuple[str, ...] = tuple(CARRIERS_BY_NAME)
TAKEN = (*CARRIERS, LINES)
SIDE = 1 << 31  # sizes are 32-bit numbers


class Latents(NamedTuple):
    """What a picture is before its quantization: (D, *grid) float32.

    size  height and width that come back, of a clip the frames before them; () not known
    """

    values: npt.NDArray[np.float32]
    size: tuple[int, ...] = ()


def read_tokens(
    headers: Mapping[str, str],
    body: bytes,
    space: Space,
    limits: Limits,
    *,
    answer: bool = False,
) -> list[Codes | Latents | Failure]:
    """Codes, each a batch of one, or latents; whichever the body holds.

    answer  whether the body is an answer, whose failures are what the server says; what a request
            says of failures is no more than that there is no picture

    Where a picture has both, these are codes. Their `sizes` and `scales` are as the body has them:
    whether these fit the grid is for the model's facts to say.

    A `WireError` for a body that is none (400, 415), that brings too many (413) or whose codes were
    made with another codebook (409); a `Failure` for one that has a code out of range or another
    shape than the model's (422).
    """
    sheet = _sheet(headers, body, space, _expected(space, limits, answer))
    named = _names(sheet)
    return [_token(row, name, space) for row, name in zip(sheet.rows, named, strict=True)]


def read_codes(
    headers: Mapping[str, str], body: bytes, space: Space, limits: Limits
) -> list[Codes | Failure]:
    """The codes of an answer, for clients."""
    expect = _expected(replace(space, latent_channels=None), limits, answer=True)
    sheet = _sheet(headers, body, space, expect)
    named = _names(sheet)
    return [_codes(row, name, space) for row, name in zip(sheet.rows, named, strict=True)]


def _sheet(headers: Mapping[str, str], body: bytes, space: Space, expect: Expect) -> Sheet:
    vague = is_vague(headers)
    media = medium_of(headers, body, TAKEN) if vague else content_of(headers, TAKEN).media
    if not body:
        raise WireError("empty", "the body is empty; codes are sent in it")
    read = documents.read_lines if media == LINES else CARRIERS_BY_NAME[media].read
    sheet = read(headers, body, expect)
    if not sheet.rows:
        raise WireError("empty", "the body holds no picture's codes")
    expect.check_count(len(sheet.rows))
    _check_codebook(headers, sheet.head, space)
    return sheet


def _expected(space: Space, limits: Limits, answer: bool) -> Expect:
    axes, shape = {"codes": space.code_axes}, {"codes": space.code_shape}
    if space.latent_channels is not None:
        axes["latents"] = (space.vector_axes,)
        shape["latents"] = space.vector_shape
    dtype = "" if answer else code_dtype(space.codebook_size).name
    return Expect(axes, shape, limits.max_images, trusted=answer, dtype=dtype)


def _check_codebook(headers: Mapping[str, str], head: Head, space: Space) -> None:
    """Headers and body may each name the codebook; none may be another one."""
    stated = [head.codebook, headers.get(names.CODEBOOK, "").strip().lower()]
    if headers.get(names.FINGERPRINT):
        stated.append(names.parse_print(headers[names.FINGERPRINT]).codebook)
    wrong = next((one for one in stated if one and space.codebook and one != space.codebook), None)
    if wrong is not None:
        raise WireError(
            "codebook_mismatch",
            f"these codes were made with the codebook {wrong:.64} and cannot be decoded by a "
            f"tokenizer whose codebook is {space.codebook}",
        )
    if head.codebook_size not in (0, space.codebook_size):
        raise WireError(
            "codebook_mismatch",
            f"these codes were made with a codebook of {head.codebook_size} codes and cannot be "
            f"decoded by a tokenizer whose codebook has {space.codebook_size}",
        )


def _names(sheet: Sheet) -> list[str]:
    """What messages call each; "" where there is but one."""
    count = len(sheet.rows)
    return [""] if count == 1 else [f"picture {index}" for index in range(count)]


def _token(row: Row | Failure, name: str, space: Space) -> Codes | Latents | Failure:
    if isinstance(row, Failure) or "codes" in row.parts:
        return _codes(row, name, space)
    try:
        return _as_latents(row, space)
    except WireError as error:
        return error.failure.named(name) if name else error.failure


def _codes(row: Row | Failure, name: str, space: Space) -> Codes | Failure:
    if isinstance(row, Failure):
        return row
    try:
        return _as_codes(row, space)
    except WireError as error:
        return error.failure.named(name) if name else error.failure


def _as_codes(row: Row, space: Space) -> Codes:
    ids = row.parts["codes"]
    if ids.dtype.kind not in "iu":
        raise WireError("not_codes", f"codes are whole numbers; got {ids.dtype}")
    if space.video and ids.ndim == space.code_axes[0]:
        ids = ids[None]
    if ids.ndim != space.code_axes[-1] or (space.depth and ids.shape[-1] != space.depth):
        raise WireError(
            "wrong_shape",
            f"codes of one picture have the shape {space.code_shape}; got {_text(ids.shape)}",
        )
    if not ids.size:
        raise WireError("wrong_shape", f"there are no codes in the shape {_text(ids.shape)}")
    check_range(ids, space.codebook_size)
    try:
        return Codes(
            np.ascontiguousarray(ids[None], code_dtype(space.codebook_size)),
            np.array([_size(row.size, space)], np.int32),
            space.codebook_size,
            space.codebook,
            space.depth,
            row.scales,
        )
    except CodesError as error:
        raise WireError("wrong_shape", str(error)) from None


def check_range(ids: Array, codebook_size: int) -> None:
    """Raises for the first code that is none, and says where it stands."""
    if int(ids.min()) >= 0 and int(ids.max()) < codebook_size:
        return
    wrong = (ids < 0) | (ids >= codebook_size)
    at = np.unravel_index(int(wrong.argmax()), ids.shape)
    raise WireError(
        "code_out_of_range",
        f"the code at [{', '.join(map(str, at))}] is {int(ids[at])}; codes of this tokenizer are "
        f"0 to {codebook_size - 1}",
    )


def _size(size: tuple[int, ...], space: Space) -> tuple[int, ...]:
    """() is not known, which `Codes` write as zeros.

    Of a clip of one frame height and width alone say that it is a picture.
    """
    known = (2, 3) if space.video else (2,)
    if size and (len(size) not in known or min(size) < 0 or max(size) >= SIDE):
        before = ", of a clip the frames before them," if space.video else ""
        raise WireError(
            "wrong_shape", f"a size is height and width{before} in pixels; got {shown(size)}"
        )
    return size if any(size) else (0,) * known[-1]


def _as_latents(row: Row, space: Space) -> Latents:
    values = row.parts["latents"]
    if values.dtype.kind not in "fiu":
        raise WireError("bad_latents", f"latents are float32; got {values.dtype}")
    if values.ndim != space.vector_axes or values.shape[0] != space.latent_channels:
        raise WireError(
            "wrong_shape",
            f"latents of one picture have the shape {space.vector_shape}; got "
            f"{_text(values.shape)}",
        )
    if not values.size:
        raise WireError("wrong_shape", f"there are no latents in the shape {_text(values.shape)}")
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and told so
        narrow = np.ascontiguousarray(values, np.float32)
    if not np.isfinite(narrow).all():
        at = np.unravel_index(int((~np.isfinite(narrow)).argmax()), narrow.shape)
        where = ", ".join(map(str, at))
        raise WireError("bad_latents", f"the number at [{where}] is NaN or infinite in float32")
    size = _size(row.size, space)
    return Latents(narrow, size if any(size) else ())


def _text(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def write_tokens(
    rows: Sequence[Row | Failure], head: Head, media: str, *, main: str = "codes"
) -> tuple[bytes, dict[str, str]]:
    """The body and its headers, Content-Type among them.

    main  the part that media of one array (npy, raw) hold: "codes" or "latents"; JSON and
          safetensors hold all parts

    A `WireError` (not_acceptable) where the medium cannot hold them, as npy grids of several shapes
    """
    sheet = Sheet(rows, head)
    body = CARRIERS_BY_NAME[media].write(sheet, main)
    return body, {"content-type": media, **described(sheet, main)}


def row_of(codes: Codes) -> Row:
    """Codes, a batch of one -> what `write_tokens` takes."""
    size = tuple(codes.sizes[0].tolist())
    ids = codes.ids[0].astype(code_dtype(codes.codebook_size), copy=False)
    return Row({"codes": ids}, size if any(size) else (), codes.scales)


def head_of(codes: Codes) -> Head:
    """What these codes say of their codebook."""
    return Head(None, codes.codebook, codes.codebook_size, codes.depth)
