"""The real tokenizer behind the real command line, and what its answers should be."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
from PIL import Image
from serve_bodies import raw
from serve_processes import Served, running

from vqtok.tokenizer import VisualTokenizer

__all__ = [
    "SIDE",
    "asked",
    "batches",
    "picture",
    "real",
    "right",
    "stopped",
    "tokenizer",
]

SIDE = 64
USUAL = {
    "device": "cpu",
    "size": SIDE,
    "api_processes": 1,
    "slots": 16,
    "max_batch": 4,
    "timeout": 60,
    "hang_timeout": 30,
    "drain_delay": 0,
}
Codes = npt.NDArray[np.integer]


@contextmanager
def real(*, wait: bool = True, before: tuple[str, ...] = (), **settings: Any) -> Iterator[Served]:
    """`vqtok serve photo-tiny` with these options, as a process."""
    options = [
        f"--{name.replace('_', '-')}={value}" for name, value in {**USUAL, **settings}.items()
    ]
    words = ("-m", "vqtok", "serve", "photo-tiny", "--port=PORT", *options)
    with running(*words, wait=wait, before=before) as there:
        yield there


@cache
def tokenizer() -> VisualTokenizer:
    """The same, here."""
    tok = VisualTokenizer.from_pretrained("photo-tiny")
    return tok.with_preprocess(size=SIDE)


def picture(seed: int, side: int = SIDE) -> npt.NDArray[np.uint8]:
    """Soft colours, (side, side, 3), another one for each seed."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8)
    large = Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)
    return np.array(large)


def right(found: bytes | list[Any], source: bytes | npt.NDArray[np.uint8]) -> bool:
    """Whether codes are a picture's. Among others in a batch a near tie may fall otherwise."""
    [expected] = tokenizer().encode_codes([source])
    ids = np.frombuffer(found, "<u2") if isinstance(found, bytes) else np.array(found).ravel()
    return ids.size == expected.numel() and np.sum(ids != expected.numpy().ravel()) <= 1


def asked(pool: ThreadPoolExecutor, there: Served, seeds: range) -> list[Future[httpx.Response]]:
    """Requests for the codes of pictures, which have begun."""
    url = f"{there.url}/v1/encode"
    post = lambda seed: httpx.post(url, timeout=120, **raw(picture(seed)))  # noqa: E731
    return [pool.submit(post, seed) for seed in seeds]


@contextmanager
def stopped(there: Served) -> Iterator[int]:
    """The only worker stands still meanwhile, so that what is asked waits; its pid."""
    [worker] = there.of("worker")
    os.kill(worker, signal.SIGSTOP)
    try:
        yield worker
    finally:
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGCONT)


def batches(there: Served) -> float:
    """How many pictures have been through the model."""
    return there.metric("vqtok_batch_size_sum")
