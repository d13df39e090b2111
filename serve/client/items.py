"""What callers hand in, as what can be sent: files as they are, everything else as pixels."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vqtok import batches
from vqtok.errors import CodesError, LoadError
from vqtok.pictures import MAX_PIXELS, Pixels, load_image, name_of
from vqtok.sequences import as_list, source_name
from vqtok.serve.client.bodies import FileBody, FrameBody
from vqtok.serve.facts import Facts
from vqtok.serve.wire import MEDIA, Latents, Limits, WireError
from vqtok.serve.wire.codes import check_range
from vqtok.serve.wire.files import VIDEOS, kind_of
from vqtok.streams import is_clip, open_clip
from vqtok.types import Codes

__all__ = ["Item", "as_item", "pictures_of", "token_item", "tokens_of"]

BYTES = (bytes, bytearray, memoryview)
PATHS = (str, os.PathLike)
LONG = 16 << 20  # bytes of pixels, or of a file, above which a clip is read while it is sent
SIGN = 32  # bytes of a file that say which kind it is
NUMBERS = (int, float, np.integer, np.floating)


class Item(NamedTuple):
    """One picture, clip or grid of codes on its way.

    place  among those of the call
    name   what messages call it
    kind   items of one kind may share a request; clips go one by one
    size   bytes on the wire, about
    data   the bytes of a file, pixels, codes or latents; or what reads a clip while it is sent
    media  of a file
    flows  whether it is of a clip, for which a server may need any time
    """

    place: int
    name: str
    kind: Hashable
    size: int
    data: Any
    media: str = ""
    flows: bool = False


def pictures_of(images: Any, facts: Facts) -> tuple[bool, Any]:
    """Whether it is one picture or clip, and an iterator, maybe asynchronous, over all of them."""
    if isinstance(images, AsyncIterable):
        return False, aiter(images)
    if facts.traits.is_video:
        return (True, iter([images])) if is_clip(images) else (False, iter(images))
    if isinstance(images, PATHS) and os.path.isdir(images):
        return False, _of_folder(images)
    if isinstance(images, Iterator) and not hasattr(images, "read"):
        return False, images
    found = as_list(images)
    return len(found) == 1 and found[0] is images, iter(found)


def _of_folder(folder: str | os.PathLike[str]) -> Iterator[Any]:
    from vqtok.sources import open_source

    source = open_source(folder)
    return (source[row].data for row in range(len(source)))


def as_item(source: Any, index: int, facts: Facts, limits: Limits, *, single: bool = False) -> Item:
    """A picture or clip, read now: an iterator may close or reuse it when it goes on."""
    kind = "clip" if facts.traits.is_video else "picture"
    name = name_of(source) if isinstance(source, PATHS) else f"the {kind}"
    if not single:
        name = source_name(source, index, kind) or name
    if facts.traits.is_video and (film := _film(source, name)) is not None:
        return Item(index, name, index, LONG, film, film.headers["content-type"], flows=True)
    data = _file(source, name)
    if data is not None:
        media = MEDIA.get(kind_of(data) or "", ("",))[0]
        if media and facts.traits.is_video:
            return Item(index, name, index, len(data), data, media, flows=True)
        if media.startswith("image/"):
            return Item(index, name, "files", len(data), data, media)
    shown = source if data is None or isinstance(source, PATHS) else data
    reading = _Reading(facts.preprocess.background, limits.max_pixels)
    if facts.traits.is_video:
        clip = reading.clip(shown, name)
        size = LONG if isinstance(clip, FrameBody) else clip.nbytes
        return Item(index, name, index, size, clip, flows=True)
    pixels = reading.picture(shown, name)
    return Item(index, name, "pixels", pixels.nbytes, pixels)


def _film(source: Any, name: str) -> FileBody | None:
    """A file of a clip that is too long to be held; None of anything else."""
    try:
        if not isinstance(source, PATHS) or not os.path.isfile(source):
            return None
        if os.path.getsize(source) <= LONG:
            return None
        with open(source, "rb") as file:
            kind = kind_of(file.read(SIGN)) or ""
    except OSError as error:
        raise LoadError(f"{name} cannot be opened: {error.strerror or error}") from error
    if kind not in VIDEOS and kind != "gif":
        return None
    return FileBody(Path(os.fsdecode(source)), MEDIA[kind][0], name)


def _file(source: Any, name: str) -> bytes | None:
    """The bytes of a source that is a file; None for others, and for what will be refused."""
    if isinstance(source, BYTES):
        return bytes(source)
    if hasattr(source, "read"):
        data = source.read()
        return data if isinstance(data, bytes) else None
    if not isinstance(source, PATHS) or not os.path.isfile(source):
        return None
    try:
        with open(source, "rb") as file:
            return file.read()
    except OSError as error:
        raise LoadError(f"{name} cannot be opened: {error.strerror or error}") from error


class _Reading(NamedTuple):
    """How what is no file becomes pixels here, before the server brings them to its size."""

    background: tuple[int, int, int]
    max_pixels: int

    def picture(self, source: Any, name: str) -> Pixels:
        """(H, W, 3) uint8."""
        most = min(self.max_pixels, MAX_PIXELS)
        return load_image(source, background=self.background, max_pixels=most, name=name)

    def clip(self, source: Any, name: str) -> Pixels | FrameBody:
        """(T, H, W, 3) uint8; or what reads a long one, while it is sent."""
        reader = open_clip(source, name=name, background=self.background)
        count, (height, width) = reader.length, reader.size
        if count is None or 3 * count * height * width > LONG:
            return FrameBody(reader, self.picture)
        frames = enumerate(reader)
        return np.stack([self.picture(one, f"frame {n} of {reader.name}") for n, one in frames])


def tokens_of(codes: Any, facts: Facts, name: str = "") -> tuple[bool, Iterator[Codes | Latents]]:
    """Whether they are of one picture, and the codes or latents of each.

    name  what messages call it, where it is one of several
    """
    if isinstance(codes, Codes):
        return len(codes) == 1, iter(codes)
    if isinstance(codes, Latents):
        return True, iter([codes])
    if _is_grid(codes):
        whole = np.asarray(codes.cpu() if hasattr(codes, "cpu") else codes)
        return _tokens_in(whole, facts, name)
    depth = _depth(codes)
    if depth and depth != _axes(np.asarray(_first(codes)), facts) + 1:
        return _tokens_in(_array(codes), facts, name)
    if not isinstance(codes, Iterable) or isinstance(codes, (str, *BYTES)):
        raise CodesError(f"grids of codes come as a list or as `Codes`; got {codes!r}")
    called = "clip" if facts.traits.is_video else "picture"
    return False, (
        token
        for index, one in enumerate(codes)
        for token in tokens_of(one, facts, f"{called} {index}")[1]
    )


def _tokens_in(whole: Any, facts: Facts, name: str) -> tuple[bool, Iterator[Codes | Latents]]:
    """Those of an array of one picture, or of several with one axis more."""
    axes = _axes(whole, facts)
    if whole.ndim not in (axes, axes + 1):
        raise CodesError(_said(name, _wrong_axes(whole, facts)))
    if whole.ndim == axes:
        return True, iter([_token(whole, facts, name)])
    names = "clip" if facts.traits.is_video else "picture"
    tokens = (_token(one, facts, name or f"{names} {index}") for index, one in enumerate(whole))
    return False, tokens


def _said(name: str, message: str) -> str:
    return f"{name}: {message}" if name else message


def _depth(value: Any) -> int:
    """How deep lists of numbers are nested, by the first of each; 0 of anything else."""
    depth = 0
    while isinstance(value, (list, tuple)) and value:
        depth, value = depth + 1, value[0]
    return depth if isinstance(value, NUMBERS) and not isinstance(value, bool) else 0


def _first(value: Any) -> Any:
    """The first number in nested lists."""
    while isinstance(value, (list, tuple)):
        value = value[0]
    return value


def _array(lists: Any) -> Any:
    try:
        array = np.array(lists)
    except (ValueError, OverflowError):
        raise CodesError("a grid of codes is rows of one length, and these are not") from None
    if array.dtype.kind not in "iuf":
        raise CodesError(f"codes are rows of whole numbers; got {array.dtype}")
    return array


def _wrong_axes(array: Any, facts: Facts) -> str:
    latents = array.dtype.kind == "f"
    hint = ""
    if latents and array.ndim in (facts.traits.axes, facts.traits.axes + 1):
        hint = f"; codes are whole numbers, and these are {array.dtype}"
    axes = _axes(array, facts)
    return (
        f"{'latents' if latents else 'codes'} of one picture have {axes} axes here, those of "
        f"several {axes + 1}; got the shape {array.shape}{hint}"
    )


def _is_grid(value: Any) -> bool:
    return hasattr(value, "ndim") and hasattr(value, "__array__") and value.ndim > 0


def _check_axes(token: Codes | Latents, name: str, facts: Facts) -> None:
    """Raises for what a server would take for several pictures, or several for one."""
    array = token.values if isinstance(token, Latents) else token.ids[0]
    if array.ndim != (axes := _axes(array, facts)):
        part = "latents" if isinstance(token, Latents) else "codes"
        raise CodesError(f"{name}: {part} have {axes} axes here; got the shape {array.shape}")


def _axes(array: Any, facts: Facts) -> int:
    """Of one picture's codes, or of its latents (D, *grid)."""
    if array.dtype.kind == "f":
        return 1 + len(facts.latent_grid or facts.traits.stride)
    return facts.traits.axes + bool(facts.traits.depth)


