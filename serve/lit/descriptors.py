"""How many files a server has open, and may have."""

from __future__ import annotations

import resource

from vqtok.errors import ConfigError
from vqtok.serve.settings import ServeSettings

__all__ = ["allow_files", "files_of"]

# Of Python, of libraries, and what is open for a moment.
OWN = 64
# Beyond what it needs: connections that are kept open between requests.
SPARE = 65_536


def files_of(settings: ServeSettings, models: int, workers: int) -> int:
    """Of an API process, which has the pipes of all; `workers` of a model."""
    pipes = 4 * settings.api_processes * workers * models
    return OWN + pipes + models * (2 + settings.slots + settings.clip_slots)


def allow_files(settings: ServeSettings, models: int, workers: int) -> None:
    """Raises this process's limit as far as it may and needs to; `ConfigError` if that is short."""
    needed = files_of(settings, models, workers)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = SPARE + needed
    wanted = most if hard == resource.RLIM_INFINITY else min(hard, most)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    if soft != resource.RLIM_INFINITY and soft < needed:
        raise ConfigError(
            f"{settings.api_processes} API processes and {models * workers} workers take {needed} "
            f"open files, and a process may have {soft} here (ulimit -n); allow more, or lower "
            "api_processes, workers_per_device or slots"
        )
