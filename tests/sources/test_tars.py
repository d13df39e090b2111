"""WebDataset tars: keys, columns, and what is wrong with some."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from source_files import picture, png, write, write_tar

from vqtok.errors import LoadError
from vqtok.sources import files, open_source

PNG = png(picture(0))


def test_files_of_one_name_are_one_sample(tmp_path: Path) -> None:
    members = {
        "in.v2/a.json": b'{"width": 16, "tags": ["x"]}',
        "in.v2/a.PNG": PNG,
        "in.v2/a.txt": "grün".encode(),
        "b.cls": b"7\n",
        "b.seg.png.npy": b"\x00\x01",
        "b.jpg": PNG,
        "./c.webp": PNG,
    }
    source = open_source(write_tar(tmp_path / "a.tar", members))
    found = {source[n].key: source[n].columns for n in range(len(source))}
    assert found == {
        "in.v2/a": {"json": {"width": 16, "tags": ["x"]}, "text": "grün"},
        "b": {"label": 7, "seg.png.npy": b"\x00\x01"},
        "./c": {},
    }
    assert all(source[n].data == PNG for n in range(3))


def test_a_sample_may_lie_apart(tmp_path: Path) -> None:
    members = {"a.txt": b"x", "b.png": PNG, "a.png": PNG}
    source = open_source(write_tar(tmp_path / "a.tar", members))
    assert source.keys == ["a", "b"]
    assert source[0].columns == {"text": "x"}


def test_long_names_and_odd_members(tmp_path: Path) -> None:
    key = "ä" * 200 + "/" + "x" * 150
    members = {"README": b"x", ".hidden.png": b"x", f"{key}.png": PNG}
    assert open_source(write_tar(tmp_path / "a.tar", members)).keys == [key]


def test_many_tars_keep_few_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "OPEN_FILES", 2)
    for number in range(6):
        write_tar(tmp_path / f"{number}.tar", {f"{number}.png": png(picture(number))})
    source = open_source(tmp_path)
    for number in (*range(6), *range(6)):
        assert source[number].data == png(picture(number))
    assert len(source._ranges._open._held) == 2  # type: ignore[attr-defined]


def test_what_has_no_picture_is_left_out_loudly(tmp_path: Path) -> None:
    for number in range(2):
        write_tar(tmp_path / f"{number}.tar", {"README.md": b"x", f"{number}.png": PNG})
    with pytest.warns(UserWarning) as warned:
        assert open_source(tmp_path).keys == ["0", "1"]
    assert [str(each.message).replace(str(tmp_path), "ROOT") for each in warned] == [
        "the sample 'README' in 'ROOT/0.tar' and 1 more has no picture and is left out"
    ]


def refused(path: Path) -> str:
    with pytest.raises(LoadError) as error:
        open_source(path)
    return str(error.value).replace(str(path.parent), "ROOT")


def test_one_key_in_two_tars(tmp_path: Path) -> None:
    for name in ("x.tar", "y.tar"):
        write_tar(tmp_path / "set" / name, {"a.png": PNG})
    assert refused(tmp_path / "set") == (
        "the sample 'a' is in 'ROOT/set/x.tar' and in 'ROOT/set/y.tar'; a key names one sample"
    )


def test_one_file_twice(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", {"a.png": PNG, "a.PNG": PNG})
    assert refused(path) == "the sample 'a' is twice in 'ROOT/x.tar'; a key names one sample"


def test_two_pictures_in_one_sample(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", {"a.v1.png": PNG, "a.v2.png": PNG})
    assert refused(path) == (
        "the sample 'a' in 'ROOT/x.tar' has 2 pictures: v1.png, v2.png; a name is cut at its first "
        "dot, and what stands before it is one sample"
    )


def test_compressed_tars(tmp_path: Path) -> None:
    plain = write_tar(tmp_path / "x.tar", {"a.png": PNG})
    path = write(tmp_path / "x.tar.gz", gzip.compress(plain.read_bytes()))
    assert refused(path) == (
        "'ROOT/x.tar.gz' cannot be read as a tar: it is compressed; unpack it first"
    )


def test_a_tar_cut_short(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "x.tar", {f"{n}.png": PNG for n in range(3)}).read_bytes()
    path = write(tmp_path / "x.tar", whole[: 512 + len(PNG) // 2])
    assert refused(path) == "'ROOT/x.tar' cannot be read as a tar: unexpected end of data"


def test_a_tar_with_a_broken_header(tmp_path: Path) -> None:
    whole = bytearray(write_tar(tmp_path / "x.tar", {"a.png": PNG, "b.png": PNG}).read_bytes())
    second = whole.index(b"b.png")
    whole[second + 20] = 1
    path = write(tmp_path / "x.tar", bytes(whole))
    assert refused(path) == f"'ROOT/x.tar' is damaged at byte {second}"


def test_a_column_that_cannot_be_read(tmp_path: Path) -> None:
    members = {"a.png": PNG, "a.cls": b"dog", "b.png": PNG}
    source = open_source(write_tar(tmp_path / "x.tar", members))
    with pytest.raises(LoadError) as error:
        source[0]
    assert str(error.value) == (
        "the cls file of the sample 'a' cannot be read: invalid literal for int() with base 10: "
        "b'dog'"
    )
    assert source[1].key == "b"


def test_a_tar_that_shrinks_or_goes(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", {"a.png": PNG})
    source = open_source(path)
    path.write_bytes(b"")
    with pytest.raises(LoadError) as error:
        source[0]
    end = 512 + len(PNG)
    assert str(error.value) == (f"'{path}' ends before byte {end}; it was whole when it was listed")
    source = open_source(write_tar(path, {"a.png": PNG}))
    path.unlink()
    with pytest.raises(LoadError) as error:
        source[0]
    assert str(error.value) == f"'{path}' cannot be read: No such file or directory"


def test_a_sample_is_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    near = {"a.txt": b"x", "a.png": PNG, "a.cls": b"3"}
    far = {"b.png": PNG, "c.png": b"y" * 9000, "b.txt": b"z"}
    source = open_source(write_tar(tmp_path / "x.tar", near | far))
    asked, read = list[int](), files.Ranges.read
    monkeypatch.setattr(files.Ranges, "read", lambda *of: asked.append(of[3]) or read(*of))
    assert (source[0].data, source[0].columns) == (PNG, {"text": "x", "label": 3})
    assert (source[1].data, source[1].columns) == (PNG, {"text": "z"})
    together = 3 * 512 + len(PNG) // 512 * 512 + 512 + 1
    assert asked == [together, together, len(PNG), 1, len(PNG), 1]
