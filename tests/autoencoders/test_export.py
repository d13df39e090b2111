"""Every architecture becomes a program of torch.export, for any batch and any size it takes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from autoencoders.toys import TOYS, pixels, signed, toy
from torch import Tensor, nn

from vqtok.autoencoders import AutoencoderBase

# torch 2.6 warns of what it does itself.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node:UserWarning"),
    pytest.mark.filterwarnings("ignore:Node lifted_tensor_:UserWarning"),
]
# Fewer layers than the toys have: an export takes as long as a model has operations.
TWO = {"block_out_channels": (8, 8)}
SMALLER: dict[str, dict[str, Any]] = {
    "bsq_vit": {"depth": 1},
    "cnn": {
        **TWO,
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
    },
    "cnn3d": {
        **TWO,
        "temporal_downsample": (True,),
        "layers_per_block": 0,
        "mid_block_add_attention": False,
    },
    "magvit2": TWO,
    "maskgit": TWO,
    "timesformer": {"depth": 1},
    "titok": {"depth": 1},
    "vit": {"depth": 1},
}


class Encode(nn.Module):
    def __init__(self, model: AutoencoderBase) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        codes: Tensor = self.model.encode_codes(x)
        return codes


class Decode(nn.Module):
    def __init__(self, model: AutoencoderBase) -> None:
        super().__init__()
        self.model = model

    def forward(self, codes: Tensor) -> Tensor:
        out: Tensor = self.model.decode_codes(codes)
        return out


def small(name: str) -> AutoencoderBase:
    return toy(name, **SMALLER.get(name, {}))


def others(model: AutoencoderBase) -> Tensor:
    """Pixels of another batch and, where the model takes any, another size.

    With positions of transformers, torch 2.6 stays within the size that they are trained on.
    """
    return pixels(model, tokens=5, seed=5)[[0, 1, 1]]


def program(module: nn.Module, example: Tensor, axes: range) -> nn.Module:
    """What comes of a module for any batch, and for any length of `axes`."""
    free = dict.fromkeys((0, *axes), torch.export.Dim.DYNAMIC)
    made = torch.export.export(module, (example,), dynamic_shapes=(free,), strict=False)
    out: nn.Module = made.module()
    return out


def sides(model: AutoencoderBase, example: Tensor, first: int) -> range:
    """The axes of an example, from `first` on, that may have another length."""
    return range(first, example.ndim if model.only_size is None else first)


@pytest.mark.parametrize(
    ("name", "floats"),
    # What floats go through is the same for all.
    [*((name, False) for name in TOYS), ("conv_residual", True), ("emu3", True)],
)
def test_encode_codes(name: str, floats: bool) -> None:
    model = small(name)
    x, other = pixels(model), others(model)
    if floats:
        x, other = signed(x), signed(other)
    exported = program(Encode(model), x, sides(model, x, 2))
    codes = exported(other)
    assert torch.equal(codes, model.encode_codes(other)) and len(codes.unique()) > 5
    assert torch.equal(exported(x[:1]), model.encode_codes(x[:1]))


@pytest.mark.parametrize("name", TOYS)
def test_decode_codes(name: str) -> None:
    model = small(name)
    codes, other = (model.encode_codes(x) for x in (pixels(model), others(model)))
    exported = program(Decode(model), codes, sides(model, codes, 1))
    # A causal model takes clips as one here, and otherwise frame by frame.
    torch.testing.assert_close(exported(other), model.decode_codes(other), atol=1e-5, rtol=0)


def test_a_picture_of_a_causal_model_has_a_program_of_its_own() -> None:
    """One for clips of any length has no branch for a clip of one token."""
    model = small("cnn3d")
    picture = signed(pixels(model))[:, :, :1]
    other = signed(others(model))[:, :, :1, : picture.shape[3], : picture.shape[4]]
    alone = program(Encode(model), picture, range(0))
    assert torch.equal(alone(other), model.encode_codes(other))
