from __future__ import annotations

import io
import tracemalloc
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from source_files import Pixels, picture

from vqtok.errors import ConfigError, ImageError, InputError, LoadError, MissingExtraError
from vqtok.movies import MOVIES, MovieWriter, write_movie
from vqtok.streams import open_clip

pytest.importorskip("av", reason="videos need PyAV")


def view(count: int = 9, height: int = 48, width: int = 64) -> Pixels:
    """Smooth and saturated, and another at each time."""
    y, x = np.mgrid[:height, :width]
    frames = [
        np.stack([x * 2 + 60, 200 - y * 2, 20 + 10 * n + 0 * x], axis=-1) for n in range(count)
    ]
    return np.stack(frames).clip(0, 255).astype(np.uint8)


def back(path: Path) -> Pixels:
    return np.stack(list(open_clip(path)))


# On average, of 255: 4:2:0 and quantization; colours of a wrong matrix are 10 and more away.
TOLERANCE = {".gif": 3.0, ".mkv": 0.0, ".mp4": 1.5, ".webm": 2}


@pytest.mark.parametrize("kind", MOVIES)
@pytest.mark.parametrize(("height", "width"), [(48, 64), (47, 63)])
def test_what_is_written_comes_back(kind: str, height: int, width: int, tmp_path: Path) -> None:
    frames = view(9, height, width)
    path = tmp_path / f"a{kind}"
    assert write_movie(iter(frames), path, fps=10) == 9
    found = back(path)
    # The format of .mp4 has even sides: one row and column are there twice.
    even = kind == ".mp4"
    assert found.shape == (9, height + even * (height % 2), width + even * (width % 2), 3)
    error = np.abs(found[:, :height, :width].astype(int) - frames)
    assert error.mean() <= TOLERANCE[kind]
    assert open_clip(path).fps == pytest.approx(10)


@pytest.mark.parametrize("kind", [".mkv", ".mp4", ".webm"])
@pytest.mark.parametrize("fps", [30000 / 1001, 24, 1, 12.5])
def test_rates(kind: str, fps: float, tmp_path: Path) -> None:
    path = tmp_path / f"a{kind}"
    write_movie(view(4, 16, 16), path, fps=fps)
    assert open_clip(path).fps == pytest.approx(fps, rel=1e-3)


