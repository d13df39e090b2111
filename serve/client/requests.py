"""What is asked of a server: the requests for pictures and for codes, and what is read of answers.

A `Work` is one kind of request. A new one is a function here, and a method of the core.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vqtok.clips import as_clip_output
from vqtok.errors import CodesError, ImageError
from vqtok.pictures import Pixels
from vqtok.sequences import OutputType, as_output
from vqtok.serve.client.bodies import Body
from vqtok.serve.client.connection import Reply
from vqtok.serve.client.items import Item
from vqtok.serve.facts import Facts
from vqtok.serve.wire import (
    Failure,
    Head,
    Latents,
    Limits,
    Row,
    Space,
    head_of,
    read_codes,
    read_pixels,
    row_of,
    tensors,
    write_pictures,
    write_tokens,
)
from vqtok.serve.wire.headers import DTYPE, SHAPE
from vqtok.serve.wire.media import RAW, SAFETENSORS
from vqtok.serve.wire.sheets import Expect
from vqtok.types import Codes

__all__ = ["DECODE", "Work", "decoding", "encoding", "latents", "reconstructing"]

DECODE = "/decode"
Written = tuple["bytes | Body", Mapping[str, str]]


@dataclass(frozen=True)
class Work:
    """One kind of request.

    path    below /v1, or below the model's own path
    accept  the medium of the answer
    write   items of one kind -> a body and its headers
    read    an answer -> what became of each item
    fault   the exception where an item is to blame
    """

    path: str
    accept: str
    write: Callable[[Sequence[Item]], Written]
    read: Callable[[Reply], Sequence[Any]]
    fault: type[ImageError] | type[CodesError] = ImageError


def encoding(facts: Facts, limits: Limits) -> Work:
    """Pictures -> codes."""
    space = Space.of(facts)

    def read(reply: Reply) -> Sequence[Codes | Failure]:
        return read_codes(reply.headers, reply.body, space, limits)

    return Work("/encode", SAFETENSORS, _write_items, read)


def latents(facts: Facts, limits: Limits) -> Work:
    """Pictures -> the vectors before quantization, and the size that decodes to."""
    space = Space.of(facts)
    # Codes come along, which nobody asked for here.
    expect = Expect({"latents": (space.vector_axes,)}, {"latents": space.vector_shape})

    def token(row: Row | Failure) -> Latents | Failure:
        return row if isinstance(row, Failure) else Latents(row.parts["latents"], row.size)

    def read(reply: Reply) -> list[Latents | Failure]:
        return list(map(token, tensors.read(reply.headers, reply.body, expect).rows))

    return Work("/encode?output=latents", SAFETENSORS, _write_items, read)


def reconstructing(output_type: OutputType) -> Work:
    """Pictures -> the same through the codes and back."""
    return Work("/reconstruct", SAFETENSORS, _write_items, _reader(output_type))


def decoding(output_type: OutputType) -> Work:
    """Codes or latents -> pictures."""
    return Work(DECODE, SAFETENSORS, _write_codes, _reader(output_type), CodesError)


def _reader(output_type: OutputType) -> Callable[[Reply], list[Any]]:
    def shown(row: Row | Failure) -> Any:
        if isinstance(row, Failure):
            return row
        pixels = row.parts["pixels"]
        if pixels.ndim == 4:
            return as_clip_output(iter(pixels), output_type)
        return as_output(pixels, output_type)

    return lambda reply: [shown(row) for row in read_pixels(reply.headers, reply.body)]


def _write_items(items: Sequence[Item]) -> Written:
    """Pictures or clips of one kind: a file, a form of files, or pixels."""
    first = items[0]
    if isinstance(first.data, Body):
        return first.data, first.data.headers
    if not first.media:
        return _pixels([item.data for item in items])
    if len(items) == 1:
        return first.data, {"content-type": first.media}
    return _form(items)


def _pixels(arrays: Sequence[Pixels]) -> Written:
    """One after another where they have one shape; the server reads these fastest."""
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        rows = [Row({"pixels": array}) for array in arrays]
        return write_pictures(rows, Head(), SAFETENSORS)
    (shape,) = shapes
    dims = shape if len(arrays) == 1 else (len(arrays), *shape)
    headers = {"content-type": RAW, SHAPE: ",".join(map(str, dims)), DTYPE: "uint8"}
    return b"".join(np.ascontiguousarray(array).data for array in arrays), headers


def _form(items: Sequence[Item]) -> Written:
    boundary = uuid.uuid4().hex
    pieces: list[bytes] = []
    for item in items:
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="images"\r\n'
            f"Content-Type: {item.media}\r\n\r\n"
        )
        pieces += [head.encode(), item.data, b"\r\n"]
    body = b"".join([*pieces, f"--{boundary}--\r\n".encode()])
    return body, {"content-type": f"multipart/form-data; boundary={boundary}"}


def _write_codes(items: Sequence[Item]) -> Written:
    """Codes of one kind, or latents."""
    tokens = [item.data for item in items]
    if isinstance(first := tokens[0], Codes):
        rows = [row_of(replace(one, ids=np.ascontiguousarray(one.ids))) for one in tokens]
        return write_tokens(rows, head_of(first), SAFETENSORS)
    rows = [Row({"latents": one.values}, one.size) for one in tokens]
    return write_tokens(rows, Head(), SAFETENSORS, main="latents")
