"""The table of codes and the margins of its cells."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from vqtok.quantizers import codebook
from vqtok.quantizers.codebook import Codebook, margins


def table(how: str, codes: int = 64, dim: int = 8, cosine: bool = False) -> Codebook:
    torch.manual_seed(0)
    made = Codebook(codes, dim, cosine=cosine)
    made.start(how)
    return made


@pytest.mark.parametrize(
    ("how", "bound"),
    [("kaiming", (6 / (64 * 8)) ** 0.5), ("data", (6 / (64 * 8)) ** 0.5), ("uniform", 1 / 64)],
)
def test_starts_are_uniform_up_to_their_bound(how: str, bound: float) -> None:
    weight = table(how).weight.detach()
    assert weight.abs().max() <= bound
    assert weight.abs().max() > 0.95 * bound
    assert abs(float(weight.mean())) < 0.1 * bound


def test_a_normal_start() -> None:
    weight = table("normal").weight.detach()
    assert abs(float(weight.std()) - 1) < 0.1


def test_codes_of_directions_start_as_directions() -> None:
    torch.testing.assert_close(table("kaiming", cosine=True).weight.norm(dim=1), torch.ones(64))


def test_cosine_looks_at_directions_alone() -> None:
    made = table("normal", cosine=True)
    e = torch.randn(50, 8)
    ids = (F.normalize(e, dim=1) @ F.normalize(made.weight, dim=1).T).argmax(1)
    assert torch.equal(made(F.normalize(e, dim=1)), ids)
    torch.testing.assert_close(made(ids).norm(dim=1), torch.ones(50))


@pytest.mark.parametrize("block", [1, 1 << 22])
def test_margins_in_float64(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codebook, "MARGIN_BLOCK", block)
    torch.manual_seed(0)
    codes, e = torch.randn(12, 3), torch.randn(40, 3)
    ids = torch.cdist(e.double(), codes.double()).argmin(1)
    expected = []
    for vector, own in zip(e.double(), ids.tolist(), strict=True):
        faces = []
        for other in set(range(12)) - {own}:
            normal = F.normalize((codes[other] - codes[own]).double(), dim=0)
            middle = (codes[other] + codes[own]).double() / 2
            faces.append((middle - vector) @ normal)
        expected.append(min(faces))
    torch.testing.assert_close(margins(e, codes, ids).double(), torch.stack(expected))


def test_a_code_and_its_double_have_no_face_between_them() -> None:
    codes = torch.tensor([[0.0, 0.0], [0.0, 0.0], [2.0, 0.0]])
    far = margins(torch.zeros(1, 2), codes, torch.tensor([0]))
    assert far.tolist() == [1.0]


def test_margins_along_some_dimensions() -> None:
    """A vector on a line, codes beside it: only the way along the line counts."""
    codes = torch.tensor([[0.0, 1.0], [2.0, 1.0], [0.0, 5.0]])
    assert margins(torch.tensor([[0.4, 0.0]]), codes, torch.tensor([0])).tolist() == [
        pytest.approx(0.6)
    ]
    sloped = torch.tensor([[0.0, 0.0], [2.0, 1.0]])
    far = margins(torch.tensor([[0.4, 0.0]]), sloped, torch.tensor([0]), free=1)
    assert far.tolist() == [pytest.approx(0.85)]  # |(x, 0) - (2, 1)| = x at x = 1.25


def test_codes_that_have_faded_away_are_nobody_s() -> None:
    """A running mean that nothing comes to has a length of next to nothing, and no direction."""
    table = Codebook(6, 8, cosine=True)
    torch.manual_seed(0)
    rows = torch.randn(200, 8)
    with torch.no_grad():
        table.weight.copy_(torch.randn(6, 8))
        table.weight[[0, 3]] *= 1e-30
    live = [1, 2, 4, 5]
    alone = Codebook(4, 8, cosine=True)
    with torch.no_grad():
        alone.weight.copy_(table.weight[live])
    assert torch.equal(table(rows), torch.tensor(live)[alone(rows)])
    assert torch.equal(table(rows, margin=True), alone(rows, margin=True))
    assert table(torch.tensor([0])).norm() < 1e-6
    with torch.no_grad():
        table.weight.zero_()
    assert table(rows).unique().tolist() == [0]
