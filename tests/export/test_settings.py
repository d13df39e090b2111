from __future__ import annotations

from typing import Any

import pytest

from vqtok.errors import ConfigError
from vqtok.export.settings import ExportSettings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtype": "bf16"}, "dtype='bf16' is not fp32 or fp16"),
        (
            {"decoder_dtype": "int8"},
            "decoder_dtype='int8' is not fp32 or fp16, or None for dtype's",
        ),
        ({"opset": 17}, "opset=17 is not a whole number from 18 to 23"),
        ({"opset": 24}, "opset=24 is not a whole number from 18 to 23"),
        ({"opset": "20"}, "opset='20' is not a whole number from 18 to 23"),
        ({"pixels": "float32"}, "pixels='float32' is not uint8 or float"),
        ({"codes": "uint16"}, "codes='uint16' is not int64 or int32"),
        ({"search_block": 8}, "search_block=8 is not a whole number from 16 to 1048576"),
        (
            {"opsett": 20},
            "an export has no setting 'opsett'. Did you mean 'opset'? Known: codes, "
            "decoder_dtype, dtype, opset, pixels, search_block.",
        ),
    ],
)
def test_a_setting_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        ExportSettings(**settings)
    assert str(error.value) == message


def test_precisions() -> None:
    plain = ExportSettings()
    assert (plain.precision, plain.decoder_precision) == ("ieee32", "ieee32")
    half = ExportSettings(dtype="fp16")
    assert (half.precision, half.decoder_precision) == ("fp16", "fp16")
    mixed = ExportSettings(decoder_dtype="fp16")
    assert (mixed.precision, mixed.decoder_precision) == ("ieee32", "fp16")
