"""Clips in folders: video files, and numbered frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from source_files import pan, picture, png, write, write_video

from vqtok.errors import ImageError, InputError, LoadError
from vqtok.pictures import load_image
from vqtok.sources import open_source
from vqtok.sources.clips import FrameFolder


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
    write(tmp_path / "b.mp4", path.read_bytes()[:-200])
    write(tmp_path / "c.mp4", b"hello")
    source = open_source(tmp_path)
    there = path.stat().st_size
    for index, fault in (
        (1, f"is cut short: there are {there - 200} bytes of it, and by its headers {there} or "
            "more"),
        (2, "is no video, broken or cut short: Invalid data found when processing input"),
    ):  # fmt: skip
        with pytest.raises(ImageError) as error:
            source[index].data.length  # noqa: B018
        assert str(error.value) == f"'{tmp_path / source.keys[index]}' {fault}"
