"""Names of media, and which of them an answer is in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqtok.serve.wire import ACCEPTED, CARRIERS, MEDIA, WireError, by_name, content_of, negotiate

OFFERED = ("image/png", "image/webp", "image/jpeg", "application/json", "application/x-npy")


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        (None, "image/png"),
        ("", "image/png"),
        ("*/*", "image/png"),
        ("image/*", "image/png"),
        ("image/webp,*/*;q=0.8", "image/webp"),
        ("text/html,application/xhtml+xml,image/avif,image/webp,*/*;q=0.8", "image/webp"),
        ("application/npy", "application/x-npy"),
        ("APPLICATION/JSON; charset=utf-8", "application/json"),
        ("image/*;q=0.5, application/*;q=0.9", "application/json"),
        ("image/png;q=0, image/*", "image/webp"),
        ("image/png;q=0.1, image/jpeg;q=0.2", "image/jpeg"),
        ("*/*;q=0", None),
        ("text/plain", None),
        ("image/png;q=banana", None),
    ],
)
def test_accept_chooses(accept: str | None, media: str | None) -> None:
    assert negotiate(accept, OFFERED) == media


@given(st.text(max_size=60))
def test_any_accept_is_read(accept: str) -> None:
    assert negotiate(accept, OFFERED) in (None, *OFFERED)


@pytest.mark.parametrize(
    ("given_type", "media", "parameters"),
    [
        ("image/jpeg", "image/jpeg", {}),
        ("Image/JPG", "image/jpeg", {}),
        ("application/json; charset=utf-8", "application/json", {"charset": "utf-8"}),
        ('multipart/form-data; Boundary="a;b"', "multipart/form-data", {"boundary": "a;b"}),
        ("application/x-safetensors", "application/safetensors", {}),
    ],
)
def test_content_types(given_type: str, media: str, parameters: dict[str, str]) -> None:
    assert content_of({"content-type": given_type}, ACCEPTED) == (media, parameters)


CODES = "application/json, application/safetensors, application/x-npy, application/octet-stream"
PICTURES = (
    "pictures (image/jpeg, ...), clips (video/mp4, ...), application/octet-stream, "
    "application/x-npy, application/safetensors, application/json, multipart/form-data"
)


@pytest.mark.parametrize(
    ("headers", "offered", "code", "message"),
    [
        (
            {"content-type": "application/x-www-form-urlencoded"},
            ACCEPTED,
            "unsupported_media_type",
            "the body is said to be application/x-www-form-urlencoded, which is what curl "
            "--data-binary sends by itself; add -H 'content-type: image/jpeg', or whatever it is: "
            f"this takes {PICTURES}",
        ),
        (
            {"content-type": "application/x-www-form-urlencoded"},
            CARRIERS,
            "unsupported_media_type",
            "the body is said to be application/x-www-form-urlencoded, which is what curl "
            "--data-binary sends by itself; add -H 'content-type: application/json', or whatever "
            f"it is: this takes {CODES}",
        ),
        (
            {},
            CARRIERS,
            "unsupported_media_type",
            "the request does not say what it sends; add -H 'content-type: application/json': "
            f"this takes {CODES}",
        ),
        (
            {"content-type": "text/plain; charset=utf-8"},
            CARRIERS,
            "unsupported_media_type",
            f"bodies of the type 'text/plain' are not taken here; this takes {CODES}",
        ),
        (
            {"content-type": "image/heic"},
            ACCEPTED,
            "unsupported_media_type",
            "HEIC is not taken; send JPEG, PNG or WebP",
        ),
        (
            {"content-type": "image/jpeg", "content-encoding": "gzip"},
            ACCEPTED,
            "unsupported_encoding",
            "the body is sent with content-encoding 'gzip'; send it as it is",
        ),
    ],
)
def test_bodies_of_other_types_are_refused(
    headers: dict[str, str], offered: tuple[str, ...], code: str, message: str
) -> None:
    with pytest.raises(WireError) as error:
        content_of(headers, offered)
    assert (error.value.code, error.value.status, str(error.value)) == (code, 415, message)


def test_formats_by_name() -> None:
    assert by_name("npy", OFFERED) == "application/x-npy"
    assert by_name("jpeg", OFFERED) == "image/jpeg"
    with pytest.raises(WireError) as error:
        by_name("jpg", OFFERED)
    assert (error.value.status, str(error.value)) == (
        406,
        "this cannot be answered in the format 'jpg'. Did you mean 'jpeg'? Known: jpeg, json, "
        "npy, png, webp.",
    )


def test_no_name_means_two_media() -> None:
    names = [name for names in MEDIA.values() for name in names]
    assert len(names) == len(set(names))
