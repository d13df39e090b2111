"""The accelerator of a run, and refusals of launches that would train something else."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DistributedType,
    GradientAccumulationPlugin,
    parse_flag_from_env,
)

from vqtok.errors import ConfigError
from vqtok.training.reports.trackers import tracker_arguments
from vqtok.training.settings import Settings

__all__ = ["make_accelerator"]

# What accelerate would read from the environment, and train something else than the settings say.
UNSERVED = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}
SERVED = {
    DistributedType.NO,
    DistributedType.MULTI_CPU,
    DistributedType.MULTI_GPU,
}


def make_accelerator(settings: Settings, output: Path) -> Accelerator:
    """One accelerator: as many processes as were launched, in the precision of the settings."""
    for variable, name in UNSERVED.items():
        if os.environ.get(variable, "false").lower() in ("1", "true", "yes"):
            raise ConfigError(
                f"{name} is not served: it takes one model a run, and a tokenizer trains with its "
                "discriminator. Launch with --multi_gpu; a tokenizer fits on one GPU"
            )
    if os.environ.get("ACCELERATE_DYNAMO_BACKEND", "no").lower() not in ("", "no"):
        raise ConfigError(
            "accelerate's dynamo compiles the discriminator as well, which R1 differentiates "
            "twice; leave ACCELERATE_DYNAMO_BACKEND out and set compile=true"
        )
    accelerator = Accelerator(
        mixed_precision="bf16" if _wants_bf16(settings) else "no",
        # As an object, for a number would give way to a variable of the environment.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=settings.accumulate),
        step_scheduler_with_optimizer=False,
        # Buffers are equal on all ranks by construction, and only the step writes them.
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
        **tracker_arguments(settings.trackers, output),
    )
    _check_processes(accelerator)
    _set_arithmetic(settings)
    return accelerator


def _wants_bf16(settings: Settings) -> bool:
    if settings.precision == "auto":
        if PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU")).device.type != "cuda":
            return False
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return settings.precision == "bf16"


def _check_processes(accelerator: Accelerator) -> None:
    wanted = int(os.environ.get("WORLD_SIZE", "1"))
    if wanted > 1 and accelerator.num_processes == 1:
        raise ConfigError(
            f"{wanted} processes were launched, and each takes itself for the only one: without a "
            "GPU set ACCELERATE_USE_CPU=true before `accelerate launch --multi_gpu`"
        )
    if accelerator.distributed_type not in SERVED:
        raise ConfigError(
            f"training runs on one device or on several by DDP; accelerate was set up for "
            f"{accelerator.distributed_type.value}"
        )


def _set_arithmetic(settings: Settings) -> None:
    quick = settings.precision in ("auto", "bf16", "tf32")
    torch.backends.cuda.matmul.allow_tf32 = quick
    torch.backends.cudnn.allow_tf32 = quick
    if settings.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
