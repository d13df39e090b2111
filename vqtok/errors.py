"""Every exception of the package.

```
VqtokError
├── UnknownNameError   (ValueError)   a name that no registry knows
├── ConfigError        (ValueError)   a setting that cannot be, or two that exclude each other
├── InputError         (ValueError)   something handed in has the wrong shape, dtype, range or kind
│   ├── ImageError                    a file or array that cannot be taken as a picture
│   ├── CodesError                    ids outside the codebook, or a grid that does not fit them
│   └── MismatchError                 two good things that do not belong together
├── CollapseError      (RuntimeError) a training that collapsed and was to stop where it does
├── ServiceError       (RuntimeError) what a server of tokens answered, or that it did not
├── LoadError          (OSError)      a folder, file or repository that cannot be loaded
└── MissingExtraError  (ImportError)  an optional dependency is not installed
```

A message names the thing, says what was wrong with it, and what would be right. The standard
base beside each class is what Hugging Face libraries and plain Python raise in the same place, so
that a caller's `except OSError` or `except ValueError` keeps working.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "CodesError",
    "CollapseError",
    "ConfigError",
    "ImageError",
    "InputError",
    "LoadError",
    "MismatchError",
    "MissingExtraError",
    "ServiceError",
    "UnknownNameError",
    "VqtokError",
    "did_you_mean",
    "plural",
]


class VqtokError(Exception):
    """The base of all errors that vqtok raises on purpose."""


class UnknownNameError(VqtokError, ValueError):
    """A name that no registry knows; the message suggests the nearest and lists the rest."""


class ConfigError(VqtokError, ValueError):
    """A setting that cannot be, or two settings that exclude each other."""


class InputError(VqtokError, ValueError):
    """Something handed in has the wrong shape, dtype, range or kind."""


class ImageError(InputError):
    """A file or array that cannot be taken as a picture."""


class CodesError(InputError):
    """Ids outside the codebook, or a grid that does not fit them."""


class MismatchError(InputError):
    """Two good things that do not belong together, such as ids and another tokenizer's decoder."""


class CollapseError(VqtokError, RuntimeError):
    """A training that collapsed and was to stop where it does; the message says what to try."""


class ServiceError(VqtokError, RuntimeError):
    """A server of tokens refused, failed or cannot be reached.

    status      of the answer; None where there was none
    code        the server's word for what was wrong, such as "not_a_picture"
    request_id  by which its log knows the request
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str = "",
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.request_id = request_id


class LoadError(VqtokError, OSError):
    """A folder, file or repository that cannot be loaded."""


class MissingExtraError(VqtokError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """For error messages: the nearest known name, where there is one, then all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return f"{hint}Known: {', '.join(names) or 'none'}."


def plural(count: int, what: str) -> str:
    """For messages: 1 frame, 2,000 frames."""
    return f"{count:,} {what}" + ("" if count == 1 else "s")
