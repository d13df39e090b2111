"""Exact frames out of every container, by number and one after another."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from source_files import Pixels, pan, picture, write, write_video

from vqtok import videos
from vqtok.errors import ImageError, LoadError
from vqtok.videos import Video

FRAMES = 30
# (file, codec, pixel format, options)
CASES = [
    ("h264.mp4", "libx264", "yuv420p", {"reorder": 2}),
    ("h264.mov", "libx264", "yuv420p", {}),
    ("h264.mkv", "libx264", "yuv420p", {"reorder": 3}),
    ("open-gop.mp4", "libx264", "yuv420p", {"x264-params": "open-gop=1:keyint=8:scenecut=0"}),
    ("h264-without-stamps.avi", "libx264", "yuv420p", {"reorder": 2}),
    ("h265.mp4", "libx265", "yuv420p", {"reorder": 2, "x265-params": "log-level=none"}),
    ("mpeg4.avi", "mpeg4", "yuv420p", {"reorder": 2}),
    ("mpeg4-in-order.avi", "mpeg4", "yuv420p", {}),
    ("vp8.webm", "libvpx", "yuv420p", {"auto-alt-ref": "1", "lag-in-frames": "10"}),
    ("vp9.webm", "libvpx-vp9", "yuv420p", {"cpu-used": "8", "deadline": "realtime"}),
    ("animation.gif", "gif", "rgb8", {}),
    ("few-keys.mp4", "libx264", "yuv420p", {"gop": 250, "reorder": 2}),
]


def decoded(path: Path) -> Pixels:
    """From the first frame to the last, as PyAV has them."""
    av = pytest.importorskip("av", reason="videos need PyAV")
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack(frames)


@pytest.mark.parametrize(("name", "codec", "pixel_format", "options"), CASES)
def test_frames_are_exact(
    tmp_path: Path, name: str, codec: str, pixel_format: str, options: dict[str, Any]
) -> None:
    path = write_video(tmp_path / name, pan(FRAMES), codec, pixel_format, **options)
    video, whole = Video(path), decoded(path)
    assert video.length == len(whole) == FRAMES
    assert video.fps == pytest.approx(10, rel=0.01)
    assert np.array_equal(np.stack(list(video)), whole)
    for start in range(FRAMES):
        for count, stride in ((1, 1), (4, 1), (3, 5)):
            last = start + (count - 1) * stride
            if last < FRAMES:
                found = video.frames(start, count, stride)
                assert np.array_equal(found, whole[start : last + 1 : stride])


def test_reading_begins_at_a_key_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", pan(FRAMES), "libx264", reorder=2)
    read: list[int] = []
    monkeypatch.setattr(Video, "_pixels", lambda video, frame: read.append(1) or picture(0))
    given: list[Any] = []
    whole = Video._decoded

    def counted(video: Video, begin: int | None = None) -> Any:
        for frame in whole(video, begin):
            given.append(frame)
            yield frame

    monkeypatch.setattr(Video, "_decoded", counted)
    Video(path).frames(20, 2)
    assert len(read) == 2
    assert len(given) <= 8 + 2


def test_a_video_lies_as_it_says(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", pan(8), "libx264")
    upright = Video(path).frames(2, 3)
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 44
    # The matrix of a telephone held upright: turned by a quarter, clockwise.
    content[at : at + 36] = struct.pack(
        ">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30
    )
    turned = Video(write(tmp_path / "b.mp4", bytes(content))).frames(2, 3)
    assert np.array_equal(turned, np.rot90(upright, -1, axes=(1, 2)))


def test_what_shows_through_is_white(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="videos need PyAV")
    clear = np.dstack([picture(0, 16, 16), np.zeros((16, 16, 1), np.uint8)])
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = 16, 16, "bgra"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(clear, format="rgba")))
        container.mux(stream.encode())
    assert (Video(path).frames(0, 1) == 255).all()
    dark = Video(path, background=(1, 2, 3))
    assert set(map(tuple, next(iter(dark)).reshape(-1, 3))) == {(1, 2, 3)}


def test_a_file_without_pictures(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="videos need PyAV")
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(ImageError) as error:
        Video(path).length  # noqa: B018
    assert str(error.value) == f"'{path}' has no pictures in it, only other streams"


def test_a_video_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(LoadError) as error:
        Video(tmp_path / "a.mp4").length  # noqa: B018
    assert str(error.value) == f"'{tmp_path / 'a.mp4'}' cannot be read: No such file or directory"


def test_bytes_and_open_files(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", pan(12), "libx264", reorder=2)
    whole = decoded(path)
    with path.open("rb") as file:
        for source in (path.read_bytes(), file, io.BytesIO(path.read_bytes())):
            video = Video(source)
            assert video.length == 12
            assert np.array_equal(video.frames(5, 3), whole[5:8])
            assert np.array_equal(np.stack(list(video)), whole)
            assert np.array_equal(np.stack(list(video)), whole)


def test_damaged_frames_are_errors(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", pan(60), "libx264", reorder=2)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 40] = bytes(40)
    with pytest.raises(ImageError) as error:
        list(Video(bytes(content), name="clip 3"))
    assert str(error.value) == "clip 3 is broken or cut short: a frame of it is damaged"


def test_a_codec_that_nobody_knows(tmp_path: Path) -> None:
    content = write_video(tmp_path / "a.mp4", pan(4), "libx264").read_bytes()
    path = write(tmp_path / "b.mp4", content.replace(b"avc1", b"zzz1"))
    for look in (lambda: Video(path).length, lambda: list(Video(path)), lambda: Video(path).fps):
        with pytest.raises(ImageError) as error:
            look()
        assert str(error.value) == (
            f"'{path}' cannot be read: the FFmpeg in this PyAV has no decoder for its pictures"
        )


def test_of_the_packets_that_are_counted_few_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.mkv", pan(60), "libx264", reorder=2)
    alive = most = 0

    class Counted:
        def __init__(self, packet: Any) -> None:
            nonlocal alive, most
            self.packet = packet
            alive += 1
            most = max(most, alive)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.packet, name)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    class Container:
        def __init__(self, container: Any) -> None:
            self.container = container

        def demux(self, stream: Any) -> Iterator[Counted]:
            return map(Counted, self.container.demux(stream))

    whole = videos._opened

    @contextmanager
    def opened(video: Video) -> Iterator[tuple[Any, Any]]:
        with whole(video) as (container, stream):
            yield Container(container), stream

    monkeypatch.setattr(videos, "_opened", opened)
    assert Video(path).length == 60
    assert most <= 2


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_a_webm_that_is_transparent(
    codec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    av = pytest.importorskip("av", reason="videos need PyAV")
    clear = np.dstack([np.full((32, 48, 3), 90, np.uint8), np.full((32, 48), 255, np.uint8)])
    clear[:, :24, 3] = 0
    path = tmp_path / "a.webm"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options={"auto-alt-ref": "0"})
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuva420p"
        stream.metadata["alpha_mode"] = "1"
        for _ in range(9):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(clear, format="rgba")))
        container.mux(stream.encode())
    video = Video(path, background=(255, 0, 0))
    for frame in (*video, *video.frames(4, 2)):
        assert np.abs(frame[:, :20].astype(int) - (255, 0, 0)).mean() < 3
        assert np.abs(frame[:, 28:].astype(int) - 90).mean() < 3
    monkeypatch.setattr(av, "codecs_available", {"vp9"})
    with pytest.raises(ImageError) as error:
        list(Video(path))
    assert str(error.value) == (
        f"'{path}' is transparent in places, and the FFmpeg in this PyAV has no {codec} to read "
        "that with"
    )


def test_frames_larger_than_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mkv", pan(2), "libx264")
    monkeypatch.setattr(videos, "MAX_PIXELS", 64 * 48 - 1)
    with pytest.raises(ImageError) as error:
        next(iter(Video(path)))
    assert str(error.value) == (
        f"'{path}' is 64 wide and 48 high; at most 3071 pixels a frame are taken"
    )
