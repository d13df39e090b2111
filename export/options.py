"""What is chosen when a folder of ONNX graphs is written. Importing this brings no torch."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from vqtok.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from vqtok.sources import Paths

__all__ = ["DEFAULTS", "Options"]


@dataclass(frozen=True)
class Options:
    """Those of `vqtok.export.export` and of the verb.

    dtype             of the encoder, fp32 or fp16: the second changes some ids, and says how many
    decoder_dtype     fp32, fp16 or int8, by default the encoder's
    opset             of ONNX; pixels, codes: see `ExportSettings`
    check             pictures or clips that the graphs are held against torch with, by default the
                      sample photographs of the package
    check_count       of these at the most, evenly spaced
    overwrite         replaces a folder of this kind
    accept_other_ids  takes an encoder that gives others than torch's
    keep_failed       keeps graphs that are refused, as the folder's name with `.failed`
    """

    dtype: str = "fp32"
    decoder_dtype: str | None = None
    opset: int | None = None
    pixels: str = "uint8"
    codes: str = "int64"
    check: Paths | None = None
    check_count: int = 64
    overwrite: bool = False
    accept_other_ids: bool = False
    keep_failed: bool = False

    def __post_init__(self) -> None:
        count: Any = self.check_count
        if type(count) is not int or count < 1:
            raise ConfigError(f"check_count={count!r} is not a whole number, at least 1")

    def changed(self, **others: Any) -> Options:
        """These with others in their place."""
        known = [field.name for field in fields(self)]
        for name in others:
            if name not in known:
                raise ConfigError(f"an export has no option {name!r}. {did_you_mean(name, known)}")
        return replace(self, **others)


DEFAULTS = Options()
