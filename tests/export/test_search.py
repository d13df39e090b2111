"""The search as graphs have it gives the ids of `vqtok.search`; test_graphs.py runs the graphs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vqtok.export.search import FINALISTS, Search
from vqtok.search import highest, nearest


def drawn(count: int, dim: int, seed: int, offset: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, dim, generator=generator) + offset


@given(
    codes=st.integers(1, 90),
    dim=st.integers(1, 9),
    block=st.sampled_from([16, 31, 1024]),
    offset=st.sampled_from([0.0, 1.0, 300.0]),
    seed=st.integers(0, 1000),
)
def test_it_finds_what_torch_finds(
    codes: int, dim: int, block: int, offset: float, seed: int
) -> None:
    table, rows = drawn(codes, dim, seed, offset), drawn(33, dim, seed + 1, offset)
    assert torch.equal(Search(table, block=block)(rows), nearest(rows, table))
    found = Search(table, highest=True, block=block)(rows)
    assert torch.equal(found, highest(rows, table))


@given(block=st.sampled_from([16, 20, 1024]), dim=st.integers(1, 3), seed=st.integers(0, 1000))
def test_of_equally_far_codes_the_lowest_wins(block: int, dim: int, seed: int) -> None:
    """Whole numbers, whose distances are often exactly the same; among codes some are doubles."""
    generator = torch.Generator().manual_seed(seed)
    table, rows = (
        torch.randint(-4, 5, (count, dim), generator=generator).float() for count in (50, 60)
    )
    # At most so many are compared in float64: a crowd of ties is larger on a line or a plane.
    far = torch.cdist(rows, table.unique(dim=0))
    few = (far == far.amin(1, keepdim=True)).sum(1) <= FINALISTS
    ids = Search(table, block=block)(rows)
    assert torch.equal(ids[few], nearest(rows, table)[few])


def test_near_ties_are_decided_in_float64() -> None:
    """Pairs of codes whose distances float32 scores cannot tell apart."""
    far = drawn(1, 16, 0) * 50  # the scores are large, and the differences are not
    table = torch.cat([far, -far, drawn(6, 16, 1)]).repeat_interleave(2, 0)
    table[1::2] *= 1 + 2e-7
    rows = table[::2].repeat(8, 1) + drawn(64, 16, 2) * 1e-6
    scores = table.square().sum(1) / 2 - rows @ table.T
    search = Search(table, block=16)
    assert torch.equal(search(rows), nearest(rows, table))
    assert not torch.equal(scores.argmin(1), nearest(rows, table))


def test_what_is_nearly_in_the_middle_is_decided_in_float64() -> None:
    """Between two codes as far from each other as float32 squares tell nothing of."""
    half = drawn(5, 4, 0)
    table = torch.stack([half, -half], 1).flatten(0, 1)
    rows = drawn(200, 4, 1) * 1e-9
    pairs = [Search(table[at : at + 2]) for at in range(0, 10, 2)]
    ids = torch.stack([search(rows) for search in pairs], 1)
    assert torch.equal(ids, (rows.double() @ half.double().T < 0).long())


def test_codes_to_choose_from() -> None:
    table, rows = drawn(40, 4, 0), drawn(100, 4, 1)
    among = torch.arange(40) % 3 == 1
    expected = among.nonzero()[:, 0][nearest(rows, table[among])]
    assert torch.equal(Search(table, among=among, block=16)(rows), expected)


def test_doubles_are_left_out() -> None:
    table = drawn(20, 4, 0).repeat(5, 1)
    search = Search(table)
    assert [block.products.shape for block in search.blocks] == [(4, 20)]
    rows = drawn(100, 4, 1)
    assert torch.equal(search(rows), nearest(rows, table))


@pytest.mark.parametrize(("codes", "blocks", "widest"), [(1024, 1, 1024), (1 << 17, 64, 2048)])
def test_a_graph_stays_small(codes: int, blocks: int, widest: int) -> None:
    search = Search(torch.arange(codes * 1.0)[:, None])
    widths = [block.products.shape[1] for block in search.blocks]
    assert (len(widths), max(widths), sum(widths)) == (blocks, widest, codes)


def test_a_code_far_away_costs_the_others_no_digits() -> None:
    table, rows = drawn(1024, 8, 0) * 0.01, drawn(2000, 8, 1) * 0.01
    table[7] = 1e4
    assert torch.equal(Search(table)(rows), nearest(rows, table))


def test_codes_that_faded() -> None:
    """A large crowd is where the centre is. Of a small one maybe another is found, as near."""
    rows = drawn(2000, 8, 1) * 0.5
    for count in (412, 10):
        table = drawn(1024, 8, 0)
        table[torch.arange(count) * 2] *= 1e-9
        ids, expected = Search(table)(rows), nearest(rows, table)
        assert torch.isin(expected, torch.arange(count) * 2).sum() > 100
        assert count == 10 or torch.equal(ids, expected)
        far, least = ((rows - table[each]).double().norm(dim=1) for each in (ids, expected))
        assert bool((far <= least * (1 + 1e-6)).all())
