from __future__ import annotations

import pytest
import torch
from checkpoints.built import agree
from checkpoints.filled import pixels
from checkpoints.samples import taming
from torch import Tensor

from vqtok.checkpoints import Foreign
from vqtok.checkpoints.patchgan import weights
from vqtok.checkpoints.taming import plan
from vqtok.training.discriminators.patchgan import PatchGAN


def test_it_judges_as_the_source_s_does() -> None:
    network = PatchGAN(channels=8, layers=2, norm="batch")
    network.load_state_dict(weights(taming.judge()))
    with torch.no_grad():
        judged = network(pixels(2, 3, 24, 24, seed=4))
    assert agree(judged, taming.golden()["judged"])


def test_a_plan_keeps_it_under_our_names() -> None:
    found = plan(Foreign(taming.sample()[0], {}, "last.ckpt"))
    network = PatchGAN(channels=8, layers=2, norm="batch")
    assert {key: t.shape for key, t in found.discriminator.items()} == {
        key: t.shape for key, t in network.state_dict().items()
    }
    assert not any(key.startswith("loss.discriminator") for key in found.dropped)


@pytest.mark.parametrize("layers", [1, 3])
def test_as_many_layers_as_it_has(layers: int) -> None:
    theirs: dict[str, Tensor] = {}
    for key, tensor in PatchGAN(channels=4, layers=layers, norm="batch").state_dict().items():
        block, *inner, part = key.split(".")[1:]
        number = int(block) and 3 * int(block) - 1 + int((inner or ["0"])[0])
        theirs[f"main.{number}.{part}"] = tensor
        if inner == ["1"]:
            for buffer in ("running_mean", "running_var", "num_batches_tracked"):
                theirs[f"main.{number}.{buffer}"] = torch.ones(())
    PatchGAN(channels=4, layers=layers, norm="batch").load_state_dict(weights(theirs))


def test_other_networks_are_none() -> None:
    theirs = taming.judge()
    act_norm = {key: t for key, t in theirs.items() if "running" not in key}
    assert weights(act_norm) == {}
    assert weights({**theirs, "tail.weight": torch.ones(1)}) == {}
    assert weights({}) == {}
    assert weights({f"main.{10**12 * 3 + 2}.weight": torch.ones(1)}) == {}
