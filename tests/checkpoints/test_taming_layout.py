from __future__ import annotations

import pytest
import torch
from checkpoints.samples import janus, taming
from torch import Tensor

from vqtok.autoencoders import AutoencoderVQ
from vqtok.checkpoints.keys import shape_of
from vqtok.checkpoints.taming_layout import (
    decoder_weights,
    encoder_weights,
    is_layout,
    levels_of,
    model_weights,
    settings_from_shapes,
    to_layout,
)
from vqtok.errors import LoadError


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    return taming.networks("taming")


@pytest.mark.parametrize("name", ["taming", "ldm"])
def test_names_come_back(name: str) -> None:
    theirs = taming.networks(name)
    back = to_layout(model_weights(theirs, "a file"))
    assert back.keys() == theirs.keys()
    assert all(torch.equal(back[key], tensor) for key, tensor in theirs.items())


@pytest.mark.parametrize("attention", ["", "Attn"])
def test_shapes_tell_the_settings(attention: str) -> None:
    settings = {
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 4,
        "block_out_channels": (32, 32, 64),
        "layers_per_block": 3,
        "down_block_types": ("DownEncoderBlock2D",) * 2 + (f"{attention}DownEncoderBlock2D",),
        "up_block_types": (f"{attention}UpDecoderBlock2D",) + ("UpDecoderBlock2D",) * 2,
        "mid_block_add_attention": bool(attention),
        "norm_num_groups": 32,
    }
    assert settings_from_shapes(AutoencoderVQ(**settings).state_dict(), "a file") == settings
    encoder = {**settings, "up_block_types": ()}
    weights = AutoencoderVQ(**encoder).state_dict()
    assert settings_from_shapes(weights, "a file", decoder=False) == encoder


def test_levels_run_from_the_coarsest(tensors: dict[str, Tensor]) -> None:
    finest = tensors["decoder.up.0.block.0.nin_shortcut.weight"]
    ours = decoder_weights(tensors, "a file")
    assert torch.equal(ours["decoder.up_blocks.1.resnets.0.conv_shortcut.weight"], finest)
    as_they_run = decoder_weights(tensors, "a file", by_resolution=False)
    assert torch.equal(as_they_run["decoder.up_blocks.0.resnets.0.conv_shortcut.weight"], finest)


def test_a_network_under_another_prefix(tensors: dict[str, Tensor]) -> None:
    moved = {f"vae.{key}": tensor for key, tensor in tensors.items()}
    ours = encoder_weights(moved, "a file", "vae.encoder.")
    assert ours.keys() == encoder_weights(tensors, "a file").keys()


def test_it_is_known_by_its_names_and_their_order(tensors: dict[str, Tensor]) -> None:
    assert is_layout(tensors)
    encoder = {key: t for key, t in tensors.items() if not key.startswith("decoder.")}
    assert not is_layout(encoder)
    assert is_layout(encoder, decoder=False)
    # Janus counts its levels as they run.
    assert not is_layout(janus.sample()[0])


def test_levels_are_counted_not_believed() -> None:
    hostile = {f"encoder.down.{10**15}.block.0.conv1.weight": torch.zeros(1)}
    assert levels_of(hostile, "encoder.down.") == 1


def test_a_key_of_no_network(tensors: dict[str, Tensor]) -> None:
    tensors["encoder.down.0.block.0.temb_proj.weight"] = torch.zeros(1)
    with pytest.raises(LoadError) as error:
        model_weights(tensors, "a file")
    assert str(error.value) == (
        "a file holds 'encoder.down.0.block.0.temb_proj.weight', which is no key of its family"
    )


def test_a_level_that_another_encoder_has(tensors: dict[str, Tensor]) -> None:
    tensors["encoder.down.1.block.2.conv1.weight"] = torch.zeros(64, 64, 3, 3)
    with pytest.raises(LoadError) as error:
        settings_from_shapes(model_weights(tensors, "a file"), "a file")
    assert str(error.value) == (
        "a file holds a network whose levels have 2, 3 residual blocks; all levels of one have as "
        "many"
    )


