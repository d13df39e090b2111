from __future__ import annotations

import pytest
import tiny

from vqtok.errors import ConfigError
from vqtok.training.freeze import freeze, set_training


def trained(model: object) -> set[str]:
    names = (name for name, p in model.named_parameters() if p.requires_grad)  # type: ignore[attr-defined]
    return {name.split(".")[0] for name in names}


def test_a_decoder_alone() -> None:
    model = tiny.model()
    freeze(model, ["encoder", "codebook"])
    assert trained(model) == {"post_quant_conv", "decoder"}
    set_training(model, ["encoder", "codebook"])
    assert not model.encoder.training
    assert not model.quant_conv.training
    assert not model.quantize.training
    assert model.decoder.training


def test_a_codebook_alone_lets_gradients_pass() -> None:
    model = tiny.model(quantizer_args={"codebook_update": "gradient", "start": "kaiming"})
    freeze(model, ["codebook"])
    assert trained(model) == {"encoder", "quant_conv", "post_quant_conv", "decoder"}
    set_training(model, ["codebook"])
    assert model.quantize.training


def test_everything_is_nothing_left() -> None:
    with pytest.raises(ConfigError) as error:
        freeze(tiny.model(), ["decoder", "encoder", "codebook"])
    assert str(error.value) == (
        "encoder, codebook and decoder are all frozen: nothing is left to train"
    )
