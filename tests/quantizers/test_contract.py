"""What holds for every quantizer of the registry."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quantizers.cases import (
    CASES,
    SHORT,
    TABLES,
    Case,
    assert_same_state,
    build,
    joined,
    latents,
    state,
)
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vqtok.errors import CodesError, InputError
from vqtok.quantizers import QUANTIZERS, TRAINING_STATE, Quantizer, RowQuantizer

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
every_table = pytest.mark.parametrize("case", TABLES.values(), ids=TABLES)
# Those whose tokens are found each by itself, whatever stands around it.
apart = {label: case for label, case in CASES.items() if case.name != "multiscale"}
every_token_apart = pytest.mark.parametrize("case", apart.values(), ids=apart)
each_name = pytest.mark.parametrize("case", [CASES[name] for name in SHORT], ids=SHORT)


def test_every_quantizer_has_a_case() -> None:
    assert {case.name for case in CASES.values()} == set(QUANTIZERS) == set(SHORT)


@every_case
def test_the_decoder_sees_in_eval_what_the_codes_stand_for(case: Case) -> None:
    quantizer, z = build(case).eval(), latents(case)
    out = quantizer(z)
    assert out.codes.shape == (2, *quantizer.codes_shape((3, 4)))
    assert out.codes.dtype == torch.int64
    assert out.z.shape == z.shape
    assert out.sums is None
    assert torch.equal(out.z, quantizer.decode(out.codes, (3, 4)))
    assert torch.equal(out.codes, quantizer.encode(z))
    assert len(out.codes.unique()) > 3


@every_case
def test_training_sees_what_eval_will_see(case: Case) -> None:
    quantizer, z = build(case), latents(case)
    out = quantizer(z)
    assert (out.sums is not None) == (case in TABLES.values())
    assert torch.equal(out.z, quantizer.decode(out.codes, (3, 4)))
    if "gumbel" not in (case.name, case.settings.get("kind")):  # which draws
        assert torch.equal(out.codes, quantizer.encode(z))


@every_case
def test_ids_do_not_depend_on_batch_and_grid(case: Case) -> None:
    quantizer, z = build(case), latents(case, batch=5)
    codes = quantizer.encode(z)
    assert torch.equal(codes, torch.cat([quantizer.encode(one) for one in z.split(1)]))
    if case in apart.values():
        as_clip = quantizer.encode(z.unflatten(2, (3, 1)))
        assert torch.equal(codes, as_clip.flatten(1, 2))
    backwards = z.flip(0).contiguous(memory_format=torch.channels_last)
    assert torch.equal(codes, quantizer.encode(backwards).flip(0))


@every_case
def test_a_training_forward_writes_nothing(case: Case) -> None:
    quantizer, z = build(case), latents(case).requires_grad_()
    before = state(quantizer)
    out = quantizer(z)
    (out.z.square().sum() + quantizer.total_loss(out.losses)).backward()
    assert_same_state(before, state(quantizer))
    assert z.grad is not None
    assert z.grad.isfinite().all() and z.grad.abs().sum() > 0


@every_case
def test_gradient_checkpointing_moves_nothing(case: Case) -> None:
    quantizer = build(case)
    before = state(quantizer)

    def gradient(forward: Callable[[Tensor], Tensor]) -> Tensor | None:
        z = latents(case).requires_grad_()
        torch.manual_seed(0)
        forward(z).square().sum().backward()
        return z.grad

    plain = gradient(lambda z: quantizer(z).z)
    twice = gradient(lambda z: checkpoint(lambda x: quantizer(x).z, z, use_reentrant=False))
    assert torch.equal(plain, twice)
    assert_same_state(before, state(quantizer))


@every_case
def test_half_precision_in_and_out_float32_inside(case: Case) -> None:
    quantizer, z = build(case).eval(), latents(case).bfloat16()
    out = quantizer(z)
    exact = quantizer(z.float())
    assert out.z.dtype == torch.bfloat16
    assert torch.equal(out.codes, exact.codes)
    assert torch.equal(out.z, exact.z.bfloat16())
    assert quantizer.decode(out.codes, (3, 4)).dtype == torch.float32
    for name, value in out.losses.items():
        assert value.dtype == torch.float32
        assert torch.equal(value, exact.losses[name])


@every_case
def test_half_precision_trains(case: Case) -> None:
    quantizer, z = build(case), latents(case).bfloat16().requires_grad_()
    out = quantizer(z)
    assert out.z.dtype == torch.bfloat16
    (out.z.float().square().sum() + quantizer.total_loss(out.losses)).backward()
    assert z.grad is not None
    assert z.grad.isfinite().all()


@every_case
def test_autocast_changes_nothing(case: Case) -> None:
    quantizer, z = build(case), latents(case)
    torch.manual_seed(0)
    plain = quantizer(z)
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = quantizer(z)
        assert torch.equal(quantizer.encode(z), quantizer.eval().encode(z))
    assert torch.equal(under.z, plain.z)
    assert torch.equal(under.codes, plain.codes)
    assert quantizer.total_loss(under.losses).equal(quantizer.total_loss(plain.losses))


@every_case
def test_a_half_precision_copy_still_works(case: Case) -> None:
    """Loaders keep codebooks in float32; `model.half()` does not ask."""
    quantizer, z = build(case).eval().to(torch.bfloat16), latents(case)
    out = quantizer(z)
    assert torch.equal(out.z, quantizer.decode(out.codes, (3, 4)))
    assert quantizer.margin(z).dtype == torch.float32


@every_case
def test_the_state_dict_is_all_there_is(case: Case) -> None:
    here, there, z = build(case), build(case, seed=1, started=False), latents(case)
    there.load_state_dict(here.state_dict())
    assert torch.equal(here.encode(z), there.encode(z))
    torch.manual_seed(0)
    sums = here(z).sums
    torch.manual_seed(0)
    again = there(z).sums
    assert (sums is None) == (again is None)
    if sums is not None and again is not None:
        here.step(sums, torch.Generator().manual_seed(1))
        there.step(again, torch.Generator().manual_seed(1))
    assert_same_state(state(here), state(there))


@every_case
def test_buffers_serve_training_alone(case: Case) -> None:
    quantizer = build(case, started=False)
    names = {name.rsplit(".", 1)[-1] for name, _ in quantizer.named_buffers()}
    assert names <= TRAINING_STATE
    assert not {name.rsplit(".", 1)[-1] for name, _ in quantizer.named_parameters()} & names


@every_table
def test_sums_of_the_parts_make_the_step_of_the_whole(case: Case) -> None:
    whole, parts = build(case), build(case)
    z = latents(case, batch=4, grid=(12, 12))
    sums = whole(z).sums
    halves = [parts(half).sums for half in z.split(2)]
    together = joined(*halves)
    assert torch.equal(together.count, sums.count)
    assert torch.equal(together.candidates, sums.candidates)
    torch.testing.assert_close(together.total, sums.total, atol=1e-5, rtol=1e-6)
    whole.step(sums, torch.Generator().manual_seed(3))
    parts.step(together, torch.Generator().manual_seed(3))
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], value, atol=1e-6, rtol=1e-6)


@every_table
def test_equal_generators_make_equal_steps(case: Case) -> None:
    """Whatever the ranks have drawn otherwise."""
    first, second, third = (build(case, started=False) for _ in range(3))
    sums = first(latents(case)).sums
    for seed, (quantizer, chosen) in enumerate([(first, 0), (second, 0), (third, 1)]):
        torch.manual_seed(seed)
        quantizer.step(sums, torch.Generator().manual_seed(chosen))
    assert_same_state(state(first), state(second))
    with pytest.raises(AssertionError):
        assert_same_state(state(first), state(third))


@every_table
def test_sums_count_every_vector(case: Case) -> None:
    quantizer, z = build(case), latents(case)
    sums = quantizer(z).sums
    codes = quantizer(z).codes
    assert (sums.count.sum(-1) == codes.numel() / max(1, quantizer.depth)).all()
    for part in sums:
        assert part.dtype == torch.float32
        assert not part.requires_grad
    found = torch.stack([c.bincount(minlength=16) for c in _by_place(codes)])
    assert torch.equal(sums.count.view(-1, 16), found.float())


def _by_place(codes: Tensor) -> list[Tensor]:
    """(B, h, w[, Q]) -> the ids of each of the Q codes."""
    return [c.flatten() for c in (codes.unbind(-1) if codes.ndim == 4 else [codes])]


@every_token_apart
@settings(max_examples=6)
@given(seed=st.integers(0, 2**31))
def test_margin_law(case: Case, seed: int) -> None:
    """Within its margin a vector moves anywhere and keeps its ids; beyond the face it does not."""
    quantizer = build(case).eval()
    z = latents(case, batch=1, grid=(16, 1), seed=seed)
    codes, margin = quantizer.encode(z), quantizer.margin(z)
    assert margin.shape == (1, 16, 1)
    assert (margin >= 0).all()
    clear = margin > 1e-3
    way = torch.nn.functional.normalize(latents(case, 1, (16, 1), seed + 1), dim=1)
    kept = _equal(quantizer.encode(z + 0.99 * margin * way), codes)
    assert kept[clear].all()
    to_face, sharp = _to_face(quantizer, z, margin)
    crossed = ~_equal(quantizer.encode(z + 1.01 * margin * to_face), codes)
    assert crossed[clear & sharp].all()
    assert (clear & sharp).sum() >= 4


def _equal(a: Tensor, b: Tensor) -> Tensor:
    """Whether all codes of a token are equal, (B, h, w)."""
    return (a == b).flatten(3).all(-1) if a.ndim == 4 else a == b


def _to_face(quantizer: Quantizer, z: Tensor, margin: Tensor) -> tuple[Tensor, Tensor]:
    """The direction in which the margin shrinks, and where it does so at unit speed."""
    slopes = []
    for d in range(z.shape[1]):
        shift = torch.zeros_like(z)
        shift[:, d] = 0.05 * margin
        rise = quantizer.margin(z + shift) - quantizer.margin(z - shift)
        slopes.append(rise / (0.1 * margin))
    slope = torch.stack(slopes, 1)
    return -slope, (slope.norm(dim=1) - 1).abs() < 2e-3


@every_case
def test_equal_generators_make_equal_draws(case: Case) -> None:
    quantizer, z = build(case), latents(case)
    torch.manual_seed(0)
    first = quantizer(z, generator=torch.Generator().manual_seed(5))
    torch.manual_seed(1)
    assert torch.equal(quantizer(z, generator=torch.Generator().manual_seed(5)).z, first.z)


class Encode(nn.Module):
    def __init__(self, quantizer: Quantizer) -> None:
        super().__init__()
        self.quantizer = quantizer

    def forward(self, z: Tensor) -> Tensor:
        codes: Tensor = self.quantizer.encode(z)
        return codes


# torch 2.6 warns of the constants that it makes itself.
@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node:UserWarning")
@pytest.mark.filterwarnings("ignore:Node lifted_tensor_:UserWarning")
@each_name
def test_encode_exports_for_any_size(case: Case) -> None:
    quantizer = build(case).eval()
    free = {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC}
    with torch.no_grad():
        graph = torch.export.export(Encode(quantizer), (latents(case),), dynamic_shapes=(free,))
    z = latents(case, batch=3, grid=(5, 4), seed=7)
    assert torch.equal(graph.module()(z), quantizer.encode(z))


# torch's compiler makes an instance of each autograd.Function, and torch deprecates that.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@each_name
def test_training_compiles_to_one_graph(case: Case) -> None:
    quantizer, z = build(case), latents(case).requires_grad_()
    torch.compiler.reset()
    out = torch.compile(quantizer, fullgraph=True, backend="aot_eager")(z)
    assert torch.equal(out.z, quantizer.decode(out.codes, (3, 4)))
    (out.z.square().sum() + quantizer.total_loss(out.losses)).backward()
    compiled, z.grad = z.grad, None
    eager = quantizer(z)
    if case.name == "gumbel":
        return
    assert torch.equal(out.codes, eager.codes)
    (eager.z.square().sum() + quantizer.total_loss(eager.losses)).backward()
    torch.testing.assert_close(compiled, z.grad)


@each_name
def test_ids_survive_offloading(case: Case) -> None:
    """Weights lie elsewhere but while their own module runs."""
    from accelerate import cpu_offload

    quantizer, z = build(case).eval(), latents(case)
    codes = quantizer.encode(z)
    vectors, margin = quantizer.decode(codes, (3, 4)), quantizer.margin(z)
    cpu_offload(quantizer, execution_device=torch.device("cpu"))
    assert all(weight.is_meta for weight in quantizer.parameters())
    assert torch.equal(quantizer.encode(z), codes)
    assert torch.equal(quantizer.decode(codes, (3, 4)), vectors)
    assert torch.equal(quantizer.margin(z), margin)


@every_case
def test_identity_names_settings(case: Case) -> None:
    kind = QUANTIZERS[case.name]
    takes = set(inspect.signature(kind.__init__).parameters)
    inner = QUANTIZERS["vector"] if case.name in ("residual", "grouped", "multiscale") else kind
    known = takes | set(inspect.signature(inner.__init__).parameters)
    known |= {name for own in QUANTIZERS for name in QUANTIZERS[own].identity}
    assert set(kind.identity) <= known
    for name, default in kind.identity.items():
        if name in takes:
            written = inspect.signature(kind.__init__).parameters[name].default
            assert default == (None if written is inspect.Parameter.empty else written)


def test_grouped_knows_the_identity_of_its_kinds() -> None:
    own = QUANTIZERS["grouped"].identity
    for name in QUANTIZERS:
        if issubclass(QUANTIZERS[name], RowQuantizer):
            assert QUANTIZERS[name].identity.items() <= own.items()


@every_case
def test_wrong_latents_are_refused(case: Case) -> None:
    quantizer = build(case, started=False)
    for wrong in (torch.zeros(2, case.dim + 1, 3, 3), torch.zeros(2, case.dim)):
        for call in (quantizer, quantizer.encode, quantizer.margin):
            with pytest.raises(InputError) as error:
                call(wrong)
            assert str(error.value) == (
                f"latents for this quantizer have the shape (B, {case.dim}, *grid); "
                f"got {tuple(wrong.shape)}"
            )


@every_case
def test_wrong_codes_are_refused(case: Case) -> None:
    quantizer = build(case, started=False)
    depth, size = quantizer.depth, case.codebook_size
    shape = (1, 2, 2, depth) if depth else (1, 2, 2)
    axis = f", {depth}" if depth else ""
    wrong = {
        torch.zeros(shape): "codes are whole numbers; got a tensor of torch.float32",
        torch.zeros(shape, dtype=torch.bool): "codes are whole numbers; got a tensor of torch.bool",
        torch.zeros(2, dtype=torch.int64): (
            f"codes of this tokenizer have the shape (B, *grid{axis}); got (2,)"
        ),
        torch.full(shape, size): (
            f"codes of this tokenizer lie in [0, {size}); got some from {size} to {size}"
        ),
        torch.full(shape, -1, dtype=torch.int16): (
            f"codes of this tokenizer lie in [0, {size}); got some from -1 to -1"
        ),
    }
    if depth:
        wrong[torch.zeros(1, 2, 2, depth - 1, dtype=torch.int64)] = (
            f"codes of this tokenizer have the shape (B, *grid, {depth}); "
            f"got (1, 2, 2, {depth - 1})"
        )
    for codes, message in wrong.items():
        with pytest.raises(CodesError) as error:
            quantizer.decode(codes)
        assert str(error.value) == message


@every_case
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.uint16])
def test_codes_of_any_whole_dtype_decode(case: Case, dtype: torch.dtype) -> None:
    quantizer = build(case).eval()
    codes = quantizer.encode(latents(case))
    assert torch.equal(quantizer.decode(codes.to(dtype), (3, 4)), quantizer.decode(codes, (3, 4)))


@every_token_apart
def test_every_code_decodes(case: Case) -> None:
    quantizer = build(case).eval()
    ids = torch.arange(case.codebook_size)[None]
    codes = ids[..., None].expand(-1, -1, quantizer.depth) if quantizer.depth else ids
    vectors = quantizer.decode(codes)
    assert vectors.shape == (1, case.dim, case.codebook_size)
    assert len(vectors[0].T.unique(dim=0)) == case.codebook_size
