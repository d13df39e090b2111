"""The nearest code is that of float64, whatever the blocks, the batch, the threads and the data."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from vqtok import search
from vqtok.errors import InputError
from vqtok.search import nearest


def brute(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Every difference in float64; argmin names the first of equals."""
    gaps = vectors.double()[:, None] - codebook.double()
    return gaps.square().sum(2).argmin(1)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Vectors and codes with near ties in them: doubles, vectors on codes and between them."""
    n, k = draw(st.integers(1, 40)), draw(st.integers(1, 60))
    d = draw(st.sampled_from([1, 2, 3, 8, 33]))
    seed = draw(st.integers(0, 2**16))
    scale = 10 ** draw(st.floats(-3, 3))
    offset = draw(st.sampled_from([0.0, 1, 10, 100])) * scale
    codebook = normal(k, d, seed=seed) * scale + offset
    vectors = normal(n, d, seed=seed + 1) * scale + offset
    pick = torch.Generator().manual_seed(seed + 2)
    if draw(st.booleans()):
        codebook = codebook[torch.randint((k + 1) // 2, (k,), generator=pick)]
    some = codebook[torch.randint(k, (2, n), generator=pick)]
    kind = torch.randint(3, (n, 1), generator=pick)
    return torch.where(kind == 0, vectors, torch.where(kind == 1, some[0], some.mean(0))), codebook


@settings(max_examples=120)
@given(problems())
def test_it_is_the_answer_of_float64(problem: tuple[Tensor, Tensor]) -> None:
    vectors, codebook = problem
    assert torch.equal(nearest(vectors, codebook), brute(vectors, codebook))


@pytest.mark.parametrize("d", [4, 300])
def test_a_larger_problem(d: int) -> None:
    vectors, codebook = normal(100, d), normal(500, d, seed=1)
    expected = torch.cat([brute(part, codebook) for part in vectors.split(5)])
    assert torch.equal(nearest(vectors, codebook), expected)


def test_off_the_origin_where_other_forms_lose_their_digits() -> None:
    vectors, codebook = normal(500, 8) * 0.01 + 10, normal(256, 8, seed=1) * 0.01 + 10
    right = brute(vectors, codebook)
    assert torch.equal(nearest(vectors, codebook), right)
    expanded = codebook.square().sum(1) - 2 * vectors @ codebook.T
    assert (expanded.argmin(1) != right).float().mean() > 0.3
    by_matmul = torch.cdist(vectors, codebook, compute_mode="use_mm_for_euclid_dist")
    assert (by_matmul.argmin(1) != right).float().mean() > 0.3


@pytest.fixture
def careful(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Which codes (n, K) were compared one by one, a tensor for each time that happened."""
    calls: list[Tensor] = []
    exact = search._exact

    def noted(vectors: Tensor, codebook: Tensor, close: Tensor) -> Tensor:
        calls.append(close)
        return exact(vectors, codebook, close)

    monkeypatch.setattr(search, "_exact", noted)
    return calls


def test_off_the_origin_few_rows_are_near_ties(careful: list[Tensor]) -> None:
    nearest(normal(500, 8) * 0.01 + 10, normal(256, 8, seed=1) * 0.01 + 10)
    assert sum(len(close) for close in careful) < 5


@pytest.mark.parametrize("kind", ["doubles", "a far code"])
def test_an_awkward_codebook_is_sorted_out_by_float64_scores(
    careful: list[Tensor], kind: str
) -> None:
    codebook = normal(256, 8, seed=1)
    if kind == "doubles":
        codebook = codebook[:1].expand(256, 8)
    else:
        codebook[7] *= 1e6
    vectors = normal(500, 8)
    assert torch.equal(nearest(vectors, codebook), brute(vectors, codebook))
    assert 0 < sum(int(close.sum()) for close in careful) < 2 * 500


# --- the same whatever it runs with -----------------------------------------------------------

BLOCKS = list(itertools.product([1, 50, 1000, 1 << 18], [1, 60, 1 << 22], [0, 8, 1 << 30]))


@pytest.fixture(scope="module")
def mixed() -> tuple[Tensor, Tensor]:
    """90 vectors among 40 codes with doubles, near ties and a far code."""
    codebook = normal(40, 5) + 3
    codebook[20:30] = codebook[:10]
    codebook[33] *= 1e6
    vectors = normal(90, 5, seed=1) + 3
    vectors[:30] = codebook[:30]
    vectors[30:40] = (codebook[:10] + codebook[10:20]) / 2
    return vectors, codebook


