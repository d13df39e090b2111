"""Clips: exact frames out of every container, and out of folders of pictures."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from source_files import Pixels, pan, picture, png, write, write_video

from vqtok.errors import ImageError, InputError, LoadError
from vqtok.pictures import load_image
from vqtok.sources import clips, open_source
from vqtok.sources.clips import FrameFolder, Video

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
    for start in range(FRAMES):
        for count, stride in ((1, 1), (4, 1), (3, 5)):
            last = start + (count - 1) * stride
            if last < FRAMES:
                found = video.frames(start, count, stride)
                assert np.array_equal(found, whole[start : last + 1 : stride])


def test_reading_begins_at_a_key_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", pan(FRAMES), "libx264", reorder=2)
    read: list[int] = []
    monkeypatch.setattr(clips, "_pixels", lambda frame: read.append(1) or picture(0))
    given: list[Any] = []
    whole = clips._decoded

    def counted(path: Path, begin: int | None = None) -> Any:
        for frame in whole(path, begin):
            given.append(frame)
            yield frame

    monkeypatch.setattr(clips, "_decoded", counted)
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


def test_videos_in_folders(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    write_video(tmp_path / "run" / "a.mp4", pan(3), "libx264")
    write_video(tmp_path / "b.avi", pan(3), "mpeg4")
    write(tmp_path / "metadata.jsonl", '{"file_name": "b.avi", "text": "a view"}')
    source = open_source(tmp_path)
    assert source.is_video
    assert [source[n].columns for n in range(2)] == [{"text": "a view"}, {"label": "run"}]
    assert list(source.keys) == ["b.avi", "run/a.mp4"]


def test_folders_of_frames(tmp_path: Path) -> None:
    for number in (2, 10, 9):
        write(tmp_path / "walk" / "one" / f"cam2_{number}.png", png(picture(number)))
    write(tmp_path / "two" / "000.png", png(picture(3)))
    source = open_source(tmp_path, kind="clips")
    assert list(source.keys) == ["two", "walk/one"]
    assert [source[n].columns for n in range(2)] == [{}, {"label": "walk"}]
    clip = source[1].data
    assert clip.length == 3
    assert np.array_equal(clip.frames(0, 2, 2), np.stack([picture(2), picture(10)]))


def test_a_folder_of_frames_itself(tmp_path: Path) -> None:
    write(tmp_path / "walk" / "0.png", png(picture(3)))
    assert list(open_source(tmp_path / "walk", kind="clips").keys) == ["walk"]


def test_frames_beyond_the_end(tmp_path: Path) -> None:
    clip = FrameFolder([write(tmp_path / f"{n}.png", png(picture(n))) for n in range(5)])
    assert clip.frames(0, 3, 2).shape == (3, 12, 16, 3)
    for start, count, stride in ((0, 6, 1), (-1, 1, 1), (1, 3, 2), (0, 0, 1), (0, 2, 0)):
        with pytest.raises(InputError) as error:
            clip.frames(start, count, stride)
        assert str(error.value) == (
            f"'{tmp_path}' has 5 frames; it cannot give {count} from {start} on, {stride} apart"
        )


def test_frames_of_two_sizes(tmp_path: Path) -> None:
    write(tmp_path / "0.png", png(picture(0)))
    write(tmp_path / "1.png", png(picture(0, 8, 8)))
    clip = open_source(tmp_path, kind="clips")[0].data
    assert np.array_equal(clip.frames(0, 1)[0], load_image(tmp_path / "0.png"))
    with pytest.raises(ImageError) as error:
        clip.frames(0, 2)
    assert str(error.value) == f"'{tmp_path}' has frames of several sizes: 8 x 8 and 16 x 12"


def refused(root: Path) -> str:
    with pytest.raises(LoadError) as error:
        open_source(root, kind="clips")
    return str(error.value).replace(str(root), "ROOT")


def test_frames_need_numbers(tmp_path: Path) -> None:
    write(tmp_path / "a" / "first.png", b"")
    assert refused(tmp_path) == "the frame 'ROOT/a/first.png' has no number in its name"


def test_frames_need_numbers_of_their_own(tmp_path: Path) -> None:
    write(tmp_path / "a" / "01.png", b"")
    write(tmp_path / "a" / "1.png", b"")
    assert refused(tmp_path) == "two frames have one number: 'a/01.png' and 'a/1.png' in 'ROOT'"


def test_videos_among_pictures(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", b"")
    write(tmp_path / "a.png", b"")
    assert refused(tmp_path) == (
        "'ROOT' holds video files, such as 'a.mp4', and pictures, such as 'a.png', which may be "
        "frames; keep them in separate folders"
    )


def test_one_key_in_two_folders(tmp_path: Path) -> None:
    for root in ("x", "y"):
        write(tmp_path / root / "one" / "0.png", png(picture(0)))
    with pytest.raises(LoadError) as error:
        open_source([tmp_path / "x", tmp_path / "y"], kind="clips")
    assert str(error.value).replace(str(tmp_path), "ROOT") == (
        "two samples have the key 'one': 'ROOT/x/one' and 'ROOT/y/one'; rename one of them"
    )


def test_broken_videos_are_bad_samples(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", pan(8), "libx264")
    write(tmp_path / "b.mp4", path.read_bytes()[:200])
    write(tmp_path / "c.mp4", b"hello")
    source = open_source(tmp_path)
    for index in (1, 2):
        with pytest.raises(ImageError) as error:
            source[index].data.length  # noqa: B018
        assert str(error.value) == (
            f"'{tmp_path / source.keys[index]}' is no video, broken or cut short: Invalid data "
            "found when processing input"
        )


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
