"""The moves of a table of codes, each by itself."""

from __future__ import annotations

import torch
from torch import Tensor

from vqtok.quantizers._upkeep import (
    Table,
    draw_candidates,
    move_by_average,
    move_by_kmeans,
)
from vqtok.types import CodeSums


def table(codes: int = 4) -> Table:
    weight = torch.arange(2.0 * codes).view(codes, 2)
    return Table(weight, torch.ones(codes), weight.clone())


def sums(count: list[float], total: Tensor, candidates: Tensor) -> CodeSums:
    return CodeSums(torch.tensor(count, dtype=torch.float32), total, candidates)


def test_candidates_are_a_permutation_that_the_seed_decides() -> None:
    rows = torch.arange(10.0)[:, None]
    first = draw_candidates(rows, torch.Generator().manual_seed(0))
    assert torch.equal(first.sort(0).values, rows)
    assert torch.equal(first, draw_candidates(rows, torch.Generator().manual_seed(0)))
    assert not torch.equal(first, draw_candidates(rows, torch.Generator().manual_seed(1)))


def test_placed_codes_stay_where_they_were_put() -> None:
    """Their running means agree with them: a step without a vector leaves them in place."""
    ours = table()
    ours.place(torch.tensor([1, 3]), torch.tensor([[9.0, 9.0], [8.0, 8.0]]), torch.tensor([2.0, 4]))
    assert ours.count.tolist() == [1, 2, 1, 4]
    assert ours.total is not None
    assert ours.total[[1, 3]].tolist() == [[18, 18], [32, 32]]
    before = ours.weight.clone()
    move_by_average(ours, sums([0, 0, 0, 0], torch.zeros(4, 2), torch.zeros(0, 2)), 0.5, 1e-9)
    torch.testing.assert_close(ours.weight, before)


def test_counts_run_without_running_means() -> None:
    ours = table()._replace(total=None)
    before = ours.weight.clone()
    move_by_average(ours, sums([4, 0, 0, 2], torch.ones(4, 2), torch.zeros(0, 2)), 0.5, 1e-5)
    assert ours.count.tolist() == [2.5, 0.5, 0.5, 1.5]
    assert torch.equal(ours.weight, before)


def test_a_step_of_kmeans() -> None:
    ours = table()
    total = torch.tensor([[4.0, 8.0], [0, 0], [3.0, 3.0], [0, 0]])
    spare = torch.tensor([[7.0, 7.0]])
    last = ours.weight[3].clone()
    move_by_kmeans(ours, sums([2, 0, 3, 0], total, spare), spare, fresh=False)
    assert ours.weight[:3].tolist() == [[2, 4], [7, 7], [1, 1]]
    assert torch.equal(ours.weight[3], last)
    assert ours.count.tolist() == [2, 1.25, 3, 1]


def test_the_first_step_of_kmeans_forgets_the_table() -> None:
    ours = table()
    spare = torch.arange(8.0).view(4, 2) + 100
    move_by_kmeans(ours, sums([8, 0, 0, 0], torch.ones(4, 2), spare), spare, fresh=True)
    assert torch.equal(ours.weight, spare)
    assert ours.count.tolist() == [2, 2, 2, 2]
    assert ours.total is not None
    assert torch.equal(ours.total, 2 * spare)
