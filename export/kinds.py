"""The arithmetic that an export's encoder and decoder may have, and what speaks against others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vqtok.errors import ConfigError
from vqtok.export.settings import ExportSettings

__all__ = ["Kinds"]

INT8 = (
    "an int8 encoder gives other ids: 75 to 90 % of them were measured to change where the "
    "arithmetic is int8, and 4 % where the weights alone are, as they are here, so that it is "
    "another tokenizer. dtype='fp32' keeps them, 'fp16' most of them, and decoder_dtype='int8' "
    "makes the decoder small; accept_other_ids=True (--accept-other-ids) takes it all the same"
)
BF16 = (
    "{part} cannot be bf16: ONNX Runtime's CPU provider has no convolutions in it, so that nobody "
    "could check the graph{ids}. Take 'fp32' or 'fp16'"
)
BF16_IDS = "; and 25 to 40 % of ids were measured to change under bf16"


@dataclass(frozen=True)
class Kinds:
    """The arithmetic of encoder and decoder: fp32, fp16 or int8."""

    encoder: str
    decoder: str

    @classmethod
    def chosen(cls, dtype: str, decoder_dtype: str | None, *, accept_other_ids: bool) -> Kinds:
        """Those that can be; `ConfigError` otherwise."""
        if dtype == "bf16":
            raise ConfigError(BF16.format(part="an encoder", ids=BF16_IDS))
        if decoder_dtype == "bf16":
            raise ConfigError(BF16.format(part="a decoder", ids=""))
        if dtype == "int8" and not accept_other_ids:
            raise ConfigError(INT8)
        if decoder_dtype is None:
            decoder_dtype = "fp32" if dtype == "int8" else dtype
        return cls(dtype, decoder_dtype)

    def graphs(self, **others: Any) -> ExportSettings:
        """The settings of the graphs that are made first; those of int8 are made of fp32."""
        first: dict[str, Any] = {
            "dtype" if part == "encoder" else "decoder_dtype": "fp32" if kind == "int8" else kind
            for part, kind in (("encoder", self.encoder), ("decoder", self.decoder))
        }
        return ExportSettings(**first, **others)
