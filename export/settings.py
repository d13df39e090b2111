"""What is chosen when a tokenizer becomes ONNX graphs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vqtok.errors import ConfigError, did_you_mean
from vqtok.precision import Precision

__all__ = ["DEFAULT_OPSET", "OPSETS", "Dtype", "ExportSettings"]

# What torch's exporter writes.
OPSETS = (18, 23)
# Measured on a busy CPU with ONNX Runtime: with 18, 20 and 23 latents are equally exact, and no one
# of them was faster by more than two runs of one differ.
DEFAULT_OPSET = 20

Dtype = Literal["fp32", "fp16"]
PRECISIONS: dict[Dtype, Precision] = {"fp32": "ieee32", "fp16": "fp16"}


class ExportSettings(BaseModel):
    """Frozen; a setting that cannot be is a `ConfigError`.

    dtype          of the encoder's network; quantizer and search are float32 always
    decoder_dtype  of the decoder's, by default the same
    opset          of ONNX
    pixels         "uint8": (N, H, W, 3), clips (N, T, H, W, 3); "float": float32 in [0, 1] with the
                   channels first, (N, 3, H, W) and (N, 3, T, H, W)
    codes          the type of ids
    search_block   codes that all vectors of a batch are compared with at a time: memory is bounded
                   by so many scores a token
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    dtype: Dtype = Field("fp32", description="fp32 or fp16")
    decoder_dtype: Dtype | None = Field(None, description="fp32 or fp16, or None for dtype's")
    opset: int = Field(
        DEFAULT_OPSET,
        ge=OPSETS[0],
        le=OPSETS[1],
        description=f"a whole number from {OPSETS[0]} to {OPSETS[1]}",
    )
    pixels: Literal["uint8", "float"] = Field("uint8", description="uint8 or float")
    codes: Literal["int64", "int32"] = Field("int64", description="int64 or int32")
    search_block: int = Field(
        1024, ge=16, le=1 << 20, description=f"a whole number from 16 to {1 << 20}"
    )

    if not TYPE_CHECKING:  # type checkers know the fields; this only words the errors

        def __init__(self, **settings: Any) -> None:
            try:
                super().__init__(**settings)
            except ValidationError as error:
                raise ConfigError(_sentence(error, settings)) from None

    @property
    def precision(self) -> Precision:
        """The arithmetic that ids are made with."""
        return PRECISIONS[self.dtype]

    @property
    def decoder_precision(self) -> Precision:
        """The arithmetic that pixels are made with."""
        return PRECISIONS[self.decoder_dtype or self.dtype]


def _sentence(error: ValidationError, settings: Mapping[str, Any]) -> str:
    """The first of pydantic's complaints, in our words."""
    name = str(error.errors()[0]["loc"][0])
    fields = ExportSettings.model_fields
    if name not in fields:
        return f"an export has no setting {name!r}. {did_you_mean(name, fields)}"
    return f"{name}={settings[name]!r} is not {fields[name].description}"
