"""Any clip -> its frames, and what is one clip and what are several."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from source_files import Pixels, picture, png, write, write_video

from vqtok.errors import ImageError, InputError, LoadError, MissingExtraError
from vqtok.pictures import load_image
from vqtok.sources.clips import FrameFolder, Video
from vqtok.streams import ClipReader, is_clip, open_clip

T, H, W = 5, 12, 16
FRAMES = np.stack([picture(number) for number in range(T)])


def film(folder: Path, name: str = "a.mkv", frames: Pixels = FRAMES) -> Path:
    return write_video(folder / name, frames, "ffv1", "bgr0")


def animated(folder: Path, name: str) -> Path:
    first, *rest = map(Image.fromarray, FRAMES)
    options = {"lossless": True} if name.endswith("webp") else {}
    first.save(folder / name, save_all=True, append_images=rest, duration=50, **options)
    return folder / name


def files(folder: Path) -> list[Path]:
    return [write(folder / f"{n}.png", png(frame)) for n, frame in enumerate(FRAMES)]


ONE: dict[str, Callable[[Path], Any]] = {
    "path of a video": film,
    "str of a video": lambda folder: str(film(folder)),
    "video without a suffix": lambda folder: film(folder).rename(folder / "upload"),
    "bytes of a video": lambda folder: film(folder).read_bytes(),
    "open video": lambda folder: io.BytesIO(film(folder).read_bytes()),
    "Video": lambda folder: Video(film(folder)),
    "folder of frames": lambda folder: files(folder)[0].parent,
    "str of a folder of frames": lambda folder: str(files(folder)[0].parent),
    "FrameFolder": lambda folder: FrameFolder(files(folder)),
    "animated WebP": lambda folder: animated(folder, "a.webp"),
    "animated PNG": lambda folder: animated(folder, "a.png"),
    "bytes of an animated WebP": lambda folder: animated(folder, "a.webp").read_bytes(),
    "open animated WebP": lambda folder: Image.open(
        io.BytesIO(animated(folder, "a.webp").read_bytes())
    ),
    "array": lambda folder: FRAMES,
    "mapped array": lambda folder: np.load(saved(folder), mmap_mode="r"),
    "tensor": lambda folder: torch.from_numpy(FRAMES),
    "tensor, channels first": lambda folder: torch.from_numpy(FRAMES).movedim(-1, 1),
    "list of arrays": lambda folder: list(FRAMES),
    "tuple of tensors": lambda folder: tuple(torch.from_numpy(FRAMES)),
    "list of pictures": lambda folder: [Image.fromarray(frame) for frame in FRAMES],
    "list of files": files,
    "array of names": lambda folder: np.array([str(path) for path in files(folder)]),
    "list of bytes": lambda folder: [png(frame) for frame in FRAMES],
    "reader": lambda folder: open_clip(FRAMES),
}


def saved(folder: Path) -> Path:
    np.save(folder / "a.npy", FRAMES)
    return folder / "a.npy"


@pytest.mark.parametrize("make", ONE.values(), ids=ONE)
def test_every_kind_of_clip(make: Callable[[Path], Any], tmp_path: Path) -> None:
    source = make(tmp_path)
    assert is_clip(source)
    clip = open_clip(source)
    assert clip.size == (H, W)
    assert clip.length == T
    for _ in range(2):
        frames = list(clip)
        assert all(frame.dtype == np.uint8 and frame.shape == (H, W, 3) for frame in frames)
        assert np.array_equal(np.stack(frames), FRAMES)
    assert np.array_equal(clip.frames(1, 2, 3), FRAMES[1::3])


PICTURES: dict[str, Callable[[Path], Any]] = {
    "path": lambda folder: write(folder / "a.png", png(FRAMES[0])),
    "bytes": lambda folder: png(FRAMES[0]),
    "open file": lambda folder: io.BytesIO(png(FRAMES[0])),
    "array": lambda folder: FRAMES[0],
    "tensor": lambda folder: torch.from_numpy(FRAMES[0]).movedim(-1, 0),
    "picture": lambda folder: Image.fromarray(FRAMES[0]),
    "list of one": lambda folder: [FRAMES[0]],
}


@pytest.mark.parametrize("make", PICTURES.values(), ids=PICTURES)
def test_a_picture_is_a_clip_of_one_frame(make: Callable[[Path], Any], tmp_path: Path) -> None:
    source = make(tmp_path)
    assert is_clip(source)
    clip = open_clip(source)
    assert (clip.length, clip.fps, clip.size) == (1, None, (H, W))
    assert np.array_equal(np.stack(list(clip)), FRAMES[:1])


SEVERAL: dict[str, Callable[[Path], Any]] = {
    "list of videos": lambda folder: [film(folder), film(folder, "b.mkv")],
    "list of a folder of frames": lambda folder: [files(folder)[0].parent],
    "list of one video": lambda folder: [film(folder)],
    "list of arrays": lambda folder: [FRAMES, FRAMES[:2]],
    "list of lists": lambda folder: [list(FRAMES), files(folder)],
    "list of readers": lambda folder: [open_clip(FRAMES)],
    "a video and a picture": lambda folder: [FRAMES[0], film(folder)],
    "bytes of videos": lambda folder: [film(folder).read_bytes()],
    "animated pictures": lambda folder: [animated(folder, "a.webp")],
    "array of clips": lambda folder: FRAMES[None],
    "tensor of clips": lambda folder: torch.from_numpy(FRAMES)[None],
    "array of paths": lambda folder: np.array([str(film(folder))], object),
    "iterator": lambda folder: iter([FRAMES]),
    "nothing": lambda folder: [],
}


@pytest.mark.parametrize("make", SEVERAL.values(), ids=SEVERAL)
def test_what_is_several_clips(make: Callable[[Path], Any], tmp_path: Path) -> None:
    assert not is_clip(make(tmp_path))


def test_pages_are_no_frames(tmp_path: Path) -> None:
    first, *rest = map(Image.fromarray, FRAMES)
    first.save(tmp_path / "a.tif", save_all=True, append_images=rest)
    assert open_clip(tmp_path / "a.tif").length == 1


def test_asking_leaves_open_files_at_their_start(tmp_path: Path) -> None:
    file = io.BytesIO(png(FRAMES[0]))
    assert is_clip([file])
    assert np.array_equal(load_image(file), FRAMES[0])


def test_rates(tmp_path: Path) -> None:
    assert open_clip(film(tmp_path)).fps == 10
    assert open_clip(animated(tmp_path, "a.webp")).fps == 20
    assert open_clip(animated(tmp_path, "a.png")).fps == 20
    assert open_clip(Video(film(tmp_path))).fps == 10
    assert open_clip(FrameFolder(files(tmp_path))).fps is None


@pytest.mark.parametrize("ending", ["avif", "gif", "png", "webp"])
def test_a_rate_is_an_average(ending: str, tmp_path: Path) -> None:
    if f".{ending}" not in Image.registered_extensions():
        pytest.skip(f"this Pillow knows no {ending}")
    path = tmp_path / f"a.{ending}"
    first, *rest = map(Image.fromarray, FRAMES[:4])
    first.save(path, save_all=True, append_images=rest, duration=[2000, 40, 40, 40])
    assert open_clip(path).fps == pytest.approx(4 / 2.12)
    if ending != "gif":
        with Image.open(path) as shown:
            shown.seek(2)
            clip = open_clip(shown)
            assert clip.fps == pytest.approx(4 / 2.12)
            assert len(list(clip)) == 4


def test_a_rate_of_what_is_broken(tmp_path: Path) -> None:
    content = animated(tmp_path, "a.png").read_bytes()
    with pytest.raises(ImageError) as error:
        open_clip(content[: len(content) * 7 // 10], name="clip 3").fps  # noqa: B018
    assert "clip 3 is broken or cut short: " in str(error.value)


def test_an_animated_gif_is_read_as_sources_read_it(tmp_path: Path) -> None:
    path = animated(tmp_path, "a.gif")
    pytest.importorskip("av", reason="videos need PyAV")
    assert np.array_equal(np.stack(list(open_clip(path))), Video(path).frames(0, T))


def test_a_gif_without_durations_has_all_its_frames() -> None:
    pytest.importorskip("av", reason="videos need PyAV")
    frames = [Image.fromarray(np.full((16, 16, 3), 30 * n, np.uint8)) for n in range(5)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    clip = open_clip(file.getvalue())
    assert (clip.length, len(list(clip))) == (5, 5)
    assert len(list(open_clip(file))) == 5


def test_an_iterator_comes_by_once() -> None:
    clip = open_clip(iter(FRAMES), name="the camera")
    assert (clip.length, clip.size) == (None, (H, W))
    assert np.array_equal(np.stack(list(clip)), FRAMES)
    with pytest.raises(InputError) as error:
        list(clip)
    assert str(error.value) == (
        "the frames of the camera came out of an iterator and are used up; a list can be read again"
    )
    assert np.array_equal(open_clip(iter(FRAMES)).frames(1, 2, 2), FRAMES[1:4:2])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FRAMES, "the clip has 5 frames; it cannot give {} from {} on, {} apart"),
        (lambda: iter(FRAMES), "the clip cannot give {} frames from {} on, {} apart"),
    ],
)
def test_frames_that_are_not_there(make: Callable[[], Any], message: str) -> None:
    for start, count, stride in ((3, 3, 1), (9, 1, 1), (-1, 1, 1), (0, 0, 1), (0, 2, 0)):
        with pytest.raises(InputError) as error:
            open_clip(make()).frames(start, count, stride)
        assert str(error.value) == message.format(count, start, stride)


def test_watching(tmp_path: Path) -> None:
    seen: list[int] = []
    clip = open_clip(film(tmp_path)).watched(seen.append)
    assert (clip.length, clip.fps, clip.name) == (T, 10, f"'{tmp_path / 'a.mkv'}'")
    assert np.array_equal(np.stack(list(clip)), FRAMES)
    assert seen == [1] * T


def test_what_shows_through() -> None:
    clear = np.zeros((2, 8, 8, 4), np.uint8)
    assert (open_clip(clear).frames(0, 2) == 255).all()
    for source in (clear, iter(clear), list(clear)):
        dark = np.stack(list(open_clip(source, background=(1, 2, 3))))
        assert set(map(tuple, dark.reshape(-1, 3))) == {(1, 2, 3)}


def test_memory_holds_a_few_frames(tmp_path: Path) -> None:
    path = film(tmp_path, frames=np.zeros((60, 240, 320, 3), np.uint8))
    frame = 240 * 320 * 3
    list(open_clip(path).watched(lambda n: None).frames(0, 1))
    tracemalloc.start()
    try:
        for _ in open_clip(path):
            pass
        for _ in open_clip(np.zeros((240, 320, 3), np.uint8) for _ in range(60)):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 * frame


def no_frames() -> Iterator[Pixels]:
    return iter(())


@pytest.mark.parametrize(
    ("source", "kind", "message"),
    [
        ([], ImageError, "clip 3 has no frames; a clip has at least one"),
        (no_frames(), ImageError, "clip 3 has no frames; a clip has at least one"),
        (FRAMES[:0], ImageError, "clip 3 has no frames; a clip has at least one"),
        (
            FRAMES[None],
            ImageError,
            f"clip 3 has the shape (1, {T}, {H}, {W}, 3); a clip is an array (T, H, W, C) or a "
            "tensor (T, C, H, W), and a picture is a clip of one frame",
        ),
        (
            np.zeros((3, 16, 16), np.uint8),
            ImageError,
            "clip 3 has the shape (3, 16, 16); a clip is an array (T, H, W, C) or a tensor "
            "(T, C, H, W), and a picture is a clip of one frame",
        ),
        (
            torch.zeros((5, 16, 16)),
            ImageError,
            "clip 3 has the shape (5, 16, 16); a clip is an array (T, H, W, C) or a tensor "
            "(T, C, H, W), and a picture is a clip of one frame",
        ),
        (
            [FRAMES[0], FRAMES],
            ImageError,
            f"frame 1 of clip 3 is an array of shape ({T}, {H}, {W}, 3); a picture is (H, W), "
            "(H, W, 1), (H, W, 3) or (H, W, 4); pass the pictures of a batch one by one",
        ),
        (
            [FRAMES[0], 3],
            ImageError,
            "frame 1 of clip 3 is a int; a picture is a path, the bytes of a file, an open file, a "
            "PIL image, an array or a tensor",
        ),
        (
            3,
            ImageError,
            "clip 3 is of the type int; a clip is the path, the bytes or an open file of a video "
            "or of a picture, a folder, a list or an iterator of pictures, an array (T, H, W, C) "
            "or a tensor (T, C, H, W)",
        ),
        (
            b"hello",
            ImageError,
            "clip 3 is no video, broken or cut short: Invalid data found when processing input",
        ),
        ("gone.mp4", LoadError, "there is no file clip 3"),
        (
            "https://example.org/a.mp4",
            ImageError,
            "clip 3 is a URL, and vqtok fetches none: download it, then pass its path or bytes",
        ),
    ],
)
def test_what_is_no_clip(source: Any, kind: type[Exception], message: str) -> None:
    pytest.importorskip("av", reason="videos need PyAV")
    with pytest.raises(kind) as error:
        list(open_clip(source, name="clip 3"))
    assert str(error.value) == message


def test_names_in_messages(tmp_path: Path) -> None:
    with pytest.raises(LoadError) as error:
        list(open_clip([tmp_path / "0.png"]))
    assert str(error.value) == f"there is no file '{tmp_path / '0.png'}'"
    broken = write(tmp_path / "b.jpg", b"hello")
    with pytest.raises(ImageError) as error:
        list(open_clip(broken))
    assert str(error.value) == f"'{broken}' is not a picture in a format that Pillow reads here"


def test_a_broken_animation(tmp_path: Path) -> None:
    content = animated(tmp_path, "a.png").read_bytes()
    with pytest.raises(ImageError) as error:
        list(open_clip(content[: len(content) * 7 // 10], name="clip 3"))
    assert "clip 3 is broken or cut short: " in str(error.value)


def test_without_av(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = film(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(MissingExtraError) as error:
        list(open_clip(path))
    assert str(error.value) == (
        f"'{path}' is read with av, which is not installed: pip install 'vqtok[video]'"
    )
    assert open_clip(animated(tmp_path, "a.webp")).length == T


def test_load_image_says_what_a_video_is(tmp_path: Path) -> None:
    path = film(tmp_path)
    with pytest.raises(ImageError) as error:
        load_image(path)
    assert str(error.value) == f"'{path}' is a video; a picture is needed here"


def test_readers_are_readers() -> None:
    assert isinstance(open_clip(FRAMES), ClipReader)


# --- folders ----------------------------------------------------------------------------------


def test_frames_of_a_folder_come_by_their_numbers(tmp_path: Path) -> None:
    for number, name in enumerate(("frame_9.PNG", "frame_10.png", "cut2-frame_0101.png")):
        write(tmp_path / name, png(FRAMES[number]))
    write(tmp_path / ".DS_Store", b"x")
    write(tmp_path / "notes.txt", b"x")
    write(tmp_path / "other" / "1.png", png(FRAMES[0]))
    clip = open_clip(tmp_path)
    assert (clip.length, clip.fps, clip.name) == (3, None, f"'{tmp_path}'")
    assert np.array_equal(np.stack(list(clip)), FRAMES[:3])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ("notes.txt",),
            "'FOLDER' is a folder and holds no pictures; a clip is a file, a list of pictures, or "
            "a folder of pictures with a number in each name",
        ),
        (
            ("1.png", "b.mp4", "a.MKV"),
            "'FOLDER' is a folder and holds videos, such as 'a.MKV'; a clip is a file, a list of "
            "pictures, or a folder of pictures with a number in each name",
        ),
        (("1.png", "first.png"), "the frame 'FOLDER/first.png' has no number in its name"),
        (("01.png", "1.png"), "two frames have one number: '01.png' and '1.png' in 'FOLDER'"),
    ],
)
def test_folders_that_are_no_clip(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    for name in names:
        write(tmp_path / name, png(FRAMES[0]))
    with pytest.raises(LoadError) as error:
        open_clip(tmp_path)
    assert str(error.value) == message.replace("FOLDER", str(tmp_path))