@pytest.mark.parametrize(("block", "exact_block", "crowd"), BLOCKS)
def test_any_block_size(
    monkeypatch: pytest.MonkeyPatch,
    mixed: tuple[Tensor, Tensor],
    block: int,
    exact_block: int,
    crowd: int,
) -> None:
    monkeypatch.setattr(search, "CPU_BLOCK", block)
    monkeypatch.setattr(search, "LEAST_ROWS", 1)
    monkeypatch.setattr(search, "EXACT_BLOCK", exact_block)
    monkeypatch.setattr(search, "CROWD", crowd)
    assert torch.equal(nearest(*mixed), brute(*mixed))


@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_any_split_of_the_batch(mixed: tuple[Tensor, Tensor], size: int) -> None:
    vectors, codebook = mixed
    parts = [nearest(part, codebook) for part in vectors.split(size)]
    assert torch.equal(torch.cat(parts), nearest(vectors, codebook))


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("count", [1, 2, 3])
def test_any_number_of_threads(count: int) -> None:
    vectors, codebook = normal(300, 16), normal(512, 16, seed=1)
    torch.set_num_threads(count)
    assert torch.equal(nearest(vectors, codebook), brute(vectors, codebook))


def test_any_strides(mixed: tuple[Tensor, Tensor]) -> None:
    vectors, codebook = mixed
    expected = nearest(vectors, codebook)
    assert torch.equal(nearest(vectors.T.contiguous().T, codebook), expected)
    assert torch.equal(nearest(vectors, codebook.T.contiguous().T), expected)
    wide = torch.zeros(90, 11)
    wide[:, ::2][:, :5] = vectors
    assert torch.equal(nearest(wide[:, ::2][:, :5], codebook), expected)
    assert torch.equal(nearest(vectors[:1].expand(6, 5), codebook), expected[:1].expand(6))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.int64])
def test_other_dtypes_are_read_as_float32(dtype: torch.dtype) -> None:
    vectors, codebook = (4 * normal(50, 3)).to(dtype), (4 * normal(40, 3, seed=1)).to(dtype)
    assert torch.equal(nearest(vectors, codebook), brute(vectors.float(), codebook.float()))


def test_autocast_changes_nothing() -> None:
    vectors, codebook = normal(300, 16), normal(200, 16, seed=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(nearest(vectors, codebook), brute(vectors, codebook))


def test_no_gradient_passes(mixed: tuple[Tensor, Tensor]) -> None:
    vectors, codebook = (t.clone().requires_grad_() for t in mixed)
    ids = nearest(vectors, codebook)
    assert ids.dtype == torch.int64
    assert not ids.requires_grad


# --- ties and extremes --------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0.5, 0.25])
@pytest.mark.parametrize("offset", [0, 64])
def test_of_codes_at_the_same_distance_the_lowest_index_wins(step: float, offset: int) -> None:
    """Half and quarter steps on a grid of integers: every distance is exact in float32."""
    grid = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3), -1).reshape(-1, 3)
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(len(grid)), 2))
    fine = np.stack(np.meshgrid(*[np.arange(-2, 2.01, step)] * 3), -1).reshape(-1, 3)
    codes, points = grid[order], fine[::3]
    square = (np.square(4 * (points[:, None] - codes)).sum(2)).astype(np.int64)
    ids = nearest(torch.tensor(points + offset).float(), torch.tensor(codes + offset).float())
    assert (np.sort(square, 1)[:, 0] == np.sort(square, 1)[:, 1]).all()
    assert ids.tolist() == square.argmin(1).tolist()


@pytest.mark.parametrize("k", [1, 2, 300])
def test_a_codebook_of_one_vector_again_and_again(k: int) -> None:
    assert nearest(normal(20, 4), normal(1, 4, seed=1).expand(k, 4)).tolist() == [0] * 20
    assert nearest(normal(20, 4), torch.zeros(k, 4)).tolist() == [0] * 20


@pytest.mark.parametrize("rows", [0, 1])
def test_few_vectors(rows: int) -> None:
    assert nearest(normal(rows, 4), normal(9, 4)).shape == (rows,)


def by_fractions(vectors: Tensor, codebook: Tensor) -> list[int]:
    """Without any rounding."""
    points, codes = (
        [[Fraction(x) for x in row] for row in t.tolist()] for t in (vectors, codebook)
    )

    def distance(point: list[Fraction], code: list[Fraction]) -> Fraction:
        return sum(((x - y) ** 2 for x, y in zip(point, code, strict=True)), Fraction())

    squares = ([distance(point, code) for code in codes] for point in points)
    return [row.index(min(row)) for row in squares]


