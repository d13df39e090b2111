"""To and from `diffusers.VQModel`, which loads anywhere without this package."""

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING, Any

import torch
from diffusers import VQModel

from vqtok.errors import ConfigError, InputError

if TYPE_CHECKING:
    from vqtok.autoencoders.image import AutoencoderVQ

__all__ = ["TRAINING", "defaults", "from_vq_model", "to_vq_model"]

# How a VQModel is trained, in this package's words. Its configuration does not say so.
TRAINING: dict[str, Any] = {
    "quantizer": "vector",
    "estimator": "ste",
    "quantizer_args": {
        "codebook_update": "gradient",
        "commitment_weight": 0.25,
        "dead_codes": "off",
        "legacy_beta": True,
        "start": "uniform",
    },
}


def defaults() -> dict[str, Any]:
    """VQModel's settings, for configurations written before some of them were there."""
    parameters = inspect.signature(VQModel.__init__).parameters
    return {name: given.default for name, given in parameters.items() if name != "self"}


def to_vq_model(model: AutoencoderVQ) -> Any:
    """A VQModel with equal weights, ids and pixels; `ConfigError` where there is none."""
    config = model.config
    obstacles = []
    if config.quantizer != "vector":
        obstacles.append(f"the quantizer is {config.quantizer!r}, not 'vector'")
    elif (config.quantizer_args or {}).get("use_cosine_sim"):
        obstacles.append("codes are compared by direction (use_cosine_sim)")
    if not model.pixels.is_signed:
        obstacles.append("the networks take another pixel range than [-1, 1]")
    if config.pre_quant_norm != "none":
        obstacles.append("latents are normalised before quantization (pre_quant_norm)")
    if config.quant_conv_kernel != 1:
        obstacles.append("codes stand between larger convolutions than 1 x 1 (quant_conv_kernel)")
    if not config.up_block_types:
        obstacles.append("it has no decoder (up_block_types)")
    if obstacles:
        raise ConfigError(f"diffusers' VQModel cannot express this model: {'; '.join(obstacles)}")
    if config.shift_factor:
        warnings.warn(
            "VQModel has no shift_factor: whoever trains on its latents takes "
            f"{config.shift_factor} off them first. Ids and pixels are the same",
            stacklevel=3,
        )
    stock = VQModel(**{name: config[name] for name in defaults()})
    known = stock.state_dict()
    weights = model.state_dict()
    stock.load_state_dict({name: weights[name] for name in known})
    stock.to(model.device)
    if model.dtype != torch.float32:
        stock.to(model.dtype)
    return stock.train(model.training)


def from_vq_model(cls: type[AutoencoderVQ], stock: Any) -> AutoencoderVQ:
    """An AutoencoderVQ with the weights of a VQModel, trained on as that was."""
    if not isinstance(stock, VQModel):
        raise InputError(f"from_diffusers takes a diffusers.VQModel; got {type(stock).__name__}")
    model: AutoencoderVQ = cls(**{name: stock.config[name] for name in defaults()}, **TRAINING)
    model.load_state_dict(model.state_dict() | stock.state_dict())
    model.to(stock.device)
    for part in (model.encoder, model.quant_conv, model.post_quant_conv, model.decoder):
        part.to(stock.dtype)  # but not the codebook, which stays float32
    model.train(stock.training)
    return model
