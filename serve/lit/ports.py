"""Where a server listens."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

from vqtok.errors import ConfigError

__all__ = ["check_port", "listen"]

BACKLOG = 2048  # connections that wait to be taken, as many as uvicorn has


def check_port(host: str, port: int) -> None:
    """Raises where nobody can listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((host, port))
    except OSError as error:
        raise _mistake(host, port, error) from error


def listen(sockets: Sequence[socket.socket], host: str, port: int) -> None:
    """From now on connections are taken, which on one port only one program can do."""
    for one in sockets:
        try:
            one.listen(BACKLOG)
        except OSError as error:
            raise _mistake(host, port, error) from error


def _mistake(host: str, port: int, error: OSError) -> ConfigError:
    if error.errno != errno.EADDRINUSE:
        return ConfigError(f"nobody can listen at {host}, port {port}: {error.strerror}")
    return ConfigError(
        f"port {port} of {host} is another program's; name one that is free, such as "
        f"--port {port + 1 if port < 65535 else 8000}"
    )
