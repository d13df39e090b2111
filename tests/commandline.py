"""The `vqtok` command in this process, tiny tokenizers to give it, and pictures."""

from __future__ import annotations

import atexit
import io
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import numpy.typing as npt
import tiny
from PIL import Image

from vqtok.cli import main
from vqtok.tokenizer import VisualTokenizer


class Result(NamedTuple):
    status: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        return self.raw.decode()


class Stream(io.TextIOWrapper):
    """A standard stream in memory, which may call itself a terminal."""

    def __init__(self, data: bytes = b"", terminal: bool = False) -> None:
        super().__init__(io.BytesIO(data), encoding="utf-8", newline="")
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    def bytes(self) -> bytes:
        self.flush()
        return self.buffer.getvalue()  # type: ignore[attr-defined]


def vqtok(*arguments: str | Path, stdin: bytes = b"", terminals: tuple[str, ...] = ()) -> Result:
    """Runs the console script. `terminals`: "stdout" and "stderr", where they are one."""
    streams = {name: Stream(terminal=name in terminals) for name in ("stdout", "stderr")}
    with mock.patch.multiple(sys, stdin=Stream(stdin), **streams):
        try:
            main([str(argument) for argument in arguments])
            status = -1  # main always exits
        except SystemExit as end:
            status = int(end.code or 0)
    return Result(status, streams["stdout"].bytes(), streams["stderr"].bytes().decode())


@cache
def tokenizer(seed: int = 0) -> Path:
    """The folder of a tokenizer for 16 x 16 pictures, 4 x 4 codes; tests leave it as it is."""
    return saved(tiny.tokenizer(seed))


@cache
def residual() -> Path:
    """One with two codes a token."""
    return saved(
        tiny.tokenizer(
            quantizer="residual", quantizer_args={"num_quantizers": 2, "start": "kaiming"}
        )
    )


def saved(tok: VisualTokenizer) -> Path:
    """A tokenizer in a folder that lives as long as this process."""
    folder = Path(tempfile.mkdtemp(prefix="vqtok-tokenizer-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tok.save_pretrained(folder)
    return folder


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (40, 32)) -> Path:
    """Writes coloured noise, its folders made as well; `size` is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


def look(source: Path | bytes) -> npt.NDArray[np.uint8]:
    """A picture file, or its bytes -> (H, W, 3); it must be PNG."""
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as shown:
        assert (shown.format, shown.mode) == ("PNG", "RGB")
        return np.asarray(shown)


def pictures(folder: Path, *names: str) -> Path:
    """Writes a picture under each name into `folder`."""
    for seed, name in enumerate(names):
        picture(folder / name, seed)
    return folder
