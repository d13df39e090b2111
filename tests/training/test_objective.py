from __future__ import annotations

from pathlib import Path

import pytest
import torch
from metric_weights import random_weights

from vqtok.errors import ConfigError
from vqtok.metrics.weights import MissingWeights
from vqtok.quantizers import QUANTIZERS
from vqtok.training.objective import Objective
from vqtok.training.settings import Loss

VECTOR = QUANTIZERS["vector"](4, 8, start="kaiming")


def test_terms_are_weighed() -> None:
    objective = Objective(Loss(pixel={"l1": 2.0, "l2": 0.5}, entropy=0.1), VECTOR)
    x, rec = torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 0.5)
    terms = objective.reconstruction(rec, x)
    assert {name: float(term) for name, term in terms.items()} == {"l1": 0.5, "l2": 0.25}
    assert float(objective.total(terms)) == 2.0 * 0.5 + 0.5 * 0.25
    latents = objective.latents(torch.randn(2, 4, 3, 3), VECTOR)
    assert list(latents) == ["entropy"]
    assert float(objective.total(latents)) == pytest.approx(0.1 * float(latents["entropy"]))


def test_half_precision_is_compared_in_float32() -> None:
    objective = Objective(Loss(pixel={"l2": 1.0}), VECTOR)
    x = torch.zeros(1, 3, 4, 4)
    rec = torch.full_like(x, 0.01).bfloat16()
    expected = float(rec.float().square().mean())
    assert float(objective.reconstruction(rec, x)["l2"]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("pixel", [{}, {"l1": 0.0}])
def test_something_compares_pictures(pixel: dict[str, float]) -> None:
    with pytest.raises(ConfigError) as error:
        Objective(Loss(pixel=pixel), VECTOR)
    assert str(error.value) == (
        "nothing compares reconstructions with pictures: loss.pixel is empty or weighs 0, and "
        "loss.lpips is 0"
    )


def test_entropy_takes_a_table() -> None:
    with pytest.raises(ConfigError) as error:
        Objective(Loss(entropy=0.1), QUANTIZERS["fsq"](3, 64, levels=[4, 4, 4]))
    assert str(error.value) == (
        "loss.entropy takes a quantizer with a table of codes: vector or simvq; lfq has an entropy "
        "loss of its own, among its settings"
    )


def test_reconstructions_may_leave_the_range(tmp_path: Path) -> None:
    weights = random_weights(tmp_path, "alexnet")
    objective = Objective(Loss(lpips=1.0, lpips_net="alex", lpips_weights=str(weights)), VECTOR)
    x = torch.zeros(1, 3, 64, 64)
    rec = torch.full_like(x, 1.2).requires_grad_()
    objective.total(objective.reconstruction(rec, x)).backward()
    assert rec.grad is not None and bool(rec.grad.abs().sum() > 0)


def test_weights_that_lack_are_named_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("VQTOK_VGG16", "VQTOK_METRIC_WEIGHTS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(MissingWeights, match="VGG16"):
        Objective(Loss(lpips=1.0), VECTOR)
