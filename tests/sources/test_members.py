"""Where files in tars lie: the same as `tarfile` says, for everything it writes."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from source_files import write, write_tar

from vqtok.errors import LoadError
from vqtok.sources.members import members

FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
parts = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=60)
names = st.lists(parts, min_size=1, max_size=4).map("/".join)
KINDS = (tarfile.REGTYPE, tarfile.CONTTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE)


def packed(files: dict[str, bytes], format: int, kinds: list[bytes], mtime: float) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as tar:
        for number, (name, content) in enumerate(files.items()):
            info = tarfile.TarInfo(name)
            info.type, info.mtime = kinds[number % len(kinds)], mtime
            info.linkname = "x" * 120 if info.issym() and format != tarfile.USTAR_FORMAT else "x"
            info.size = len(content) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


@given(
    st.dictionaries(names, st.binary(max_size=1100), min_size=1, max_size=5),
    st.sampled_from(FORMATS),
    st.lists(st.sampled_from(KINDS), min_size=1, max_size=3),
    st.sampled_from([0, 1.25]),
)
def test_the_same_as_tarfile(
    tmp_path_factory: pytest.TempPathFactory,
    files: dict[str, bytes],
    format: int,
    kinds: list[bytes],
    mtime: float,
) -> None:
    try:
        whole = packed(files, format, kinds, int(mtime) if format == FORMATS[0] else mtime)
    except ValueError:  # USTAR has no long names
        return
    path = write(tmp_path_factory.getbasetemp() / "members.tar", whole)
    with tarfile.open(path) as tar:
        expected = [(m.name, m.offset_data, m.size) for m in tar if m.isreg()]
    assert [tuple(member) for member in members(path)] == expected
    assert [whole[at : at + size] for _, at, size in expected] == [
        content for n, content in enumerate(files.values()) if kinds[n % len(kinds)] in KINDS[:2]
    ]


@pytest.mark.parametrize("format", FORMATS)
def test_names_that_are_too_long_for_a_header(tmp_path: Path, format: int) -> None:
    name = "d" * 90 + "/" + "n" * 60
    path = write(tmp_path / "a.tar", packed({name: b"x"}, format, [b"0"], 0))
    assert [m.name for m in members(path)] == [name]


def altered(path: Path, at: int, new: bytes) -> bytes:
    """The bytes of a tar with some of its first header replaced, its sum made right again."""
    whole = bytearray(path.read_bytes())
    whole[at : at + len(new)] = new
    whole[148:156] = b" " * 8
    whole[148:156] = b"%06o\0 " % sum(whole[:512])
    return bytes(whole)


def test_a_size_in_bytes(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"a": b"x" * 700, "b": b"y"})
    path = write(path, altered(path, 124, b"\x80" + (700).to_bytes(11, "big")))
    assert [tuple(m) for m in members(path)] == [("a", 512, 700), ("b", 2048, 1)]


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"abc": b"x"})
    assert [m.name for m in members(write(path, altered(path, 1, b"\xff")))] == ["a\\xffc"]


def test_a_sum_with_signs(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"a": b"x"})
    whole = bytearray(altered(path, 200, b"\xff\xfe"))
    whole[148:156] = b"%06o\0 " % (int(bytes(whole[148:154]), 8) - 512)
    assert [m.name for m in members(write(path, bytes(whole)))] == ["a"]


def refused(path: Path) -> str:
    with pytest.raises(LoadError) as error:
        list(members(path))
    return str(error.value).replace(str(path.parent), "ROOT")


def test_sparse_files(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"a": b"x"})
    expected = "'ROOT/a.tar' holds 'a' as a sparse file; pack it without --sparse"
    assert refused(write(path, altered(path, 156, b"S"))) == expected
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("a")
        info.pax_headers = {"GNU.sparse.major": "1"}
        tar.addfile(info)
    assert refused(path) == expected


@pytest.mark.parametrize("records", [b"0 path=x\n", b"x path=y\n", b"-4 path=y\n"])
def test_records_that_are_none(tmp_path: Path, records: bytes) -> None:
    path = write_tar(tmp_path / "a.tar", {"a": records})
    path = write(path, altered(path, 156, b"x"))
    assert refused(path) == "'ROOT/a.tar' cannot be read as a tar: it begins like no tar"


@given(st.binary(max_size=40), st.integers(0, 2100))
def test_whatever_is_damaged(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int
) -> None:
    whole = bytearray(packed({"a" * 120: b"x" * 600}, FORMATS[2], [b"0"], 1.5))
    whole[at : at + len(noise)] = noise
    path = write(tmp_path_factory.getbasetemp() / "damaged.tar", bytes(whole))
    try:
        found = list(members(path))
    except LoadError:
        return
    assert all(0 <= each.offset <= each.offset + each.size <= len(whole) for each in found)


def test_a_tar_without_an_end(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "a.tar", {"a": b"x", "b": b"y"}).read_bytes()
    path = write(tmp_path / "a.tar", whole[:1024])
    assert [m.name for m in members(path)] == ["a"]  # as of what is written as it comes
    write(path, whole[:1124])
    assert refused(path) == "'ROOT/a.tar' is damaged at byte 1024"


def test_an_empty_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", b"")
    assert refused(path) == "'ROOT/a.tar' cannot be read as a tar: it begins like no tar"