SIZES = [1e-40, 1e-30, 1e-25, 1e-20, 1.0, 1e6, 1e10, 1e18, 1e30]
# Beyond that the codes are one point even for float64.
PAIRS = [(e, q) for e in SIZES for q in SIZES if e <= 1e6 * q]


@pytest.mark.parametrize(("e_scale", "q_scale"), PAIRS)
def test_sizes_at_which_squares_leave_the_range_of_float32(e_scale: float, q_scale: float) -> None:
    vectors, codebook = normal(10, 4).double() * e_scale, normal(20, 4, seed=1).double() * q_scale
    vectors, codebook = vectors.float(), codebook.float()
    assert nearest(vectors, codebook).tolist() == by_fractions(vectors, codebook)


@pytest.fixture
def flushed() -> Iterator[None]:
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor keeps denormal numbers")
    yield
    torch.set_flush_denormal(False)


@pytest.mark.usefixtures("flushed")
@pytest.mark.parametrize("scale", [1e-18, 2e-19, 1e-19, 3e-20])
def test_products_that_a_processor_drops(scale: float) -> None:
    vectors, codebook = normal(10, 4) * scale, normal(20, 4, seed=1) * scale
    assert nearest(vectors, codebook).tolist() == by_fractions(vectors, codebook)


def test_a_far_code_does_not_blur_the_others() -> None:
    codebook = normal(50, 6)
    codebook[7] *= 1e8
    vectors = normal(200, 6, seed=1)
    assert torch.equal(nearest(vectors, codebook), brute(vectors, codebook))


def test_what_is_no_number_stays_in_its_row(mixed: tuple[Tensor, Tensor]) -> None:
    vectors, codebook = mixed[0].clone(), mixed[1]
    expected = nearest(vectors, codebook)
    bad = torch.tensor([3, 30, 31, 89])
    vectors[bad, torch.tensor([0, 4, 2, 1])] = torch.tensor(
        [torch.nan, torch.inf, -torch.inf, torch.nan]
    )
    expected[bad] = 0
    assert torch.equal(nearest(vectors, codebook), expected)


# --- the bound that near ties are told by ---------------------------------------------------------


def one_by_one(e: np.ndarray, codes: np.ndarray, half_norms: np.ndarray) -> np.ndarray:
    """Float32 scores with the products added one after the other: the worst order there is."""
    terms = np.concatenate([half_norms[:, None], -(e * codes)], 1)
    return np.add.accumulate(terms, 1, dtype=np.float32)[:, -1]


def blocked(e: np.ndarray, codes: np.ndarray, half_norms: np.ndarray) -> np.ndarray:
    parts = (torch.from_numpy(t) for t in (half_norms, e[None], codes.T))
    return torch.addmm(*parts, alpha=-1)[0].numpy()


@settings(max_examples=120)
@given(
    d=st.sampled_from([1, 2, 3, 16, 256, 2048]),
    kind=st.sampled_from(["normal", "offset", "far", "tiny", "biased", "steep"]),
    seed=st.integers(0, 2**16),
    adding=st.sampled_from([one_by_one, blocked]),
)
def test_scores_err_by_less_than_the_slack(d: int, kind: str, seed: int, adding: object) -> None:
    random = np.random.default_rng(seed)
    x, q = random.standard_normal(d), random.standard_normal((6, d))
    if kind == "offset":
        x, q = x * 0.01 + 10, q * 0.01 + 10
    elif kind == "far":
        x = x * 1e4
    elif kind == "tiny":  # the codes' squares underflow, the products don't
        q = q * 1e-24
    elif kind == "biased":  # every partial sum is rounded the same way
        x[:], q[:] = 1 + random.random(), (1 + random.random()) * np.sign(q[:, :1])
    elif kind == "steep":
        x[:], q = 1, np.sign(q[:, :1]) * 2.0 ** -(np.arange(d) % 60)
    x, q = x.astype(np.float32), q.astype(np.float32)

    table = search._Table(torch.from_numpy(q))
    mean = table.mean.numpy()
    e = x - mean
    scores = adding(e, table.centred.numpy(), table.half_norms.numpy())  # type: ignore[operator]
    wide = q.astype(np.float64) - mean
    true = np.square(wide).sum(1) / 2 - wide @ (x.astype(np.float64) - mean)

    slack = table.scores(torch.from_numpy(x[None]))[1].item()
    error = scores.astype(np.float64) - true
    assert error.max() - error.min() < slack