def _token(array: Any, facts: Facts, name: str) -> Codes | Latents:
    if array.dtype.kind == "f":
        return Latents(np.ascontiguousarray(array, np.float32))
    _check_range(array, facts.traits.codebook_size, name)
    axes = 3 if facts.traits.is_video else facts.traits.axes
    return batches.as_codes([array], facts.traits.codebook_size, facts.traits.depth, axes)[0]


def _check_range(array: Any, codebook_size: int, name: str) -> None:
    """Raises for the first code that is none, as a server would."""
    if array.dtype.kind not in "iu" or not array.size:
        return
    try:
        check_range(array, codebook_size)
    except WireError as error:
        raise CodesError(_said(name, str(error))) from None


def token_item(token: Codes | Latents, index: int, facts: Facts, *, single: bool = False) -> Item:
    """Codes of one picture, or its latents."""
    what = "clip" if facts.traits.is_video else "picture"
    name = f"the {what}" if single else f"{what} {index}"
    _check_axes(token, name, facts)
    flows = facts.traits.is_video
    if isinstance(token, Latents):
        values = token.values
        return Item(index, name, (values.shape, "latents"), values.nbytes, token, flows=flows)
    kind = (token.ids.shape, token.codebook, token.codebook_size, token.depth, token.scales)
    return Item(index, name, kind, len(bytes(token)), token, flows=flows)
