"""An export of the smallest tokenizer, made once, and codecs that are off in known ways."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import tiny

from vqtok.codec import TorchCodec
from vqtok.export import Report, export
from vqtok.types import Codes


@cache
def exported(**options: Any) -> Report:
    """What `export` gave of `tiny.tokenizer()`; tests leave its folder as it is."""
    place = Path(tempfile.mkdtemp(prefix="vqtok-onnx-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return export(tiny.tokenizer(), place / "graphs", **options)


def copied(tok: Any, folder: Path, settings: Any, progress: Callable[[str], object]) -> list[Path]:
    """In the place of `write_graphs`: those of `exported`, for a tokenizer like that."""
    made = []
    for name in ("encoder.onnx", "decoder.onnx"):
        progress(name)
        made.append(Path(shutil.copyfile(exported().folder / name, folder / name)))
    return made


def same(array: Any) -> Any:
    """No change."""
    return array


@dataclass
class Changed:
    """A codec whose ids and pixels are others than torch's."""

    ours: TorchCodec
    ids: Callable[[Any], Any] = same
    pixels: Callable[[Any], Any] = same

    def encode(self, pixels: Any) -> Codes:
        codes = self.ours.encode(pixels)
        return replace(codes, ids=self.ids(codes.ids.copy()))

    def decode(self, codes: Codes) -> Any:
        return self.pixels(self.ours.decode(codes).copy())
