"""Pictures and clips in bodies: read as they arrive, and written."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from vqtok.serve.wire import documents, files, npy, tensors
from vqtok.serve.wire import headers as names
from vqtok.serve.wire.errors import Failure, WireError
from vqtok.serve.wire.limits import Limits
from vqtok.serve.wire.media import (
    FILES,
    JSON,
    MULTIPART,
    NPY,
    OWN_NAMES,
    RAW,
    SAFETENSORS,
    Content,
    check_encoding,
    content_of,
)
from vqtok.serve.wire.multipart import Part, Parts
from vqtok.serve.wire.sheets import Array
from vqtok.serve.wire.sniff import is_vague, medium_of

__all__ = ["ACCEPTED", "PictureReader", "Upload", "picture_reader", "read_pictures"]

# The media of requests that bring pictures.
ACCEPTED: tuple[str, ...] = (*FILES, RAW, NPY, SAFETENSORS, JSON, MULTIPART)
CHANNELS = (1, 3, 4)
THE_ONE = "the picture"


class Upload(NamedTuple):
    """One picture or clip as it came.

    data  the bytes of a file of a known kind (`vqtok.preprocess.prepare` or `vqtok.streams.
          open_clip` decode them), an array (h, w, 1|3|4) or (t, h, w, 1|3|4), or for a clip the
          list of the files of its frames; or why this one is none
    name  what messages call it: "the picture", "picture 3 (cat.jpg)"
    clip  whether it is one: several frames, or a file that may hold several
    """

    data: bytes | Array | list[bytes] | Failure
    name: str
    clip: bool = False


class PictureReader(Protocol):
    """Takes the chunks of one body and gives what has arrived whole.

    count  how many pictures it holds, where the headers tell; None where only the body does
    shape  (h, w, 3) or (t, h, w, 3) uint8 of every one, where the headers tell and the body is
           nothing but their pixels one after another (raw): such a body of `count` times
           prod(shape) bytes may go straight to where it belongs, past `feed`; else None
    """

    count: int | None
    shape: tuple[int, ...] | None

    def feed(self, chunk: bytes | memoryview) -> list[Upload]:
        """Those that are complete with this chunk; a `WireError` ends the request."""
        ...

    def end(self) -> list[Upload]:
        """The rest, when the body has ended; a `WireError` (truncated, empty) where it may not."""
        ...


def picture_reader(
    headers: Mapping[str, str], limits: Limits, *, video: bool = False
) -> PictureReader:
    """For a body with these headers (names in lower case).

    video  whether the model takes clips: a 4-axis array is a clip then, else several pictures
    """
    if is_vague(headers):
        return _Whole(lambda body: _sniffed(headers, body, limits, video), limits)
    if headers.get("content-type", "").strip().lower() in ("image/*", "video/*"):
        check_encoding(headers)
        return _File(limits)
    content = content_of(headers, ACCEPTED)
    if content.media == RAW:
        return _Raw(headers, limits, video)
    if content.media == MULTIPART:
        return _Form(content, limits)
    if content.media in WHOLE:
        read = WHOLE[content.media]
        return _Whole(lambda body: read(body, limits, video), limits)
    return _File(limits)


def read_pictures(
    headers: Mapping[str, str], body: bytes, limits: Limits, *, video: bool = False
) -> list[Upload]:
    """A whole body at once."""
    reader = picture_reader(headers, limits, video=video)
    return [*reader.feed(body), *reader.end()]


# --- readers -------------------------------------------------------------------------------------


class _Whole:
    """A body that says nothing before it is there."""

    count: int | None = None
    shape: tuple[int, ...] | None = None

    def __init__(self, read: Callable[[bytes], list[Upload]], limits: Limits) -> None:
        self._read, self._limits = read, limits
        self._chunks: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes | memoryview) -> list[Upload]:
        self._size += len(chunk)
        _check_body(self._size, self._limits)
        self._chunks.append(bytes(chunk))
        return []

    def end(self) -> list[Upload]:
        if not self._size:
            raise WireError("empty", "the body is empty; a picture is sent in it")
        found = self._read(b"".join(self._chunks))
        _check_count(len(found), self._limits)
        return found


class _File(_Whole):
    """A body that is one file."""

    count: int | None = 1

    def __init__(self, limits: Limits) -> None:
        super().__init__(lambda body: [_file(body, THE_ONE)], limits)


class _Raw:
    """Pixels one after another."""

    def __init__(self, headers: Mapping[str, str], limits: Limits, video: bool) -> None:
        why = "raw pixels do not tell their shape; for a file send its own content-type instead"
        given = names.needed(headers, names.SHAPE, why)
        dims = names.parse_dims(given, names.SHAPE)
        dtype = headers.get(names.DTYPE, "uint8").strip()
        if dtype != "uint8":
            raise WireError("bad_header", f"raw pixels are uint8; got {names.DTYPE}: {dtype!r:.60}")
        least = 4 if video and len(dims) > 3 else 3
        if len(dims) not in (least, least + 1) or dims[-1] != 3:
            raise WireError(
                "wrong_shape",
                f"{names.SHAPE} is {_shapes(video)}; got {given!r:.60}",
            )
        self.count: int | None = math.prod(dims[:-least])
        self.shape: tuple[int, ...] | None = dims[-least:]
        self._step = math.prod(self.shape)
        _check_count(self.count, limits)
        _check_extent(self.shape, limits, THE_ONE)
        if self.count > 1 or len(self.shape) < 4:  # one clip need not be held
            _check_body(self.count * self._step, limits)
        self._buffer = bytearray()
        self._done = 0

    def feed(self, chunk: bytes | memoryview) -> list[Upload]:
        self._buffer += chunk
        found = []
        while len(self._buffer) >= self._step and self._done < self._total:
            data = bytes(memoryview(self._buffer)[: self._step])
            del self._buffer[: self._step]
            found.append(self._upload(data))
            self._done += 1
        if self._done == self._total and self._buffer:
            raise WireError("wrong_shape", f"the body is longer than {self._claim}")
        return found

    def end(self) -> list[Upload]:
        if self._done < self._total:
            got = self._done * self._step + len(self._buffer)
            raise WireError(
                "truncated", f"the body ends after {got} bytes; it is to be {self._claim}"
            )
        return []

    @property
    def _total(self) -> int:
        return self.count or 0

    @property
    def _claim(self) -> str:
        size = self._total * self._step
        return f"{size} bytes, as {names.SHAPE} says"

    def _upload(self, data: bytes) -> Upload:
        shape = self.shape or ()
        name = THE_ONE if self._total == 1 else f"picture {self._done}"
        return Upload(np.frombuffer(data, np.uint8).reshape(shape), name, clip=len(shape) == 4)


class _Form:
    """A form with files, each of which is given as soon as it is there."""

    count: int | None = None
    shape: tuple[int, ...] | None = None

    def __init__(self, content: Content, limits: Limits) -> None:
        self._parts = Parts(content.parameters.get("boundary", ""))
        self._limits = limits
        self._found = self._size = 0

    def feed(self, chunk: bytes | memoryview) -> list[Upload]:
        self._size += len(chunk)
        _check_body(self._size, self._limits)
        return [self._upload(part) for part in self._parts.feed(chunk)]

    def end(self) -> list[Upload]:
        self._parts.end()
        if not self._found:
            raise WireError(
                "empty", "the form has no files in it; add them: curl -F image=@cat.jpg"
            )
        return []

    def _upload(self, part: Part) -> Upload:
        shown = "".join(filter(str.isprintable, part.filename or ""))[:80]
        name = f"picture {self._found}" + (f" ({shown})" if shown else "")
        self._found += 1
        _check_count(self._found, self._limits)
        if part.filename is None:
            raise WireError(
                "bad_multipart",
                "the form has a field that is no file; send files, as curl -F image=@cat.jpg does",
            )
        media = part.media.partition(";")[0].strip().lower()
        if OWN_NAMES.get(media, media) not in ("", RAW, *FILES):
            message = f"{name} is sent as {media!r:.60}; files in a form are {', '.join(FILES)}"
            return Upload(Failure(415, "unsupported_media_type", message), name)
        return _file(part.data, name)


# --- what a whole body holds ---------------------------------------------------------------------


def _sniffed(headers: Mapping[str, str], body: bytes, limits: Limits, video: bool) -> list[Upload]:
    media = "" if files.is_heic(body) else medium_of(headers, body, ACCEPTED)
    if media == RAW:
        _Raw(headers, limits, video)  # says that the shape is missing
    return WHOLE[media](body, limits, video) if media in WHOLE else [_file(body, THE_ONE)]


def _file(data: bytes, name: str) -> Upload:
    """A file of a kind that is decoded here; nothing else is handed to a decoder."""
    kind = files.kind_of(data)
    if files.is_heic(data):
        message = f"{name} is HEIC, which is not taken; send JPEG, PNG or WebP"
        return Upload(Failure(400, "not_a_picture", message), name)
    if kind is None:
        start = f"begins with {data[:8].hex(' ')}" if data else "is empty"
        message = (
            f"{name} is in no format that is taken (jpeg, png, webp, gif, bmp, tiff, avif; clips: "
            f"mp4, mov, webm, mkv, avi, mpeg): it {start}"
        )
        return Upload(Failure(400, "not_a_picture", message), name)
    return Upload(data, name, clip=kind in files.VIDEOS or kind == "gif")


def _from_npy(body: bytes, limits: Limits, video: bool) -> list[Upload]:
    return _arrays([npy.array_of(body)], limits, video)


def _from_tensors(body: bytes, limits: Limits, video: bool) -> list[Upload]:
    found, _ = tensors.arrays_of(body)
    if "pixels" in found:
        return _arrays([found["pixels"]], limits, video)
    count = sum(name.startswith("pixels.") for name in found)
    if not count or any(f"pixels.{index}" not in found for index in range(count)):
        given = ", ".join(map(repr, list(found)[:8])) or "none"
        raise WireError(
            "missing_part",
            "the safetensors file needs a tensor 'pixels', or 'pixels.0', 'pixels.1' and so on; "
            f"got {given:.200}",
        )
    return _arrays([found[f"pixels.{index}"] for index in range(count)], limits, video)


def _arrays(arrays: Sequence[Array], limits: Limits, video: bool) -> list[Upload]:
    """One array of one picture or several, or arrays of one each."""
    first = arrays[0]
    most = 4 if video else 3
    if len(arrays) == 1 and first.ndim == most + 1:
        _check_count(len(first), limits)
        arrays = list(first)
    alone = len(arrays) == 1
    named = [(one, THE_ONE if alone else f"picture {i}") for i, one in enumerate(arrays)]
    return [_array(one, name, limits, video) for one, name in named]


def _array(array: Array, name: str, limits: Limits, video: bool) -> Upload:
    try:
        if array.ndim not in ((3, 4) if video else (3,)) or array.shape[-1] not in CHANNELS:
            raise WireError(
                "wrong_shape", f"{name} is {_shapes(video)}; got an array of {array.shape}"
            )
        _check_extent(array.shape, limits, name)
    except WireError as error:
        return Upload(error.failure, name)
    return Upload(array, name, clip=array.ndim == 4)


def _from_json(body: bytes, limits: Limits, video: bool) -> list[Upload]:
    """{"images": [base64, ...]}, or what an answer with pictures looks like."""
    document = documents.parsed(body)
    documents.check_not_tokens(document)
    entries = documents.entries_of(document, list(documents.PICTURE))
    if entries is None and "images" in document:
        texts = document["images"]
        if not isinstance(texts, list):
            raise WireError("bad_json", "'images' is a list of files in base64")
        entries = [{"image": text} for text in texts]
    entries = [document] if entries is None else entries
    _check_count(len(entries), limits)
    if not entries:
        raise WireError("empty", "the list of pictures is empty")
    alone = len(entries) == 1
    named = [(one, THE_ONE if alone else f"picture {i}") for i, one in enumerate(entries)]
    return [_entry(one, name, limits) for one, name in named]


def _entry(entry: Mapping[str, object], name: str, limits: Limits) -> Upload:
    failure = documents.failure_of(entry)
    if failure is not None:
        return Upload(failure.posted.named(name), name)
    try:
        if "frames" in entry:
            return _frames(entry["frames"], name, limits)
        documents.check_not_tokens(entry)
        return _file(files.bytes_of(entry.get("image")), name)
    except WireError as error:
        return Upload(error.failure.named(name), name)


def _frames(texts: object, name: str, limits: Limits) -> Upload:
    if not isinstance(texts, list) or not texts:
        raise WireError("not_a_picture", "'frames' is a list of files in base64")
    if len(texts) > limits.max_frames:
        return Upload(_too_long(name, len(texts), limits).failure, name)
    frames = [_file(files.bytes_of(text), f"frame {i} of {name}") for i, text in enumerate(texts)]
    wrong = next((one.data for one in frames if isinstance(one.data, Failure)), None)
    data = [one.data for one in frames if isinstance(one.data, bytes)]
    return Upload(wrong or data, name, clip=True)


WHOLE = {NPY: _from_npy, SAFETENSORS: _from_tensors, JSON: _from_json}


# --- limits --------------------------------------------------------------------------------------


def _shapes(video: bool) -> str:
    if video:
        return (
            "(frames, height, width, 3), of several clips with their number before that; (height, "
            "width, 3) is a clip of one frame"
        )
    return "(height, width, 3), of several pictures with their number before that"


def _check_body(size: int, limits: Limits) -> None:
    if size > limits.max_body:
        raise WireError(
            "too_large",
            f"the body has more than the {limits.max_body} bytes that are taken at once",
        )


def _check_count(count: int, limits: Limits) -> None:
    if count > limits.max_images:
        raise WireError(
            "too_many_images",
            f"the body holds {count} pictures or more; at most {limits.max_images} are taken at "
            "once",
        )


def _check_extent(shape: tuple[int, ...], limits: Limits, name: str) -> None:
    *frames, height, width, _ = shape
    if height * width > limits.max_pixels:
        raise WireError(
            "too_many_pixels",
            f"{name} is {width} wide and {height} high, {height * width} pixels; at most "
            f"{limits.max_pixels} are taken",
        )
    if frames and frames[0] > limits.max_frames:
        raise _too_long(name, frames[0], limits)


def _too_long(name: str, count: int, limits: Limits) -> WireError:
    return WireError(
        "too_many_frames", f"{name} has {count} frames; at most {limits.max_frames} are taken"
    )
