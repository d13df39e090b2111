"""Which exception an answer becomes, and what it says."""

from __future__ import annotations

import pytest

from vqtok.errors import CodesError, ImageError, MismatchError, ServiceError
from vqtok.serve.client.answers import Refusal, exception_of
from vqtok.serve.wire import Failure

URL = "http://host"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("the picture is broken", "'a.png' is broken"),
        ("the clip has 9 frames", "'a.png' has 9 frames"),
        ("picture 3 is broken", "'a.png' is broken"),
        ("picture 3 (b.png) is broken", "'a.png' is broken"),
        ("picture 3: the code at [0, 1] is 9", "'a.png': the code at [0, 1] is 9"),
        ("pictures are broken", "'a.png': pictures are broken"),
        ("picture x is broken", "'a.png': picture x is broken"),
        ("it is broken", "'a.png': it is broken"),
        ("", "'a.png': "),
    ],
)
def test_the_callers_name_stands_for_the_servers(said: str, shown: str) -> None:
    refusal = Refusal(Failure(400, "not_a_picture", said), "r1")
    assert str(exception_of(refusal, "'a.png'", URL, ImageError)) == shown


@pytest.mark.parametrize("status", [400, 413, 415, 422])
@pytest.mark.parametrize("kind", [ImageError, CodesError])
def test_what_the_input_is_to_blame_for(
    status: int, kind: type[ImageError] | type[CodesError]
) -> None:
    error = exception_of(Refusal(Failure(status, "word", "no"), "r1"), "picture 1", URL, kind)
    assert type(error) is kind
    cause = error.__cause__
    assert isinstance(cause, ServiceError)
    assert (cause.status, cause.code, cause.request_id) == (status, "word", "r1")


def test_another_codebook() -> None:
    refusal = Refusal(Failure(409, "codebook_mismatch", "aaaa and bbbb"), None)
    error = exception_of(refusal, "picture 1", URL, CodesError)
    assert type(error) is MismatchError
    assert str(error) == "aaaa and bbbb"


@pytest.mark.parametrize("status", [500, 503, 504])
def test_what_the_server_is_to_blame_for(status: int) -> None:
    refusal = Refusal(Failure(status, "word", "no"), "r1")
    error = exception_of(refusal, "picture 1", URL, ImageError)
    assert isinstance(error, ServiceError)
    assert str(error) == f"picture 1: http://host answered {status} word: no"
    assert (error.status, error.code, error.request_id) == (status, "word", "r1")