def test_a_gif_is_shown_as_long_as_the_clip(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    write_movie(view(30, 8, 8), path, fps=30)
    with Image.open(path) as shown:
        times = []
        for number in range(shown.n_frames):
            shown.seek(number)
            times.append(shown.info["duration"])
        assert shown.info["loop"] == 0
    assert (sum(times), set(times)) == (1000, {30, 40})


@pytest.mark.parametrize(("fps", "shown"), [(50, 20), (60, 20), (1000, 20), (30, 30), (1, 1000)])
def test_frames_of_a_gif_are_never_shown_for_less_than_programs_take(
    fps: float, shown: int, tmp_path: Path
) -> None:
    write_movie(view(3, 8, 8), tmp_path / "a.gif", fps=fps)
    with Image.open(tmp_path / "a.gif") as found:
        assert found.info["duration"] == shown
        found.seek(1)
        assert found.info["duration"] in (shown, shown + 10)


@pytest.mark.parametrize("kind", [".mp4", ".webm"])
def test_colours_say_what_they_are(kind: str, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    write_movie(view(3), tmp_path / f"a{kind}")
    with av.open(str(tmp_path / f"a{kind}")) as container:
        frame = next(container.decode(video=0))
        assert frame.colorspace in (5, 6)  # BT.470BG and BT.601 have one matrix
        assert frame.color_range == 1


def test_frames_of_a_gif_have_colours_of_their_own(tmp_path: Path) -> None:
    frames = np.stack([np.full((8, 8, 3), value, np.uint8) for value in (10, 200)])
    write_movie(frames, tmp_path / "a.gif")
    assert np.array_equal(back(tmp_path / "a.gif"), frames)


def test_open_files() -> None:
    file = io.BytesIO()
    assert write_movie(view(3), file, kind=".mkv") == 3
    assert np.array_equal(np.stack(list(open_clip(file))), view(3))


@pytest.mark.parametrize("kind", [".gif", ".mp4"])
def test_memory_holds_a_few_frames(kind: str) -> None:
    def frames() -> Iterator[Pixels]:
        for number in range(40):
            yield np.full((240, 320, 3), number, np.uint8)

    tracemalloc.start()
    try:
        write_movie(frames(), io.BytesIO(), kind=kind)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 * 240 * 320 * 3


@pytest.mark.parametrize(
    ("frames", "options", "kind", "message"),
    [
        ([], {}, ImageError, "a video has at least one frame; got none"),
        (
            [picture(0), picture(0, 8, 8)],
            {},
            ImageError,
            "frame 1 has the shape (8, 8, 3), the first (12, 16, 3)",
        ),
        (
            [picture(0) / 255],
            {},
            ImageError,
            "frames are uint8 arrays (H, W, 3); frame 0 is float64 (12, 16, 3)",
        ),
        (
            [picture(0)[0]],
            {},
            ImageError,
            "frames are uint8 arrays (H, W, 3); frame 0 is uint8 (16, 3)",
        ),
        (
            [picture(0)[:0]],
            {},
            ImageError,
            "frame 0 is 16 wide and 0 high; a side has 1 to 65535 pixels",
        ),
        (
            [np.zeros((1, 65536, 3), np.uint8)],
            {"kind": ".gif"},
            ImageError,
            "frame 0 is 65536 wide and 1 high; a side has 1 to 65535 pixels",
        ),
        (
            [picture(0)],
            {"fps": "25"},
            InputError,
            "a clip has 0.01 to 1000.0 frames a second; got fps='25'",
        ),
        (
            [picture(0)],
            {"fps": float("nan")},
            InputError,
            "a clip has 0.01 to 1000.0 frames a second; got fps=nan",
        ),
        (
            [picture(0)],
            {"fps": True},
            InputError,
            "a clip has 0.01 to 1000.0 frames a second; got fps=True",
        ),
        (
            [picture(0)],
            {"fps": 0.0},
            InputError,
            "a clip has 0.01 to 1000.0 frames a second; got fps=0.0",
        ),
        (
            [picture(0)],
            {"kind": ".flv"},
            InputError,
            "'ROOT/a.mkv' cannot be written as '.flv'; videos are .gif, .mkv, .mp4, .webm",
        ),
    ],
)
def test_what_cannot_be_written(
    frames: list[Any], options: dict[str, Any], kind: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(kind) as error:
        write_movie(frames, tmp_path / "a.mkv", **options)
    assert str(error.value).replace(str(tmp_path), "ROOT") == message


@pytest.mark.parametrize("kind", MOVIES)
def test_what_was_there_stays_until_all_is_written(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{kind}"
    path.write_bytes(b"old")
    with pytest.raises(ImageError):
        write_movie([*view(9), picture(0, 8, 8)], path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_places_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "a.mkv").mkdir()
    for place in (tmp_path / "none" / "a.mkv", tmp_path / "a.mkv"):
        with pytest.raises(LoadError) as error:
            write_movie(view(1), place)
        assert str(error.value) == f"a video is a file in a folder that exists; got '{place}'"


@pytest.mark.parametrize("fps", [np.float32(12.5), Fraction(25, 2), 12.5])
def test_rates_of_other_kinds_of_numbers(fps: Any, tmp_path: Path) -> None:
    write_movie(view(4, 16, 16), tmp_path / "a.mkv", fps=fps)
    assert open_clip(tmp_path / "a.mkv").fps == 12.5


def test_an_open_file_needs_a_kind() -> None:
    with pytest.raises(InputError) as error:
        write_movie(view(1), io.BytesIO())
    assert str(error.value) == (
        "the video cannot be written as None; videos are .gif, .mkv, .mp4, .webm"
    )


def test_without_av(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(MissingExtraError) as error:
        write_movie(view(1), tmp_path / "a.mp4")
    assert str(error.value) == (
        f"'{tmp_path / 'a.mp4'}' is written with av, which is not installed: pip install "
        "'vqtok[video]'"
    )
    assert write_movie(view(2), tmp_path / "a.gif") == 2


def test_an_ffmpeg_without_an_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import av

    monkeypatch.setattr(av, "codecs_available", {"ffv1"})
    with pytest.raises(ConfigError) as error:
        write_movie(view(1), tmp_path / "a.mp4")
    assert str(error.value) == ("the FFmpeg in this PyAV cannot write libx264; take another kind")


@pytest.mark.parametrize("kind", MOVIES)
def test_frames_that_are_handed_in_one_by_one(kind: str) -> None:
    whole, file = io.BytesIO(), io.BytesIO()
    frames = view(5)
    write_movie(frames, whole, kind=kind)
    with MovieWriter(file, kind=kind) as movie:
        for number, frame in enumerate(frames):
            assert movie.count == number
            movie.push(frame)
        assert movie.finish() == 5
    found = [list(open_clip(io.BytesIO(one.getvalue()))) for one in (whole, file)]
    assert np.array_equal(*found)


@pytest.mark.parametrize("kind", MOVIES)
def test_a_writer_that_is_left_in_the_middle(kind: str) -> None:
    file = io.BytesIO()
    with pytest.raises(KeyError), MovieWriter(file, kind=kind) as movie:
        movie.push(view(1)[0])
        raise KeyError
    file.write(b"")  # it is still open
