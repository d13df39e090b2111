"""What is wrong with a body or with one thing in it, in words that both sides know."""

from __future__ import annotations

import reprlib
from typing import Any, NamedTuple

from vqtok.errors import VqtokError

__all__ = ["STATUS", "Failure", "WireError", "shown"]

# The word for what was wrong -> the HTTP status that says so.
STATUS = {
    "bad_header": 400,
    "bad_json": 400,
    "bad_latents": 422,
    "bad_multipart": 400,
    "bad_npy": 400,
    "bad_safetensors": 400,
    "code_out_of_range": 422,
    "codebook_mismatch": 409,
    "empty": 400,
    "missing_header": 400,
    "missing_part": 400,
    "not_acceptable": 406,
    "not_a_picture": 400,
    "not_codes": 422,
    "too_large": 413,
    "too_many_frames": 413,
    "too_many_images": 413,
    "too_many_pixels": 413,
    "truncated": 400,
    "unsupported_encoding": 415,
    "unsupported_media_type": 415,
    "wrong_shape": 422,
}


class Failure(NamedTuple):
    """One picture of several that came to nothing, beside those that did not.

    status   the HTTP status that it would have had alone
    code     the word for it, one of `STATUS` or of the server's own
    message  the sentence
    """

    status: int
    code: str
    message: str

    def named(self, name: str) -> Failure:
        """The same, which says of which picture."""
        return self._replace(message=f"{name}: {self.message}")

    @property
    def posted(self) -> Failure:
        """What it is in a request: a picture with nothing but an error, whatever that claims."""
        message = f"there is nothing of it but an error: {shown(self.message)}"
        return Failure(STATUS["missing_part"], "missing_part", message)


class WireError(VqtokError, ValueError):
    """A body, or a header that describes it, which cannot be what it says.

    code  one of `STATUS`
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def status(self) -> int:
        """The HTTP status of an answer that has this error alone."""
        return STATUS[self.code]

    @property
    def failure(self) -> Failure:
        """The same, said of one picture."""
        return Failure(self.status, self.code, str(self))


def shown(value: Any) -> str:
    """What somebody sent, cut short, for messages: its whole text may take seconds to write."""
    return _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlevel = 3
