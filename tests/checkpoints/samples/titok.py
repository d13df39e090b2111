"""Tiny TiToks, under the names of the published files: of two stages, and of one."""

from __future__ import annotations

import re
from typing import Any

from checkpoints.filled import filled, pixels
from checkpoints.samples import maskgit
from checkpoints.samples.maskgit import norm
from torch import Tensor

IMAGE, PATCH, TOKENS = 16, 4, 6
DIM, CODES = 12, 64
PROXY_CODES = 40
# Width and depth; heads are 64 wide.
ENCODER, DECODER = (128, 2), (64, 1)
LOUD = re.compile(
    r"encoder\..*(in_proj_weight|out_proj\.weight|patch_embed\.weight)|decoder\.ffn\.2\.weight"
)

Shapes = maskgit.Shapes


def sample() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Of two stages, as config.json beside it says: tensors as published, and settings."""
    return lively(two_stages()), config(use_l2_norm=True)


def one_stage_sample() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The same of the later kind, which decodes to pixels by itself."""
    said = config(use_l2_norm=False, finetune_decoder=False, is_legacy=False)
    return lively(one_stage()), said


def pictures() -> Tensor:
    """(8, 3, IMAGE, IMAGE) in [-1, 1]: noise, each picture around a colour of its own."""
    return 0.3 * pixels(8, 3, IMAGE, IMAGE) + 0.7 * pixels(8, 3, 1, 1, seed=3)


def lively(shapes: Shapes) -> dict[str, Tensor]:
    """Weights by the rule, but such that pictures weigh more than places, and logits differ."""
    tensors = filled(shapes)
    for key in tensors:
        if LOUD.fullmatch(key):
            tensors[key] *= 3
    return tensors


def config(**vq_model: Any) -> dict[str, Any]:
    """What the published config.json has, in its shape."""
    return {
        "experiment": {"output_dir": "titok"},
        "model": {
            "vq_model": {
                "codebook_size": CODES,
                "token_size": DIM,
                "commitment_cost": 0.25,
                "vit_enc_model_size": "small",
                "vit_dec_model_size": "base",
                "vit_enc_patch_size": PATCH,
                "vit_dec_patch_size": PATCH,
                "num_latent_tokens": TOKENS,
                "finetune_decoder": True,
                **vq_model,
            }
        },
        "dataset": {"preprocessing": {"crop_size": IMAGE}},
    }


def two_stages() -> Shapes:
    width = DECODER[0]
    return {
        **transformers(),
        **maskgit.conv("decoder.ffn.0", width, 2 * width, 1),
        **maskgit.conv("decoder.ffn.2", 2 * width, PROXY_CODES, 1),
        "pixel_quantize.embedding.weight": (PROXY_CODES, maskgit.DIM),
        **maskgit.decoder("pixel_decoder"),
    }


def one_stage() -> Shapes:
    return {
        **transformers(),
        **maskgit.conv("decoder.ffn.0", DECODER[0], PATCH * PATCH * 3, 1),
        **maskgit.conv("decoder.conv_out", 3, 3, 3),
    }


def transformers() -> Shapes:
    return {
        "latent_tokens": (TOKENS, ENCODER[0]),
        **maskgit.conv("encoder.patch_embed", 3, ENCODER[0], PATCH),
        **transformer("encoder", *ENCODER),
        **maskgit.conv("encoder.conv_out", ENCODER[0], DIM, 1),
        "quantize.embedding.weight": (CODES, DIM),
        **linear("decoder.decoder_embed", DIM, DECODER[0]),
        "decoder.mask_token": (1, 1, DECODER[0]),
        **transformer("decoder", *DECODER),
    }


def transformer(side: str, width: int, depth: int) -> Shapes:
    made = {
        f"{side}.class_embedding": (1, width),
        f"{side}.positional_embedding": ((IMAGE // PATCH) ** 2 + 1, width),
        f"{side}.latent_token_positional_embedding": (TOKENS, width),
        **norm(f"{side}.ln_pre", width),
        **norm(f"{side}.ln_post", width),
    }
    for layer in range(depth):
        name = f"{side}.transformer.{layer}"
        made |= {
            **norm(f"{name}.ln_1", width),
            **norm(f"{name}.ln_2", width),
            f"{name}.attn.in_proj_weight": (3 * width, width),
            f"{name}.attn.in_proj_bias": (3 * width,),
            **linear(f"{name}.attn.out_proj", width, width),
            **linear(f"{name}.mlp.c_fc", width, 4 * width),
            **linear(f"{name}.mlp.c_proj", 4 * width, width),
        }
    return made


def linear(name: str, width: int, to: int) -> Shapes:
    return {f"{name}.weight": (to, width), f"{name}.bias": (to,)}
