"""multipart/form-data, whole and in pieces."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_bodies import (
    LIMITS,
    form,
    part,
    png,
)

from vqtok.serve.wire import (
    Failure,
    WireError,
    picture_reader,
    read_pictures,
)


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=4), st.integers(1, 50))
def test_files_of_a_form_come_whole_however_it_is_cut(files: list[bytes], step: int) -> None:
    files = [b"GIF8" + data for data in files if b"\r\n--b" not in data]
    if not files:
        return
    headers, body = form(*map(part, files))
    reader = picture_reader(headers, LIMITS)
    found = [
        upload for at in range(0, len(body), step) for upload in reader.feed(body[at : at + step])
    ]
    assert reader.end() == []
    assert [one.data for one in found] == files


def test_a_file_of_a_form_is_given_as_soon_as_it_is_there() -> None:
    headers, body = form(part(png()), part(png()))
    reader = picture_reader(headers, LIMITS)
    half = body.index(b"\r\n--b\r\n") + 5
    assert [one.name for one in reader.feed(body[:half])] == ["picture 0 (cat.png)"]
    assert [one.name for one in reader.feed(body[half:])] == ["picture 1 (cat.png)"]


def test_forms_as_clients_write_them() -> None:
    headers, body = form(part(b"GIF8", media="", filename="../\x07é"))
    assert [one.name for one in read_pictures(headers, body, LIMITS)] == ["picture 0 (../é)"]
    headers, body = form(part(b"GIF8", media="application/octet-stream"), end=b"\r\n--b--")
    assert read_pictures(headers, b"preamble\r\n" + body + b"epilogue", LIMITS)[0].data == b"GIF8"
    bare = b'Content-Type: image/gif\r\nContent-Disposition: form-data; name="i"\r\n\r\nGIF8'
    assert read_pictures(*form(bare), LIMITS)[0].data == b"GIF8"


def test_a_part_of_another_type_fails_alone() -> None:
    uploads = read_pictures(*form(part(b"x", media="text/plain"), part(b"GIF8")), LIMITS)
    failure = uploads[0].data
    assert isinstance(failure, Failure)
    assert failure[:2] == (415, "unsupported_media_type")
    assert failure.message.startswith(
        "picture 0 (cat.png) is sent as 'text/plain'; files in a form"
    )
    assert uploads[1].data == b"GIF8"


@pytest.mark.parametrize(
    ("headers", "body", "code", "message"),
    [
        (
            {"content-type": "multipart/form-data"},
            b"",
            "bad_multipart",
            "multipart/form-data needs boundary=..., of 1 to 70 letters, in its content-type; got "
            "''",
        ),
        (
            {"content-type": f"multipart/form-data; boundary={'b' * 71}"},
            b"",
            "bad_multipart",
            "multipart/form-data needs boundary=..., of 1 to 70 letters, in its content-type; got "
            f"'{'b' * 71}'",
        ),
        (
            *form(part(png()), end=b""),
            "truncated",
            "the form ends without its last boundary, --b--",
        ),
        (
            *form(end=b"--b--\r\n"),
            "empty",
            "the form has no files in it; add them: curl -F image=@cat.jpg",
        ),
        (
            *form(b'Content-Disposition: form-data; name="output"\r\n\r\nlatents'),
            "bad_multipart",
            "the form has a field that is no file; send files, as curl -F image=@cat.jpg does",
        ),
        (
            *form(b"X: " + b"y" * 9000),
            "bad_multipart",
            "the form has a part with more than 8192 bytes of headers",
        ),
        (
            {"content-type": "multipart/form-data; boundary=b"},
            b"x" * 9000,
            "bad_multipart",
            "the form does not begin with its boundary",
        ),
        (
            {"content-type": "multipart/form-data; boundary=b"},
            b"--bcd\r\n\r\n",
            "bad_multipart",
            "the form has a boundary that no new line follows",
        ),
        (
            *form(*[part(b"GIF8")] * 5),
            "too_many_images",
            "the body holds 5 pictures or more; at most 4 are taken at once",
        ),
        (
            *form(part(b"GIF8" + bytes(100_000))),
            "too_large",
            "the body has more than the 100000 bytes that are taken at once",
        ),
    ],
    ids=range(10),
)
def test_forms_that_are_none(headers: Any, body: bytes, code: str, message: str) -> None:
    with pytest.raises(WireError) as error:
        read_pictures(headers, body, LIMITS)
    assert (error.value.code, str(error.value)) == (code, message)


@pytest.mark.parametrize(
    ("filename", "name"),
    [
        ("filename*=UTF-8''c%20%C3%BC.png", "picture 0 (c \u00fc.png)"),
        ("filename=\"_.png\"; filename*=utf-8'en'%E7%8C%AB.png", "picture 0 (\u732b.png)"),
        ("filename*=ISO-8859-1''%FC.png", "picture 0 (\u00fc.png)"),
        ("filename*=UTF-8''", "picture 0"),
    ],
)
def test_names_of_any_letters(filename: str, name: str) -> None:
    disposition = f'Content-Disposition: form-data; name="a"; {filename}\r\n\r\n'
    (upload,) = read_pictures(*form(disposition.encode() + png()), LIMITS)
    assert (upload.name, upload.data) == (name, png())
