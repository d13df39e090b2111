from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
from autoencoders.toys import toy
from commandline import picture, pictures

from vqtok.errors import LoadError, MismatchError
from vqtok.export.pictures import Pictures, sizes_of
from vqtok.preprocess import Preprocess, preprocess
from vqtok.traits import Traits

SETTINGS = Preprocess(policy="center", size=16, stride=4)
PICTURES = Traits.of(tiny.model())
CLIPS = Traits(64, 0, 3, (2, 4, 4), causal=True)


@pytest.mark.parametrize(
    ("traits", "settings", "sizes"),
    [
        (PICTURES, SETTINGS, [(16, 16), (12, 20)]),
        (PICTURES, Preprocess(policy="native", stride=4), [(32, 32), (24, 40)]),
        (PICTURES, Preprocess(policy="center", size=4, stride=4), [(4, 4), (4, 8)]),
        (Traits.of(toy("titok")), SETTINGS, [(32, 32)]),
        (Traits(64, 0, 1, (4, 4), scale_sides=(1, 2, 4)), SETTINGS, [(16, 16)]),
        (Traits(64, 0, 3, (2, 4, 4), window=4), SETTINGS, [(4, 16, 16), (2, 12, 20)]),
        (CLIPS, SETTINGS, [(3, 16, 16), (5, 12, 20), (1, 16, 16)]),
    ],
)
def test_sizes(traits: Traits, settings: Preprocess, sizes: list[tuple[int, ...]]) -> None:
    assert sizes_of(traits, settings, 33) == sizes
    for size in sizes:
        traits.grid_of(size)


def test_batches_of_few_pictures(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "in", "a.png", "b.png")
    found = Pictures(SETTINGS, PICTURES, str(folder), 64)
    assert (len(found), found.rows, found.named) == (2, 12, "'in'")
    batches = list(found.batches((16, 16)))
    assert [len(batch.keys) for batch in batches] == [1, 3, 8]
    assert batches[1].keys == ["b.png", "a.png, turned 1", "b.png, turned 1"]
    own = preprocess(folder / "a.png", SETTINGS)
    assert np.array_equal(batches[0].pixels, own[None])
    assert np.array_equal(batches[1].pixels[1], own[:, ::-1])
    every = np.concatenate([batch.pixels for batch in batches])
    assert len(np.unique(every.reshape(12, -1), axis=0)) == 12
    assert [batch.size for batch in found.batches((12, 20))] == [(12, 20)] * 3


def test_batches_of_many_pictures(tmp_path: Path) -> None:
    folder = pictures(tmp_path, *(f"{n:02}.png" for n in range(20)))
    found = Pictures(SETTINGS, PICTURES, [str(folder)], 16)
    assert (len(found), found.total, found.rows) == (16, 20, 16)
    batches = list(found.batches((16, 16)))
    assert [len(batch.keys) for batch in batches] == [1, 3, 8, 1, 3]
    assert batches[0].keys == ["00.png"]
    assert batches[-1].keys[-1] == "18.png"


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "in", "a.png", "b.png")
    (folder / "c.png").write_bytes(b"no picture")
    found = Pictures(SETTINGS, PICTURES, str(folder), 64)
    assert (len(found), list(found.skipped)) == (2, ["c.png"])
    (folder / "a.png").unlink()
    (folder / "b.png").unlink()
    with pytest.raises(LoadError) as error:
        Pictures(SETTINGS, PICTURES, str(folder), 64)
    assert str(error.value) == f"no picture of 'in' can be read: {found.skipped['c.png']}"


def test_others_stand_in_for_what_cannot_be_read(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "in", *(f"{n}.png" for n in range(6)))
    for name in ("0.png", "2.png", "1.png"):
        (folder / name).write_bytes(b"no picture")
    found = Pictures(SETTINGS, PICTURES, str(folder), 3)  # 0, 2 and 4 are evenly spaced
    assert list(found.skipped) == ["0.png", "2.png", "1.png"]
    keys = [key for batch in found.batches((16, 16)) for key in batch.keys]
    assert keys[:3] == ["3.png", "4.png", "5.png"]


def test_clips_of_pictures(tmp_path: Path) -> None:
    """They move over it."""
    picture(tmp_path / "a.png", size=(60, 40))
    found = Pictures(SETTINGS, CLIPS, str(tmp_path), 64)
    batch = next(found.batches((3, 16, 16)))
    assert batch.pixels.shape == (1, 3, 16, 16, 3)
    clip = batch.pixels[0]
    assert np.array_equal(clip[0][:, 2:], clip[1][:, :-2])
    assert not np.array_equal(clip[0], clip[1])


def test_clips_of_clips(tmp_path: Path) -> None:
    pytest.importorskip("av")
    from clip_files import film

    film(tmp_path / "a.mp4", 2)
    found = Pictures(SETTINGS, CLIPS, str(tmp_path / "a.mp4"), 64)
    clip = next(found.batches((5, 16, 16))).pixels[0]
    assert clip.shape == (5, 16, 16, 3)
    assert np.array_equal(clip[1], clip[4])
    with pytest.raises(MismatchError) as error:
        Pictures(SETTINGS, PICTURES, str(tmp_path / "a.mp4"), 64)
    said = "the tokenizer takes pictures, and 'a.mp4' holds clips; name a folder of pictures"
    assert str(error.value) == said
