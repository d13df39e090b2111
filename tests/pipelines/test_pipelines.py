"""diffusers' pipelines, built tiny and at random, with `AutoencoderVQ` in their slot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from tiny import model

from vqtok import AutoencoderVQ

# Two steps, a few tokens.
CALL: dict[str, Any] = {"num_inference_steps": 2, "output_type": "np"}
TEXT = 8  # the width of what a text encoder would give

Made = tuple[Any, dict[str, Any]]


def unet(**changes: Any) -> Any:
    settings = {
        "sample_size": 4,
        "in_channels": 4,
        "out_channels": 4,
        "layers_per_block": 1,
        "block_out_channels": (4, 8),
        "norm_num_groups": 2,
    }
    return settings | changes


def unconditional(**changes: Any) -> Any:
    blocks = {
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 4,
    }
    return diffusers.UNet2DModel(**unet(**blocks, **changes))


def conditional() -> Any:
    return diffusers.UNet2DConditionModel(
        **unet(
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=TEXT,
            attention_head_dim=2,
        )
    )


def scheduler() -> Any:
    return diffusers.DDIMScheduler(steps_offset=1, clip_sample=False)


def prompt() -> dict[str, Any]:
    return {"prompt_embeds": torch.randn(1, 5, TEXT), "guidance_scale": 1.0}


def ldm(vae: Any) -> Made:
    pipe = diffusers.LDMPipeline(vae, unconditional(), scheduler())
    return pipe, {}


def super_resolution(vae: Any) -> Made:
    net = unconditional(in_channels=6, out_channels=3)
    pipe = diffusers.LDMSuperResolutionPipeline(vae, net, scheduler())
    return pipe, {"image": torch.rand(1, 3, 4, 4) * 2 - 1}


def dit(vae: Any) -> Made:
    net = diffusers.DiTTransformer2DModel(
        sample_size=4,
        num_layers=1,
        patch_size=2,
        attention_head_dim=4,
        num_attention_heads=2,
        in_channels=4,
        out_channels=8,
        num_embeds_ada_norm=1000,
    )
    return diffusers.DiTPipeline(net, vae, scheduler()), {"class_labels": [1]}


def pixart(vae: Any) -> Made:
    net = diffusers.PixArtTransformer2DModel(
        sample_size=4,
        num_layers=1,
        patch_size=2,
        attention_head_dim=4,
        num_attention_heads=2,
        caption_channels=TEXT,
        in_channels=4,
        cross_attention_dim=8,
        out_channels=8,
    )
    pipe = diffusers.PixArtAlphaPipeline(None, None, vae, net, scheduler())
    mask = {"prompt_attention_mask": torch.ones(1, 5), "negative_prompt": None}
    return pipe, {**prompt(), **mask, "use_resolution_binning": False}


def kandinsky(vae: Any) -> Made:
    net = diffusers.UNet2DConditionModel(
        **unet(
            out_channels=8,
            addition_embed_type="image",
            down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
            up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
            mid_block_type="UNetMidBlock2DSimpleCrossAttn",
            encoder_hid_dim=TEXT,
            encoder_hid_dim_type="image_proj",
            cross_attention_dim=8,
            attention_head_dim=4,
            resnet_time_scale_shift="scale_shift",
        )
    )
    pipe = diffusers.KandinskyV22Pipeline(net, scheduler(), vae)
    embeds = {"image_embeds": torch.randn(1, TEXT), "negative_image_embeds": torch.randn(1, TEXT)}
    return pipe, {**embeds, "height": 16, "width": 16}


def amused(vae: Any) -> Made:
    net = diffusers.UVit2DModel(
        hidden_size=8,
        cond_embed_dim=8,
        encoder_hidden_size=TEXT,
        micro_cond_encode_dim=2,
        micro_cond_embed_dim=10,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        block_out_channels=8,
        in_channels=8,
        block_num_heads=1,
        num_res_blocks=1,
        use_bias=True,
        vocab_size=65,
        codebook_size=64,
        sample_size=4,
    )
    pipe = diffusers.AmusedPipeline(
        vae, None, None, net, diffusers.AmusedScheduler(mask_token_id=64)
    )
    text = {"prompt_embeds": torch.randn(1, 8), "encoder_hidden_states": torch.randn(1, 5, TEXT)}
    return pipe, {**text, "guidance_scale": 0.0}


def stable_diffusion(vae: Any) -> Made:
    parts = [None, None, conditional(), scheduler(), None, None]
    pipe = diffusers.StableDiffusionPipeline(vae, *parts, requires_safety_checker=False)
    return pipe, prompt()


def image_to_image(vae: Any) -> Made:
    parts = [None, None, conditional(), scheduler(), None, None]
    pipe = diffusers.StableDiffusionImg2ImgPipeline(vae, *parts, requires_safety_checker=False)
    return pipe, {**prompt(), "image": torch.rand(1, 3, 16, 16), "strength": 1.0}


def flux(vae: Any) -> Made:
    net = diffusers.FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=1,
        joint_attention_dim=TEXT,
        pooled_projection_dim=8,
        axes_dims_rope=(2, 2, 4),
    )
    steps = diffusers.FlowMatchEulerDiscreteScheduler()
    pipe = diffusers.FluxPipeline(steps, vae, None, None, None, None, net)
    text = {**prompt(), "pooled_prompt_embeds": torch.randn(1, 8)}
    return pipe, {**text, "height": 16, "width": 16}


SPATIAL = {"norm_type": "spatial", "block_out_channels": (32, 32, 32), "norm_num_groups": 32}


def generate(make: Callable[[Any], Made], vae: Any) -> np.ndarray:
    torch.manual_seed(0)
    pipe, inputs = make(vae)
    pipe.set_progress_bar_config(disable=True)
    images = pipe(**inputs, **CALL, generator=torch.Generator().manual_seed(0)).images
    return np.asarray(images)


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (ldm, {}),
        (super_resolution, {"latent_channels": 3}),
        (dit, {}),
        (pixart, {}),
        (kandinsky, SPATIAL),
        (amused, {"lookup_from_codebook": True}),
    ],
)
def test_the_picture_is_the_one_of_vqmodel(
    make: Callable[[Any], Made], settings: dict[str, Any]
) -> None:
    ours = model(scaling_factor=0.5, **settings)
    picture = generate(make, ours)
    assert picture.shape == (1, 16, 16, 3) and picture.std() > 0.01
    assert np.abs(picture - generate(make, ours.to_diffusers())).max() <= 1e-4


@pytest.mark.parametrize(
    ("make", "settings"),
    [(stable_diffusion, {}), (image_to_image, {}), (flux, {"shift_factor": 0.1})],
)
def test_pipelines_that_take_no_vqmodel(
    make: Callable[[Any], Made], settings: dict[str, Any]
) -> None:
    vae = model(**settings)
    seen: list[dict[str, Any]] = []
    decode = AutoencoderVQ.decode

    def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(kwargs)
        return decode(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AutoencoderVQ, "decode", watched)
        picture = generate(make, vae)
    assert picture.shape == (1, 16, 16, 3) and picture.std() > 0.01
    assert len(seen) == 1
    assert ("generator" in seen[0]) == (make is not flux)


def test_shift_and_scale_are_those_of_the_configuration() -> None:
    plain, moved = (
        generate(flux, model(scaling_factor=1.0, shift_factor=shift)) for shift in (0.0, 0.4)
    )
    assert np.abs(plain - moved).max() > 0.01
