"""Files as CompVis, Meta and Hugging Face publish them, from the outside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from checkpoints.filled import pixels
from checkpoints.samples import chameleon, diffusers_vq, gumbel_vq, ldm, taming
from safetensors.torch import save_file
from torch import Tensor

from vqtok import VisualTokenizer
from vqtok.checkpoints.building import Conversion, build
from vqtok.errors import ConfigError


def lightning(file: Path, tensors: dict[str, Tensor], settings: dict[str, Any]) -> Path:
    """A checkpoint of Lightning's, and the YAML that is published beside it."""
    found = {"state_dict": tensors, "epoch": 1, "optimizer_states": [{"state": {}}]}
    torch.save(found, file)
    file.with_suffix(".yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return file


def around(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: tensor for key, tensor in tensors.items()}


def goes_round(made: Conversion) -> None:
    """Pixels to ids, to pixels, to ids."""
    x = pixels(1, 3, 16, 16)
    codes = made.model.encode_codes(x)
    again = made.model.encode_codes(made.model.decode_codes(codes))
    assert codes.shape == again.shape == (1, 8, 8)
    assert len(codes.unique()) > 3


@pytest.mark.parametrize(("name", "source"), [("taming", taming), ("gumbel_vq", gumbel_vq)])
def test_a_vqgan(name: str, source: Any, tmp_path: Path) -> None:
    made = build(lightning(tmp_path / "last.ckpt", *source.sample()))
    assert made.family == name
    assert made.preprocess.size == 16
    goes_round(made)


def test_a_whole_latent_diffusion_model(tmp_path: Path) -> None:
    tensors, settings = ldm.sample()
    whole = {
        **around("first_stage_model.", tensors),
        "model.diffusion_model.out.2.bias": torch.zeros(3),
        "model_ema.diffusion_modelout2bias": torch.zeros(3),
        "cond_stage_model.embedding.weight": torch.zeros(3, 3),
        "alphas_cumprod": torch.zeros(3),
    }
    params = {"image_size": 8, "first_stage_config": settings["model"]}
    made = build(lightning(tmp_path / "model.ckpt", whole, {"model": {"params": params}}))
    assert made.family == "ldm"
    assert made.preprocess.size == 16
    assert made.report.notes[0] == "4 tensors of the model around the tokenizer were not read"
    goes_round(made)


@pytest.mark.parametrize("kind", diffusers_vq.KINDS)
def test_a_weight_file_of_diffusers(kind: str, tmp_path: Path) -> None:
    tensors, settings = diffusers_vq.sample(kind)
    save_file(tensors, tmp_path / "vq.safetensors")
    (tmp_path / "vq.json").write_text(json.dumps(settings), encoding="utf-8")
    made = build(tmp_path / "vq.safetensors")
    assert made.family == "diffusers_vq"
    assert made.model.config.scaling_factor == 0.18215
    codes = made.model.encode_codes(pixels(1, 3, 16, 16))
    assert made.model.decode_codes(codes).shape == (1, 3, 16, 16)


def test_chameleon_within_its_language_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VQTOK_CACHE", str(tmp_path / "cache"))
    tensors, settings = chameleon.sample()
    settings["vq_config"]["resolution"] = 64
    whole = around("model.vqmodel.", tensors) | {"lm_head.weight": torch.zeros(2, 2)}
    save_file(whole, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    tok = VisualTokenizer.from_pretrained(tmp_path / "model.safetensors")
    noise = np.random.default_rng(0).integers(0, 256, (70, 80, 3)).astype(np.uint8)
    codes = tok.encode_codes([noise])
    assert codes[0].shape == (16, 16)
    with pytest.raises(ConfigError) as error:
        tok.decode_codes(codes)
    assert "vqgan.ckpt" in str(error.value)


def test_chameleon_s_original(tmp_path: Path) -> None:
    file = lightning(tmp_path / "vqgan.ckpt", chameleon.original(), {})
    made = build(file)
    assert made.family == "chameleon"
    assert made.preprocess.size == 512
    codes = made.model.encode_codes(pixels(1, 3, 16, 16))
    assert made.model.decode_codes(codes).shape == (1, 3, 16, 16)
