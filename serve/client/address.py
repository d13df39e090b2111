"""Where a server is and what every request to it carries, checked before anything is sent."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

import httpx

from vqtok.errors import ConfigError

__all__ = ["KEY", "Address", "address_of", "headers_of", "model_of"]

KEY = "VQTOK_API_KEY"
HIGHEST_PORT = 65535


class Address(NamedTuple):
    """Of a server.

    url    without a slash at its end
    shown  the same for messages, without the name and password that may stand in it
    """

    url: str
    shown: str


def address_of(url: str) -> Address:
    """That of the text; raises where no request could be sent there."""
    shown = _masked(url) if isinstance(url, str) else url
    if isinstance(url, str) and re.fullmatch(r"(?!https?:)[^\s/?#]+(?<!:)(/[^\s?#]*)?", url):
        raise ConfigError(f"{shown!r} is no address of a server: http:// is missing before it")
    if not isinstance(url, str) or not re.fullmatch(r"https?://[^\s/?#]+[^\s?#]*", url):
        raise ConfigError(
            f"a server's address is such as http://127.0.0.1:8000, without what follows a ? or #; "
            f"got {shown!r}"
        )
    try:
        parsed = httpx.URL(url)
        parsed.host.encode("idna")  # as the lookup of the name will do it
    except (httpx.InvalidURL, UnicodeError) as error:
        raise ConfigError(f"{shown!r} is no address of a server: {error}") from None
    if not parsed.host or (parsed.port or 0) > HIGHEST_PORT:
        wrong = f"the port {parsed.port} is above {HIGHEST_PORT}" if parsed.host else "no host"
        raise ConfigError(f"{shown!r} is no address of a server: {wrong}")
    return Address(url.rstrip("/"), _masked(url).rstrip("/"))


def _masked(url: str) -> str:
    return re.sub(r"(^|//)[^/?#]*@", r"\1***@", url)


def headers_of(api_key: str | None) -> dict[bytes, bytes]:
    """What every request carries; the key from the environment where none is given."""
    headers = {b"accept-encoding": b"identity", b"user-agent": b"vqtok"}
    given, named = (os.environ.get(KEY, ""), KEY) if api_key is None else (api_key, "api_key")
    if not isinstance(given, str):
        raise ConfigError(f"api_key is text; got a {type(given).__name__}")
    key = given.strip()  # a file's last line ends with a newline
    if any(sign < " " or sign == "\x7f" for sign in key):
        raise ConfigError(f"{named} holds a character that no header can carry, such as a newline")
    try:
        sent = key.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ConfigError(f"{named} holds a character that UTF-8 does not have") from None
    return headers | ({b"authorization": b"Bearer " + sent} if key else {})


def model_of(model: str) -> str:
    """A model's name as it stands in the server's paths."""
    if not isinstance(model, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", model):
        raise ConfigError(
            f"a model's name is letters, digits, '.', '_' and '-', as it stands in the server's "
            f"paths; got {model!r}"
        )
    return model
