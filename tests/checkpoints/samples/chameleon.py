"""Chameleon's tokenizer in its two forms, narrower than it is."""

from __future__ import annotations

from typing import Any

import torch
from checkpoints.filled import filled
from torch import Tensor
from transformers import ChameleonVQVAEConfig
from transformers.models.chameleon.modeling_chameleon import ChameleonVQVAE

from vqtok.autoencoders import AutoencoderVQ
from vqtok.checkpoints.taming import to_taming

CODES, DIM = 8192, 256  # by which the original is known


def reference() -> ChameleonVQVAE:
    """transformers' model of the sample, in eval."""
    config = ChameleonVQVAEConfig(
        base_channels=32, channel_multiplier=[1, 1, 2], embed_dim=8, latent_channels=8
    )
    model = ChameleonVQVAE(config)
    shapes = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
    model.load_state_dict(filled(shapes))
    return model


def sample() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """transformers' form: an encoder, a codebook, and the config.json of the whole."""
    model = reference()
    return model.state_dict(), {"model_type": "chameleon", "vq_config": model.config.to_dict()}


def original() -> dict[str, Tensor]:
    """The form of vqgan.ckpt, with as many codes, of as many dimensions, as that has."""
    model = AutoencoderVQ(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(32, 32),
        layers_per_block=2,
        latent_channels=16,
        vq_embed_dim=DIM,
        num_vq_embeddings=CODES,
        quantizer_args={"start": "uniform"},
    )
    table = torch.linspace(-1, 1, CODES * DIM).sin().view(CODES, DIM)
    networks = {k: t for k, t in to_taming(model).items() if not k.startswith("quantize.")}
    made = filled({key: tuple(tensor.shape) for key, tensor in networks.items()})
    return {**made, "quantize.embedding.weight": table}
