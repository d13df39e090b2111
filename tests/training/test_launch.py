from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vqtok.errors import ConfigError
from vqtok.training.launch import make_accelerator
from vqtok.training.settings import Settings


def test_one_process(tmp_path: Path) -> None:
    accelerator = make_accelerator(Settings(batch_size=6, accumulate=3), tmp_path)
    assert accelerator.num_processes == 1
    assert accelerator.gradient_accumulation_steps == 3


def test_the_settings_win_over_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    accelerator = make_accelerator(Settings(accumulate=1), tmp_path)
    assert accelerator.gradient_accumulation_steps == 1
    assert accelerator.mixed_precision == "no"
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR")
    with pytest.raises(ConfigError) as error:
        make_accelerator(Settings(), tmp_path)
    assert str(error.value) == (
        "accelerate's dynamo compiles the discriminator as well, which R1 differentiates twice; "
        "leave ACCELERATE_DYNAMO_BACKEND out and set compile=true"
    )


def test_buffers_are_not_broadcast_and_fp32_is_fp32(tmp_path: Path) -> None:
    accelerator = make_accelerator(Settings(precision="fp32"), tmp_path)
    assert accelerator.ddp_handler.broadcast_buffers is False
    assert torch.backends.cuda.matmul.allow_tf32 is False
    assert torch.backends.cudnn.allow_tf32 is False
    make_accelerator(Settings(precision="tf32"), tmp_path)
    assert torch.backends.cuda.matmul.allow_tf32 is True


def test_processes_that_do_not_see_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError) as error:
        make_accelerator(Settings(), tmp_path)
    assert str(error.value) == (
        "2 processes were launched, and each takes itself for the only one: without a GPU set "
        "ACCELERATE_USE_CPU=true before `accelerate launch --multi_gpu`"
    )


@pytest.mark.parametrize(
    ("variable", "name"),
    [
        ("ACCELERATE_USE_FSDP", "FSDP"),
        ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed"),
        ("ACCELERATE_USE_MEGATRON_LM", "Megatron-LM"),
    ],
)
def test_sharded_launches_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, name: str
) -> None:
    monkeypatch.setenv(variable, "true")
    with pytest.raises(ConfigError) as error:
        make_accelerator(Settings(), tmp_path)
    assert str(error.value) == (
        f"{name} is not served: it takes one model a run, and a tokenizer trains with its "
        "discriminator. Launch with --multi_gpu; a tokenizer fits on one GPU"
    )
