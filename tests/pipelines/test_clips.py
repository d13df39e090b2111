"""diffusers' pipelines of clips, tiny and at random, with our models of clips in their slot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from autoencoders.toys import toy

from vqtok.autoencoders import AutoencoderBase
from vqtok.autoencoders.clips import AutoencoderClips

TEXT = 8  # the width of what a text encoder would give
LENGTH = 5
MODELS = ["cnn3d", "emu3", "timesformer"]


def transformer(vae: AutoencoderBase) -> Any:
    """Over 3 x 4 x 4 latents of 4 dimensions, in patches of 2 x 2."""
    return diffusers.CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        time_embed_dim=2,
        text_embed_dim=TEXT,
        num_layers=1,
        sample_width=4,
        sample_height=4,
        sample_frames=vae.size_of((3, 4, 4))[0],
        patch_size=2,
        temporal_compression_ratio=vae.temporal_compression_ratio,
        max_text_seq_length=LENGTH,
    )


def pipeline(vae: AutoencoderBase, kind: Any = diffusers.CogVideoXPipeline) -> Any:
    torch.manual_seed(0)
    pipe = kind(None, None, vae, transformer(vae), diffusers.CogVideoXDDIMScheduler())
    pipe.set_progress_bar_config(disable=True)
    return pipe


def frames(pipe: Any, **inputs: Any) -> np.ndarray:
    """(1, T, H, W, 3) in [0, 1]."""
    _, height, width = pipe.vae.size_of((3, 4, 4))
    made = pipe(
        prompt_embeds=torch.randn(1, LENGTH, TEXT, generator=torch.Generator().manual_seed(1)),
        guidance_scale=1.0,
        height=height,
        width=width,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
        **inputs,
    ).frames
    return np.asarray(made)


def slot(name: str, **changes: Any) -> AutoencoderBase:
    vae = toy(name, vq_embed_dim=4, **changes)
    if not isinstance(vae, AutoencoderClips):
        pytest.skip(f"{type(vae).__name__} is no AutoencoderClips yet")
    return vae


@pytest.mark.parametrize("name", MODELS)
def test_noise_to_a_clip(name: str) -> None:
    vae = slot(name)
    pipe = pipeline(vae)
    assert pipe.vae_scale_factor_spatial == vae.spatial_compression_ratio
    assert pipe.vae_scale_factor_temporal == vae.temporal_compression_ratio
    count, height, width = vae.size_of((3, 4, 4))
    made = frames(pipe, num_frames=count)
    assert made.shape == (1, count, height, width, 3)
    assert made.std() > 0.01


@pytest.mark.parametrize("name", MODELS)
def test_a_clip_to_a_clip(name: str) -> None:
    vae = slot(name)
    pipe = pipeline(vae, diffusers.CogVideoXVideoToVideoPipeline)
    count, height, width = vae.size_of((3, 4, 4))
    clip = torch.rand(1, count, 3, height, width, generator=torch.Generator().manual_seed(2))
    made = frames(pipe, video=clip, strength=0.5)
    assert made.shape == (1, count, height, width, 3)
    assert np.abs(made - frames(pipe, video=1 - clip, strength=0.5)).max() > 0.01


@pytest.mark.parametrize("name", MODELS)
def test_the_scale_is_that_of_the_configuration(name: str) -> None:
    count = slot(name).size_of((3, 4, 4))[0]
    plain, scaled = (
        frames(pipeline(slot(name, scaling_factor=factor)), num_frames=count)
        for factor in (1.0, 0.2)
    )
    assert np.abs(plain - scaled).max() > 0.001


@pytest.mark.parametrize("name", MODELS)
def test_saved_and_loaded(name: str, tmp_path: Path) -> None:
    pipe = pipeline(slot(name))
    pipe.save_pretrained(tmp_path)
    again = diffusers.CogVideoXPipeline.from_pretrained(tmp_path, tokenizer=None, text_encoder=None)
    again.set_progress_bar_config(disable=True)
    assert type(again.vae) is type(pipe.vae)
    count = pipe.vae.size_of((3, 4, 4))[0]
    assert (frames(again, num_frames=count) == frames(pipe, num_frames=count)).all()
