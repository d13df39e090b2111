"""Runs for tests/training/test_distributed.py, under as many processes as it is launched with.

    python ranks.py PICTURES OUT

OUT gets a folder a case: a run, and what its processes hold at the end, `ranks.json`.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import torch
from small_run import BASE, DISCRIMINATOR, OPTIMIZER, settings

from vqtok.training.loop import Run
from vqtok.training.reduce import gathered

STOP = 5
EVERYTHING: dict[str, Any] = {
    "loss": {"pixel": {"l1": 1.0}, "entropy": 0.01},
    "optimizer": {**OPTIMIZER, "warm_up": 4, "schedule": "cosine"},
    "discriminator": DISCRIMINATOR,
    "average": 0.9,
    "save_every": STOP,
}
CASES: dict[str, dict[str, Any]] = {
    "whole": {},
    "accumulated": {"accumulate": 2},
    "gradient": {
        "codebook": {**BASE["codebook"], "codebook_update": "gradient", "start": "kaiming"},
    },
    "residual": {
        "quantizer": "residual",
        "codebook": {**BASE["codebook"], "num_quantizers": 2},
        "loss": {"pixel": {"l1": 1.0}},
    },
}


def digest(run: Run) -> int:
    """A number that stands for every weight, buffer and mean of this process."""
    digest = hashlib.sha256()
    for tensor in torch.utils._pytree.tree_leaves(run.step.state_dict()):
        if isinstance(tensor, torch.Tensor):
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return int.from_bytes(digest.digest()[:7])


def trained(pictures: str, out: Path, case: str) -> None:
    """A run from its first to its last step."""
    run = Run(settings(pictures, **{**EVERYTHING, **CASES[case]}), out)
    run.go()
    note(run, out)


def resumed(pictures: str, out: Path, case: str) -> None:
    """A run that stops after a few steps, and one that goes on from there."""
    first = Run(settings(pictures, **{**EVERYTHING, **CASES[case]}), out)
    after = first._after

    def stop(done: int, outcome: Any) -> bool:
        after(done, outcome)
        return done == STOP + 1  # a step later than the checkpoint, so that one is done twice

    first._after = stop  # type: ignore[method-assign]
    first.go()
    second = Run(settings(pictures, **{**EVERYTHING, **CASES[case]}), out, resume=True)
    second.go()
    note(second, out)


def note(run: Run, out: Path) -> None:
    digests = gathered(torch.tensor(digest(run))).tolist()
    if run.accelerator.is_main_process:
        (out / "ranks.json").write_text(json.dumps(digests))
    run.accelerator.wait_for_everyone()


def main(pictures: str, out: Path) -> None:
    torch.set_num_threads(1)
    for case in CASES:
        trained(pictures, out / case, case)
    resumed(pictures, out / "resumed", "accumulated")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
