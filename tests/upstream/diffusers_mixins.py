"""diffusers' own tests of an autoencoder, on `AutoencoderVQ`. See README.md for how to run them."""

from __future__ import annotations

from typing import Any

import torch
from tests.models.autoencoders.testing_utils import AutoencoderTesterMixin
from tests.models.testing_utils import (
    AttentionTesterMixin,
    BaseModelTesterConfig,
    MemoryTesterMixin,
    ModelTesterMixin,
    TorchCompileTesterMixin,
    TrainingTesterMixin,
)
from tests.testing_utils import enable_full_determinism, torch_device

import vqtok

enable_full_determinism()


class Subject(BaseModelTesterConfig):
    @property
    def model_class(self) -> type[vqtok.AutoencoderVQ]:
        return vqtok.AutoencoderVQ

    @property
    def main_input_name(self) -> str:
        return "sample"

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (3, 32, 32)

    @property
    def generator(self) -> torch.Generator:
        return torch.Generator("cpu").manual_seed(0)

    def get_init_dict(self) -> dict[str, Any]:
        return {
            "block_out_channels": [8, 16],
            "norm_num_groups": 8,
            "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"],
            "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"],
            "latent_channels": 3,
            "num_vq_embeddings": 32,
        }

    def get_dummy_inputs(self) -> dict[str, Any]:
        pixels = torch.rand(4, 3, 32, 32, generator=self.generator) * 2 - 1
        return {"sample": pixels.to(torch_device)}


class TestModel(Subject, ModelTesterMixin):
    pass


class TestTraining(Subject, TrainingTesterMixin):
    def test_gradient_checkpointing_is_applied(self) -> None:
        super().test_gradient_checkpointing_is_applied(
            expected_set={"Decoder", "Encoder", "UNetMidBlock2D"}
        )


class TestMemory(Subject, MemoryTesterMixin):
    pass


class TestCompile(Subject, TorchCompileTesterMixin):
    pass


class TestAttention(Subject, AttentionTesterMixin):
    pass


class TestAutoencoder(Subject, AutoencoderTesterMixin):
    pass
