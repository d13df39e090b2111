"""Sources by URL: in memory, from a web server, and what is said when nobody answers."""

from __future__ import annotations

import functools
import pickle
import re
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote

import numpy as np
import pytest
from source_files import COUNT, MAKERS, folder, lists, picture, pixels_of, png, write, write_tar

from vqtok.errors import ImageError, LoadError, MissingExtraError
from vqtok.sources import Source, open_source
from vqtok.sources.files import Tree
from vqtok.sources.remote import Remote
from vqtok.sources.spans import Spans

fsspec = pytest.importorskip("fsspec", reason="URLs need fsspec")


@pytest.fixture
def memory() -> Iterator[Any]:
    """fsspec's file system in this process, which is one for all."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


@pytest.fixture
def upload(memory: Any, tmp_path: Path) -> Callable[[Path], str]:
    """Takes a file or folder below tmp_path, and gives its URL."""

    def copied(path: Path) -> str:
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.is_file():
                memory.pipe_file(f"/{file.relative_to(tmp_path).as_posix()}", file.read_bytes())
        return f"memory://{path.relative_to(tmp_path).as_posix()}"

    return copied


def seen(source: Source) -> list[bytes]:
    return [pixels_of(source[index]).tobytes() for index in range(len(source))]


@pytest.mark.parametrize("kind", sorted(MAKERS))
def test_every_kind_by_url(kind: str, tmp_path: Path, upload: Callable[[Path], str]) -> None:
    path = MAKERS[kind](tmp_path / "set")
    upload(tmp_path / "set")
    here, there = open_source(path), open_source(f"memory://{path.relative_to(tmp_path)}")
    assert list(there.keys) == list(here.keys)
    assert seen(there) == seen(here)
    assert [there[n].columns for n in range(COUNT)] == [here[n].columns for n in range(COUNT)]
    copy = pickle.loads(pickle.dumps(there))
    with ThreadPoolExecutor(4) as pool:
        samples = list(pool.map(copy.__getitem__, list(range(COUNT)) * 3))
    assert [pixels_of(sample).tobytes() for sample in samples] == seen(here) * 3


@pytest.mark.parametrize("kind", sorted(MAKERS))
def test_a_url_of_a_file_is_a_path(kind: str, tmp_path: Path) -> None:
    path = MAKERS[kind](tmp_path / "a set")
    source = open_source(f"file://{str(path).replace(' ', '%20')}")
    assert seen(source) == seen(open_source(path))


def test_patterns_and_single_files(tmp_path: Path, upload: Callable[[Path], str]) -> None:
    for name in ("a1", "a2", "b1"):
        write_tar(tmp_path / "set" / f"{name}.tar", {f"{name}.png": png(picture(0))})
    url = upload(tmp_path / "set")
    assert open_source(f"{url}/a*.tar").keys == ["a1", "a2"]
    assert open_source([f"{url}/b1.tar", f"{url}/a2.tar"]).keys == ["b1", "a2"]
    with pytest.raises(LoadError) as error:
        open_source(f"{url}/c*.tar")
    assert str(error.value) == "there is no file or folder 'memory://set/c*.tar'"


def test_hidden_files_are_left_out(tmp_path: Path, upload: Callable[[Path], str]) -> None:
    write(folder(tmp_path / "set") / ".cache" / "0.png", b"")
    write(tmp_path / "set" / "class0" / "._0.png", b"")
    assert len(open_source(upload(tmp_path / "set"))) == COUNT


def test_what_is_added_is_found(memory: Any, tmp_path: Path, upload: Callable[[Path], str]) -> None:
    url = upload(folder(tmp_path / "set"))
    assert len(open_source(url)) == COUNT
    memory.pipe_file("/set/more.png", b"")
    assert len(open_source(url)) == COUNT + 1


def test_what_is_gone_when_it_is_read(
    memory: Any, tmp_path: Path, upload: Callable[[Path], str]
) -> None:
    write_tar(tmp_path / "a.tar", {"a.png": png(picture(0))})
    tar = open_source(upload(tmp_path / "a.tar"))
    pictures = open_source(upload(folder(tmp_path / "set")))
    memory.store.clear()
    for source, name in ((tar, "a.tar"), (pictures, "set/class0/0.png")):
        with pytest.raises(LoadError) as error:
            source[0]
        assert str(error.value) == f"there is no file or folder 'memory://{name}'"


def test_lists_name_urls(tmp_path: Path, upload: Callable[[Path], str]) -> None:
    lists(tmp_path / "set")
    url = upload(tmp_path / "set")
    path = write(tmp_path / "here.csv", f"url\n{url}/in/3.png\nset/in/4.png\n")
    source = open_source(path)
    assert source.keys == [f"{url}/in/3.png", "set/in/4.png"]
    assert [np.array_equal(pixels_of(source[n]), picture(3 + n)) for n in range(2)] == [True, True]


def test_lists_at_a_url_name_what_is_beside_them(
    memory: Any, tmp_path: Path, upload: Callable[[Path], str]
) -> None:
    write(tmp_path / "set" / "lists" / "a.csv", "path\n../in/0.png\n/set/in/1.png\n./b.png\n")
    for number, name in enumerate(("in/0.png", "in/1.png", "lists/b.png")):
        write(tmp_path / "set" / name, png(picture(number)))
    upload(tmp_path / "set")
    source = open_source("memory://set/lists/a.csv")
    assert seen(source) == [picture(number).tobytes() for number in range(3)]


def test_no_file_of_this_machine_in_a_list_at_a_url(memory: Any) -> None:
    memory.pipe_file("/a.csv", b"path\na.png\nFile:///b.png\n")
    with pytest.raises(LoadError) as error:
        open_source("memory://a.csv")
    assert str(error.value) == (
        "row 2 of 'memory://a.csv' names 'File:///b.png', a file of whatever machine reads it; a "
        "list at a URL names URLs, or paths on its own host"
    )


def test_names_are_as_they_are_listed(memory: Any) -> None:
    tree = Tree(Remote("s3://bucket"), Remote("s3://bucket"), ["a//b.png", "a/../b.png"])
    assert [str(tree.at(name)) for name in tree.names] == [
        "s3://bucket/a//b.png",
        "s3://bucket/a/../b.png",
    ]


@pytest.mark.parametrize(
    ("root", "name", "expected"),
    [
        ("s3://bucket/a/", "b?.png", "s3://bucket/a/b?.png"),
        ("s3://bucket/a/b", "../c.png", "s3://bucket/a/c.png"),
        ("s3://bucket/a", "../../../c.png", "s3://bucket/c.png"),
        ("s3://bucket/a", "/c/./d.png", "s3://bucket/c/d.png"),
        ("s3://bucket", "c.png", "s3://bucket/c.png"),
        ("https://host:80/a?sign=x", "../c.png", "https://host:80/c.png"),
        ("memory://a", "../c.png", "memory://c.png"),
        ("memory://a", "/c.png", "memory://c.png"),
    ],
)
def test_joining(root: str, name: str, expected: str) -> None:
    assert str(Remote(root) / name) == expected


def test_clips_of_a_video(tmp_path: Path, upload: Callable[[Path], str]) -> None:
    MAKERS["clips"](tmp_path / "set")
    write(tmp_path / "set" / "bad.mkv", b"hello")
    spans = Spans(open_source(upload(tmp_path / "set")), 2)
    assert spans.keys == [*(f"{n}.mkv#000000" for n in range(COUNT)), "bad.mkv"]
    assert np.array_equal(spans[1].data.frames(1, 1)[0], picture(11))
    with pytest.raises(ImageError) as error:
        spans[COUNT]
    assert str(error.value) == (
        "'memory://set/bad.mkv' is no video, broken or cut short: Invalid data found when "
        "processing input"
    )


def test_frames_of_a_folder(tmp_path: Path, upload: Callable[[Path], str]) -> None:
    for number in range(3):
        write(tmp_path / "set" / "walk" / f"{number}.png", png(picture(number)))
    clip = open_source(upload(tmp_path / "set"), kind="clips")[0].data
    assert np.array_equal(clip.frames(1, 2), np.stack([picture(1), picture(2)]))


def test_arrow_files_must_be_here(memory: Any) -> None:
    pytest.importorskip("pyarrow")
    memory.pipe_file("/a.arrow", b"x")
    with pytest.raises(LoadError) as error:
        open_source("memory://a.arrow")
    assert str(error.value) == (
        "'memory://a.arrow' can only be mapped into memory; download it first"
    )


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.npy", b"hello", "is not an array that can be read: "),
        ("a.parquet", b"hello", "is not a table that can be read: "),
        ("a.tar", b"hello", "cannot be read as a tar: it begins like no tar"),
        ("a.csv", b"x\ny\n", "has the columns x, of which none names a file; that is one of path, "
            "file_name, image, video, url"),
    ],
)  # fmt: skip
def test_what_is_not_what_it_is_called(
    memory: Any, name: str, content: bytes, expected: str
) -> None:
    memory.pipe_file(f"/{name}", content)
    with pytest.raises(LoadError) as error:
        open_source(f"memory://{name}")
    assert str(error.value).startswith(f"'memory://{name}' {expected}")


def test_reading_a_part(memory: Any) -> None:
    memory.pipe_file("/a", bytes(range(100)))
    with Remote("memory://a").open(buffering=8) as file:
        assert file.seek(-3, 2) == 97
        assert file.read() == bytes((97, 98, 99))
        assert file.read(1) == b""
        file.seek(40)
        assert (file.read(20), file.tell()) == (bytes(range(40, 60)), 60)


def test_names_and_folders() -> None:
    remote = Remote("https://host/a/b.png?sign=x/y")
    assert (remote.name, remote.parent.url) == ("b.png", "https://host/a")
    assert (Remote("s3://bucket/a/") / "b?.png").url == "s3://bucket/a/b?.png"
    assert {Remote("s3://a"), Remote("s3://a")} == {Remote("s3://a")}


class Cloud(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """A service that fails as it is told to."""

    protocol = "cloud"
    failure: ClassVar[Exception] = ValueError()

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        raise self.failure


class Expired(Exception):
    """As services have their own, of no common kind."""


@pytest.mark.parametrize(
    ("failure", "kind", "expected"),
    [
        (FileNotFoundError("b"), LoadError, "there is no file or folder 'cloud://b/x.tar'"),
        (Expired("no key\n  was found"), LoadError, "'cloud://b/x.tar' cannot be read: no key was "
            "found"),
        (PermissionError(), LoadError, "'cloud://b/x.tar' cannot be read: PermissionError"),
        (ImportError("Install x"), MissingExtraError, "'cloud://b/x.tar' cannot be read: Install "
            "x"),
    ],
)  # fmt: skip
def test_what_services_say(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, kind: type[Exception], expected: str
) -> None:
    fsspec.register_implementation("cloud", Cloud, clobber=True)
    monkeypatch.setattr(Cloud, "failure", failure)
    with pytest.raises(kind) as error:
        open_source("cloud://b/x.tar")
    assert str(error.value) == expected
    assert error.value.__suppress_context__ or error.value.__context__ is None


def test_a_protocol_that_nobody_knows() -> None:
    with pytest.raises(LoadError) as error:
        open_source("nosuch://b/x.tar")
    assert str(error.value).startswith("'nosuch://b/x.tar' cannot be read: Protocol not known")


def test_without_fsspec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingExtraError) as error:
        open_source("none-yet://b/x.tar")
    assert str(error.value) == (
        "'none-yet://b/x.tar' is read with fsspec, which is not installed: pip install "
        "'vqtok[offline]'"
    )


class Server(BaseHTTPRequestHandler):
    """Files by range, and folders as pages of links."""

    root: Path
    ranges = True
    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.asked.append(self.headers.get("Range", ""))
        self.answer(with_body=True)

    def answer(self, with_body: bool) -> None:
        path = self.root / unquote(self.path.partition("?")[0]).strip("/")
        if "secret" in path.name:
            self.send_error(403)
            return
        if not path.exists():
            self.send_error(404)
            return
        kind, code = "application/octet-stream", 200
        if path.is_dir():
            inner = "".join(
                f'<a href="{each.name}{"/" * each.is_dir()}">x</a>' for each in path.iterdir()
            )
            kind, body = "text/html", inner.encode()
        else:
            body = path.read_bytes()
        part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        self.send_response(206 if part and self.ranges else code)
        if self.ranges:
            self.send_header("Accept-Ranges", "bytes")
            if part:
                body = body[int(part[1]) : int(part[2]) + 1]
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    pytest.importorskip("aiohttp", reason="fsspec's http needs aiohttp")
    monkeypatch.setattr(Server, "root", tmp_path, raising=False)
    Server.asked.clear()
    web = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    web.daemon_threads = True
    thread = threading.Thread(target=functools.partial(web.serve_forever, 0.05))
    thread.start()
    yield f"http://127.0.0.1:{web.server_port}"
    web.shutdown()
    thread.join()
    web.server_close()


@pytest.mark.parametrize("kind", sorted(MAKERS))
def test_every_kind_from_the_web(kind: str, tmp_path: Path, server: str) -> None:
    path = MAKERS[kind](tmp_path / "set")
    here = open_source(path)
    url = f"{server}/{path.relative_to(tmp_path)}"
    there = open_source(url if path.is_file() else f"{url}/")
    assert list(there.keys) == list(here.keys)
    assert seen(there) == seen(here)


def test_a_signed_url(tmp_path: Path, server: str) -> None:
    write_tar(tmp_path / "set.tar", {"a.png": png(picture(3)), "a.cls": b"1"})
    Server.asked.clear()
    source = open_source(f"{server}/set.tar?signature=a/b")
    before = len(Server.asked)
    assert source.keys == ["a"]
    assert np.array_equal(pixels_of(source[0]), picture(3))
    assert len(Server.asked) == before + 1  # both files of the sample, by their range
    assert Server.asked[-1].startswith("bytes=512-")


def test_a_server_without_ranges(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = {"a.png": png(picture(3)), "b.png": png(picture(4))}
    write_tar(tmp_path / "set.tar", members)
    source = open_source(f"{server}/set.tar")
    monkeypatch.setattr(Server, "ranges", False)
    with pytest.raises(LoadError) as error:
        source[0]
    assert str(error.value) == (
        f"'{server}/set.tar' cannot be read in parts: its server sends the whole file; download it "
        "first"
    )


def test_nobody_there(tmp_path: Path, server: str) -> None:
    with pytest.raises(LoadError) as error:
        open_source(f"{server}/nothing.tar")
    assert str(error.value) == f"there is no file or folder '{server}/nothing.tar'"
    with pytest.raises(LoadError) as error:
        open_source(f"{server}/secret.tar")
    assert str(error.value).startswith(f"'{server}/secret.tar' cannot be read: 403, ")
    with pytest.raises(LoadError) as error:
        open_source("http://127.0.0.1:9/x.tar")
    assert str(error.value).startswith(
        "'http://127.0.0.1:9/x.tar' cannot be read: Cannot connect to host 127.0.0.1:9"
    )


def test_a_path_object_is_a_path() -> None:
    with pytest.raises(LoadError) as error:
        open_source(Path("s3://bucket/a.tar"))
    assert str(error.value) == ("there is no file or folder 's3:/bucket/a.tar'")