# --- memory and compilers -------------------------------------------------------------------------


class Largest(TorchDispatchMode):
    """Notes the largest tensor that any operation makes."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, Tensor) and tensor._base is None:
                self.numel = max(self.numel, tensor.numel())
        return out


@pytest.mark.parametrize("ties", ["few", "doubles", "near", "no numbers"])
def test_memory_is_bounded_by_the_block(
    monkeypatch: pytest.MonkeyPatch, careful: list[Tensor], ties: str
) -> None:
    n, k, d, block = 600, 128, 4, 1 << 12
    monkeypatch.setattr(search, "CPU_BLOCK", block)
    monkeypatch.setattr(search, "EXACT_BLOCK", block // 2)
    vectors, codebook = normal(n, d, seed=1), normal(k, d)
    if ties == "doubles":
        codebook = codebook[:1].expand(k, d).contiguous()
    elif ties == "near":
        codebook = 1 + torch.arange(k)[:, None] * torch.finfo(torch.float32).eps + torch.zeros(k, d)
    elif ties == "no numbers":
        vectors[:] = torch.nan
    with Largest() as largest:
        ids = search._search(vectors, codebook)
    assert len(ids) == n
    assert largest.numel <= block < n * k / 16
    assert all(close.numel() <= block // 2 for close in careful)


def test_a_block_of_a_large_codebook_has_rows_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """The codebook is read for each block; with two rows each that is all that it does."""
    n, k, d = 40, 1 << 17, 2
    vectors, codebook = normal(n, d, seed=1), normal(k, d)
    with Largest() as largest:
        ids = search._search(vectors, codebook)
    assert largest.numel == 16 * k
    monkeypatch.setattr(search, "LEAST_ROWS", 1)
    assert torch.equal(ids, search._search(vectors, codebook))


# Torch's own compiler warns of itself in places.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compilers_see_one_operation(mixed: tuple[Tensor, Tensor]) -> None:
    torch.compiler.reset()
    compiled = torch.compile(
        lambda v, c: nearest(v * 2, c) + 1, fullgraph=True, backend="aot_eager"
    )
    vectors, codebook = mixed
    assert torch.equal(compiled(vectors / 2, codebook), nearest(vectors, codebook) + 1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_export_for_any_number_of_vectors(mixed: tuple[Tensor, Tensor]) -> None:
    class Search(torch.nn.Module):
        def forward(self, vectors: Tensor, codebook: Tensor) -> Tensor:
            return nearest(vectors, codebook)

    vectors, codebook = mixed
    shapes = ({0: torch.export.Dim("n", min=2)}, None)
    program = torch.export.export(Search(), (vectors, codebook), dynamic_shapes=shapes)
    assert torch.equal(program.module()(vectors[:17], codebook), nearest(vectors[:17], codebook))


def test_without_data_it_knows_its_shape() -> None:
    with FakeTensorMode():
        ids = nearest(torch.empty(7, 3), torch.empty(5, 3))
    assert (ids.shape, ids.dtype) == ((7,), torch.int64)
    ids = nearest(torch.empty(7, 3, device="meta"), torch.empty(5, 3, device="meta"))
    assert (ids.shape, ids.device.type) == ((7,), "meta")


@pytest.mark.gpu
def test_a_gpu_gives_the_same_ids(mixed: tuple[Tensor, Tensor]) -> None:
    for vectors, codebook in (mixed, (normal(4000, 32), normal(2000, 32, seed=1))):
        ids = nearest(vectors.cuda(), codebook.cuda())
        assert torch.equal(ids.cpu(), nearest(vectors, codebook))


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (4,), (1, 4, 4)])
def test_no_codebook(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError) as error:
        nearest(torch.zeros(2, 4), torch.zeros(shape))
    assert str(error.value) == f"a codebook has the shape (K, D), both above 0; got {shape}"


@pytest.mark.parametrize("shape", [(2, 5), (4,), (1, 2, 4)])
def test_vectors_that_do_not_fit_the_codebook(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError) as error:
        nearest(torch.zeros(shape), torch.zeros(9, 4))
    assert str(error.value) == (
        f"vectors for a codebook of 4 dimensions have the shape (N, 4); got {shape}"
    )
