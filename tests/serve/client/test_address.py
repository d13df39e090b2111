"""Where a server is and what is sent along: addresses, keys, and what the environment says."""

from __future__ import annotations

from typing import Any

import pytest

from vqtok.errors import ConfigError, ServiceError


@pytest.mark.parametrize(
    "url",
    ["http:host", "ftp://host", "http://", "http://h?x=1", "http://h\n", "http://a b", None],
)
def test_addresses_that_are_none(connect: Any, url: Any) -> None:
    from vqtok.serve import AsyncClient, Client

    for kind in (Client, AsyncClient):
        with pytest.raises(ConfigError) as error:
            kind(url)
        assert str(error.value) == (
            "a server's address is such as http://127.0.0.1:8000, without what follows a ? or #; "
            f"got {url!r}"
        )


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("localhost:8000", "localhost:8000"),
        ("127.0.0.1", "127.0.0.1"),
        ("user:p@ss@host/below", "***@host/below"),
    ],
)
def test_addresses_without_http(connect: Any, url: str, shown: str) -> None:
    with pytest.raises(ConfigError) as error:
        connect(url)
    assert str(error.value) == (
        f"{shown!r} is no address of a server: http:// is missing before it"
    )


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://[::1", "Invalid port: ':1'"),
        ("http://h:99999", "the port 99999 is above 65535"),
        ("http://\u2603.com:1", "Invalid IDNA hostname: '\u2603.com'"),
        ("http://:80", "no host"),
    ],
)
def test_addresses_that_nothing_can_be_sent_to(connect: Any, url: str, why: str) -> None:
    with pytest.raises(ConfigError) as error:
        connect(url)
    assert str(error.value) == f"{url!r} is no address of a server: {why}"


@pytest.mark.parametrize("host", ["a..b", "a" * 64])
def test_names_that_cannot_be_looked_up(connect: Any, host: str) -> None:
    with pytest.raises(ConfigError) as error:
        connect(f"http://{host}")
    assert str(error.value).startswith(f"'http://{host}' is no address of a server: ")


def test_a_password_in_the_address_is_not_told(nobody: str, connect: Any, waits: Any) -> None:
    client = connect(nobody.replace("//", "//user:p@ss@"), retries=0)
    shown = nobody.replace("//", "//***@")
    assert repr(client) == f"{type(getattr(client, 'client', client)).__name__}({shown!r})"
    with pytest.raises(ServiceError) as error:
        client.model()
    assert str(error.value).startswith(f"{shown} cannot be reached: ")
    with pytest.raises(ConfigError) as wrong:
        connect("http://user:secret@host:99999")
    assert str(wrong.value) == (
        "'http://***@host:99999' is no address of a server: the port 99999 is above 65535"
    )


def test_a_password_in_the_address_is_sent(server: Any, connect: Any) -> None:
    connect(server.url.replace("//", "//user:secret@")).model()
    assert server.asked[-1].headers["authorization"] == "Basic dXNlcjpzZWNyZXQ="


def test_keys_as_they_come(server: Any, connect: Any) -> None:
    connect(server, api_key=" abc\n").model()
    assert server.asked[-1].headers["authorization"] == "Bearer abc"
    connect(server, api_key="schl\u00fcssel").model()
    sent = server.asked[-1].headers["authorization"]
    assert sent.encode("latin-1") == "Bearer schl\u00fcssel".encode()


def test_keys_that_cannot_be_sent(connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {
        "a\nb": "api_key holds a character that no header can carry, such as a newline",
        "a\ud800": "api_key holds a character that UTF-8 does not have",
        7: "api_key is text; got a int",
    }
    for key, message in said.items():
        with pytest.raises(ConfigError) as error:
            connect("http://127.0.0.1:1", api_key=key)
        assert str(error.value) == message
    monkeypatch.setenv("VQTOK_API_KEY", "a\rb")
    with pytest.raises(ConfigError) as error:
        connect("http://127.0.0.1:1")
    assert str(error.value) == (
        "VQTOK_API_KEY holds a character that no header can carry, such as a newline"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:1"),
        ("HTTP_PROXY", "foo://x"),
        ("SSL_CERT_FILE", "/nonexistent"),
    ],
)
def test_an_environment_that_cannot_be(
    connect: Any, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as error:
        connect("https://host")
    assert str(error.value).startswith(
        "no connection to https://host can be made as this environment has it (HTTP_PROXY, "
        "HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE and SSL_CERT_DIR are read): "
    )
