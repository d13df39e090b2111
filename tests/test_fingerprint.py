"""The fingerprint moves with what changes ids or pixels, and with nothing else."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from vqtok import fingerprint
from vqtok.errors import LoadError
from vqtok.preprocess import Preprocess
from vqtok.types import Codes, Fingerprint

SETTINGS = Preprocess(policy="center", size=16, stride=4)


def parts_that_differ(a: Fingerprint, b: Fingerprint) -> set[str]:
    return {f.name for f in dataclasses.fields(a) if getattr(a, f.name) != getattr(b, f.name)}


@pytest.fixture(scope="module")
def base() -> Fingerprint:
    return fingerprint.of_model(tiny.model(), SETTINGS)


@pytest.mark.parametrize(
    ("weight", "part"),
    [
        ("encoder.conv_in.weight", "encoder"),
        ("quant_conv.bias", "encoder"),
        ("quantize.embedding.weight", "codebook"),
        ("post_quant_conv.weight", "decoder"),
        ("decoder.conv_out.bias", "decoder"),
    ],
)
def test_one_changed_weight_moves_its_part(base: Fingerprint, weight: str, part: str) -> None:
    model = tiny.model()
    with torch.no_grad():
        model.state_dict()[weight].view(-1)[0].add_(1e-3)
    assert parts_that_differ(base, fingerprint.of_model(model, SETTINGS)) == {part}


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"scaling_factor": 0.5}, set()),
        ({"shift_factor": 0.5}, set()),
        ({"sample_size": 64}, set()),
        ({"estimator": "ste"}, set()),
        ({"quantizer_args": {"start": "kaiming", "decay": 0.5}}, set()),
        ({"quantizer_args": {"start": "kaiming", "use_cosine_sim": False}}, set()),
        ({"quantizer_args": {"start": "kaiming", "use_cosine_sim": True}}, {"codebook"}),
        ({"pixel_mean": (0.0,) * 3, "pixel_std": (1.0,) * 3}, {"encoder", "decoder"}),
        ({"act_fn": "relu"}, {"encoder", "decoder"}),
    ],
)
def test_settings(base: Fingerprint, changes: dict[str, Any], parts: set[str]) -> None:
    model = tiny.model(**changes)
    model.load_state_dict(tiny.model().state_dict())
    assert parts_that_differ(base, fingerprint.of_model(model, SETTINGS)) == parts


def test_training_state_is_left_out(base: Fingerprint) -> None:
    model = tiny.model()
    model.quantize.count.add_(1)
    model.quantize.steps.add_(1)
    assert fingerprint.of_model(model, SETTINGS) == base


def test_preprocessing(base: Fingerprint) -> None:
    other = fingerprint.of_model(tiny.model(), SETTINGS.changed(policy="stretch"))
    assert parts_that_differ(base, other) == {"preprocess"}
    assert not base.same_ids(other)
    unread = fingerprint.of_model(tiny.model(), SETTINGS.changed(max_pixels=10**6))
    assert unread == base


def test_decoder_alone_keeps_ids(base: Fingerprint) -> None:
    model = tiny.model()
    with torch.no_grad():
        model.decoder.conv_out.bias.add_(1)
    other = fingerprint.of_model(model, SETTINGS)
    assert base.same_ids(other)
    assert base.differences(other) == ["decoder"]
    assert other.can_decode(codes_of(base.codebook))


def codes_of(codebook: str) -> Codes:
    return Codes(np.zeros((1, 2, 2), int), np.zeros((1, 2), np.int32), 64, codebook)


def test_codes_are_decoded_by_their_codebook_alone(base: Fingerprint) -> None:
    assert base.can_decode(codes_of(base.codebook))
    assert base.can_decode(codes_of(""))  # nobody wrote down which
    assert not base.can_decode(codes_of(base.encoder))


@pytest.mark.parametrize("shards", ["10GB", "10KB"])
def test_a_folder_has_the_print_of_its_model(
    base: Fingerprint, tmp_path: Path, shards: str
) -> None:
    tiny.model().save_pretrained(tmp_path, max_shard_size=shards)
    assert fingerprint.of_folder(tmp_path, SETTINGS) == base


def test_half_precision_file_and_its_float32_copy_share_a_print(tmp_path: Path) -> None:
    half = tiny.model().half()
    half.save_pretrained(tmp_path)
    stored = fingerprint.of_folder(tmp_path, SETTINGS)
    assert stored == fingerprint.of_model(half.float(), SETTINGS)


def test_stock_export_keeps_its_print(base: Fingerprint, tmp_path: Path) -> None:
    tiny.model().to_diffusers().save_pretrained(tmp_path)
    assert fingerprint.of_folder(tmp_path, SETTINGS) == base


def test_print_is_pinned() -> None:
    """Recomputed prints must never move: token sets are kept for years."""
    model = tiny.model()
    with torch.no_grad():
        for index, tensor in enumerate(dict(sorted(model.state_dict().items())).values()):
            if tensor.is_floating_point():
                tensor.copy_(torch.arange(tensor.numel()).view(tensor.shape) / 64 + index)
    found = fingerprint.of_model(model, SETTINGS)
    assert [getattr(found, f.name)[:16] for f in dataclasses.fields(found)] == [
        "c01d8b64dd5a1b3e",
        "91694363b0fa572a",
        "199ab118cece8d88",
        "a6d3ef8f02b9e059",
    ]


def test_round_trip_and_text(base: Fingerprint) -> None:
    stored = json.loads(json.dumps(base.to_dict()))
    assert Fingerprint.from_dict(stored) == base
    assert str(base).startswith(f"vqtok-fp/1:{base.preprocess[:8]}-{base.encoder[:8]}-")


def test_foreign_print_is_refused() -> None:
    with pytest.raises(LoadError) as error:
        Fingerprint.from_dict({"schema": "vqtok-fp/2"})
    assert str(error.value) == (
        "a fingerprint of the schema vqtok-fp/1 has the sha256 of preprocess, encoder, codebook, "
        "decoder; got {'schema': 'vqtok-fp/2'}"
    )


def test_missing_weights(tmp_path: Path) -> None:
    tiny.model().save_config(tmp_path)
    with pytest.raises(LoadError) as error:
        fingerprint.of_folder(tmp_path, SETTINGS)
    assert str(error.value) == (
        f"{tmp_path} holds no weights: there is neither diffusion_pytorch_model.safetensors nor "
        "diffusion_pytorch_model.safetensors.index.json"
    )


def test_damaged_weights(tmp_path: Path) -> None:
    tiny.model().save_pretrained(tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(LoadError) as error:
        fingerprint.of_folder(tmp_path, SETTINGS)
    assert str(error.value).startswith(f"{file} is not a readable safetensors file: ")


def test_settings_that_a_stock_configuration_leaves_out(base: Fingerprint, tmp_path: Path) -> None:
    """Older files lack newer keys; what stands for them is VQModel's default, as in the model."""
    model = tiny.model(mid_block_add_attention=True, latent_channels=3, num_vq_embeddings=256)
    model.to_diffusers().save_pretrained(tmp_path)
    whole = fingerprint.of_folder(tmp_path, SETTINGS)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    for name in ("mid_block_add_attention", "latent_channels", "num_vq_embeddings"):
        del config[name]
    file.write_text(json.dumps(config))
    assert fingerprint.of_folder(tmp_path, SETTINGS) == whole


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no file {}"),
        ("[]", "{} holds a list; it should be an object"),
        ("{", "{} is not JSON: Expecting property name enclosed in double quotes: "),
    ],
)
def test_damaged_configuration(tmp_path: Path, text: str | None, message: str) -> None:
    file = tmp_path / "config.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(LoadError) as error:
        fingerprint.of_folder(tmp_path, SETTINGS)
    assert str(error.value).startswith(message.format(file))


def test_damaged_index(tmp_path: Path) -> None:
    tiny.model().save_pretrained(tmp_path, max_shard_size="10KB")
    index = tmp_path / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text("{}")
    with pytest.raises(LoadError) as error:
        fingerprint.of_folder(tmp_path, SETTINGS)
    assert str(error.value) == f"{index} is no index of weights: it has no object 'weight_map'"