def test_a_decoder_of_another_depth(tensors: dict[str, Tensor]) -> None:
    short = {key: t for key, t in tensors.items() if ".block.2." not in key}
    with pytest.raises(LoadError) as error:
        settings_from_shapes(model_weights(short, "a file"), "a file")
    assert str(error.value) == (
        "a file holds an encoder of 2 levels with 2 blocks each, to which a decoder of 2 levels "
        "with 3 blocks belongs; its decoder has 2 levels with 2 blocks"
    )
    shallow = {key: t for key, t in tensors.items() if not key.startswith("decoder.up.1")}
    with pytest.raises(LoadError) as error:
        settings_from_shapes(model_weights(shallow, "a file"), "a file")
    assert str(error.value) == (
        "a file holds an encoder of 2 levels with 2 blocks each, to which a decoder of 2 levels "
        "with 3 blocks belongs; its decoder has 1"
    )


def test_an_autoencoder_without_codes(tensors: dict[str, Tensor]) -> None:
    tensors["encoder.conv_out.weight"] = torch.zeros(64, 64, 3, 3)
    with pytest.raises(LoadError) as error:
        settings_from_shapes(model_weights(tensors, "a file"), "a file")
    assert str(error.value) == (
        "a file holds an encoder that puts out 64 channels and a decoder that takes 32: that is a "
        "KL autoencoder (double_z), which has no codes"
    )


def test_no_decoder_where_there_should_be_one(tensors: dict[str, Tensor]) -> None:
    encoder = {key: t for key, t in tensors.items() if not key.startswith("decoder.")}
    with pytest.raises(LoadError) as error:
        settings_from_shapes(model_weights(encoder, "a file"), "a file")
    assert str(error.value) == "a file lacks 'decoder.conv_in.weight' and 1 more keys"


def test_the_shape_of_a_tensor() -> None:
    assert shape_of({"a": torch.ones(2, 3)}, "a", 2, "x.pt") == (2, 3)


@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (2, 3, 4)])
def test_a_tensor_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(LoadError) as error:
        shape_of({"a": torch.ones(shape)}, "a", 2, "x.pt")
    assert str(error.value) == f"x.pt holds 'a' of shape {shape}; it has 2 axes, each at least 1"
    with pytest.raises(LoadError) as error:
        shape_of({}, "a", 2, "x.pt")
    assert str(error.value) == "x.pt lacks 'a'"


@pytest.mark.parametrize("shape", [(), (32,), (32, 0, 3, 3), (1, 1, 1, 1, 1)])
@pytest.mark.parametrize(
    "key",
    [
        "encoder.conv_in.weight",
        "encoder.conv_out.weight",
        "encoder.down_blocks.1.resnets.0.conv1.weight",
        "decoder.conv_in.weight",
        "decoder.conv_out.weight",
    ],
)
def test_shapes_that_tell_nothing(
    tensors: dict[str, Tensor], key: str, shape: tuple[int, ...]
) -> None:
    weights = model_weights(tensors, "x.ckpt") | {key: torch.ones(shape)}
    with pytest.raises(LoadError) as error:
        settings_from_shapes(weights, "x.ckpt")
    assert (
        str(error.value) == f"x.ckpt holds {key!r} of shape {shape}; it has 4 axes, each at least 1"
    )


@pytest.mark.parametrize("shape", [(), (3,)])
def test_projections_of_attention_that_are_none(
    tensors: dict[str, Tensor], shape: tuple[int, ...]
) -> None:
    """They go on as they are, and do not fit the model."""
    tensors["encoder.mid.attn_1.q.weight"] = torch.ones(shape)
    found = encoder_weights(tensors, "x.ckpt")["encoder.mid_block.attentions.0.to_q.weight"]
    assert found.shape == shape
