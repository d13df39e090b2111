"""Files that end too early, and files that only look so."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from PIL import Image
from source_files import pan, picture, write_video

from vqtok.errors import ImageError
from vqtok.movies import MOVIES, write_movie
from vqtok.truncation import check_complete
from vqtok.videos import Video

av = pytest.importorskip("av", reason="videos need PyAV")

FRAMES = 20


class Pipe(io.RawIOBase):
    """Where nothing that was written can be gone back to, so that sizes stay unknown."""

    def __init__(self) -> None:
        self.content = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.content += bytes(data)
        return len(data)


def encoded(
    form: str, codec: str, times: list[int] | None = None, sound: float = 0, **options: str
) -> bytes:
    """A video; `times` of the frames in tenths of a second, and so many seconds of `sound`."""
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV cannot encode {codec}")
    piped = options.pop("piped", None)
    # A path, as what moves tables to the start opens the file once more.
    place = Path(tempfile.mkdtemp()) / "a"
    file: Any = Pipe() if piped else str(place)
    with av.open(file, "w", format=form, options=options) as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width = 48, 64
        stream.pix_fmt = {"gif": "rgb8", "ffv1": "bgr0"}.get(codec, "yuv420p")
        stream.codec_context.time_base = Fraction(1, 10)
        voice = container.add_stream("pcm_s16le", rate=8000) if sound else None
        if voice is not None:
            frame = av.AudioFrame.from_ndarray(
                np.zeros((1, int(8000 * sound)), np.int16), layout="mono"
            )
            frame.sample_rate = 8000
            container.mux(voice.encode(frame))
        for number, pixels in zip(times or range(FRAMES), pan(FRAMES), strict=False):
            shown = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            shown.pts = number
            container.mux(stream.encode(shown))
        container.mux(stream.encode())
    content: bytes = file.content if piped else place.read_bytes()
    shutil.rmtree(place.parent)
    return content


def check(content: bytes) -> None:
    check_complete(io.BytesIO(content), "clip 3")


WRITTEN: dict[str, tuple[str, str]] = {
    "mkv": ("matroska", "libx264"),
    "mkv without loss": ("matroska", "ffv1"),
    "webm": ("webm", "libvpx"),
    "mp4": ("mp4", "libx264"),
    "mov": ("mov", "mpeg4"),
    "avi": ("avi", "mpeg4"),
    "gif": ("gif", "gif"),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_nothing_is_read_of_a_file_that_was_cut_short(name: str) -> None:
    content = encoded(*WRITTEN[name])
    check(content)
    assert Video(content).length == FRAMES == len(list(Video(content)))
    for share in (0.02, 0.1, 0.5, 0.9, 0.999):
        cut = content[: int(len(content) * share)]
        with pytest.raises(ImageError, match="cut short"):
            Video(cut).length  # noqa: B018
        with pytest.raises(ImageError, match="cut short"):
            list(Video(cut))


@pytest.mark.parametrize("name", ["mkv", "webm", "avi"])
def test_a_byte_less_is_seen(name: str) -> None:
    content = encoded(*WRITTEN[name])
    content += bytes(len(content) % 2 if name == "avi" else 0)
    there = len(content) - 2
    with pytest.raises(ImageError) as error:
        check(content[:there])
    assert str(error.value) == (
        f"clip 3 is cut short: there are {there} bytes of it, and by its headers {there + 2} or "
        "more"
    )


def test_a_gif_without_its_last_byte() -> None:
    content = encoded("gif", "gif")
    for cut in (content[:-1], content[:11], content[: len(content) // 2]):
        with pytest.raises(ImageError) as error:
            check(cut)
        assert str(error.value) == ("clip 3 is cut short: the byte that ends a GIF is not there")


@pytest.mark.parametrize("flags", ["faststart", "frag_keyframe+empty_moov"])
def test_an_mp4_that_begins_with_its_tables(flags: str) -> None:
    content = encoded("mp4", "libx264", movflags=flags)
    assert Video(content).length == FRAMES
    for there in (len(content) * 6 // 10, content.index(b"mdat") + 20):
        with pytest.raises(ImageError) as error:
            list(Video(content[:there], name="clip 3"))
        assert str(error.value).startswith(f"clip 3 is cut short: there are {there} bytes of it, ")


# --- no false alarms ------------------------------------------------------------------------------


def with_pillow(kind: str) -> bytes:
    file = io.BytesIO()
    first, *rest = (Image.fromarray(frame) for frame in pan(4))
    first.save(file, kind, save_all=True, append_images=rest, duration=[2000, 40, 40, 5000])
    return file.getvalue()


def own(kind: str) -> bytes:
    file = io.BytesIO()
    write_movie(pan(FRAMES), file, kind=kind)
    return file.getvalue()


def boxed(size: int) -> bytes:
    """An .mp4 whose frames come last, in a box that says this of its length."""
    content = encoded("mp4", "libx264", movflags="faststart")
    at = content.index(b"mdat")
    return content[: at - 4] + size.to_bytes(4, "big") + content[at:]


LATE = [0, 1, 2, 3, 50, 51, 300]  # tenths of a second
FINE: dict[str, Callable[[], bytes]] = {
    **{f"ours, {kind}": lambda kind=kind: own(kind) for kind in MOVIES},  # type: ignore[misc]
    "frames now and then, mkv": lambda: encoded("matroska", "ffv1", LATE),
    "frames now and then, mp4": lambda: encoded("mp4", "libx264", LATE),
    "sound that goes on, mkv": lambda: encoded("matroska", "ffv1", sound=9),
    "sound that goes on, mov": lambda: encoded("mov", "mpeg4", sound=9),
    "live, webm": lambda: encoded("webm", "libvpx", piped="yes", live="1"),
    "through a pipe, mkv": lambda: encoded("matroska", "ffv1", piped="yes"),
    "through a pipe, avi": lambda: encoded("avi", "mpeg4", piped="yes"),
    "through a pipe, mp4": lambda: encoded(
        "mp4", "libx264", piped="yes", movflags="frag_keyframe+empty_moov"
    ),
    "without a size, mp4": lambda: boxed(0),
    "bytes behind, mp4": lambda: encoded("mp4", "libx264") + b"\xff\xff\xff\xffSEFT" + bytes(20),
    "bytes behind, gif": lambda: encoded("gif", "gif") + b"hello",
    "bytes behind, avi": lambda: encoded("avi", "mpeg4") + b"hello, you",
    "MPEG-TS": lambda: encoded("mpegts", "mpeg2video"),
    "Pillow's GIF": lambda: with_pillow("GIF"),
    "Pillow's GIF of one colour": lambda: gif_of_one_colour(),
}  # fmt: skip


def gif_of_one_colour() -> bytes:
    file = io.BytesIO()
    Image.new("P", (3, 5)).save(file, "GIF")
    return file.getvalue()


@pytest.mark.parametrize("make", FINE.values(), ids=FINE)
def test_whole_files_pass(make: Callable[[], bytes]) -> None:
    content = make()
    check(content)
    assert len(list(Video(content))) == Video(content).length


def test_without_a_size_the_packets_tell() -> None:
    content = boxed(0)
    with pytest.raises(ImageError) as error:
        Video(content[: len(content) - 100]).length  # noqa: B018
    assert str(error.value) == "the clip is broken or cut short: a part of it is damaged"


@pytest.mark.parametrize("content", [b"", b"G", b"GIF", b"RIFF", b"\x1a\x45\xdf\xa3", b"hello" * 9])
def test_what_is_no_video_is_left_to_others(content: bytes) -> None:
    check(content)


def test_a_chunk_without_its_last_even_byte() -> None:
    content = b"RIFF" + (7).to_bytes(4, "little") + b"AVI " + bytes(3)
    check(content)
    with pytest.raises(ImageError):
        check(content[:-1])


def test_large_boxes_and_several_chunks() -> None:
    large = (16).to_bytes(4, "big") + b"ftyp" + bytes(8)
    large += (1).to_bytes(4, "big") + b"mdat" + (20).to_bytes(8, "big") + b"1234"
    check(large)
    with pytest.raises(ImageError):
        check(large[:-1])
    chunk = b"RIFF" + (12).to_bytes(4, "little") + b"AVI " + bytes(8)
    check(chunk * 2)
    with pytest.raises(ImageError):
        check(chunk * 2 + chunk[:-1])


def test_files_and_paths_are_looked_at_as_well(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", np.stack([picture(n) for n in range(9)]), "ffv1", "bgr0")
    there = path.stat().st_size // 2
    path.write_bytes(path.read_bytes()[:there])

    def message(source: Path | IO[bytes]) -> str:
        with pytest.raises(ImageError) as error:
            list(Video(source))
        return str(error.value)

    said = message(path).removeprefix(f"'{path}' ")
    assert said.startswith(f"is cut short: there are {there} bytes of it, and by its headers ")
    with path.open("rb") as file:
        file.seek(10)
        assert message(file) == f"the clip {said}"
