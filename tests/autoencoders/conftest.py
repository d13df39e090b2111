from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor


@pytest.fixture
def diffusers_log() -> Iterator[list[str]]:
    """What diffusers logs at the level of warnings or above."""
    import diffusers  # noqa: F401 - it sets its logger up when it is imported

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    messages: list[str] = []
    handler = Keep(logging.WARNING)
    logging.getLogger("diffusers").addHandler(handler)
    yield messages
    logging.getLogger("diffusers").removeHandler(handler)


@pytest.fixture
def pixels() -> Tensor:
    """(2, 3, 32, 48) uint8."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (2, 3, 32, 48), generator=generator, dtype=torch.uint8)


@pytest.fixture
def signed(pixels: Tensor) -> Tensor:
    """The same pixels, floats in [-1, 1]."""
    return (pixels.float() - 127.5) * (1 / 127.5)
