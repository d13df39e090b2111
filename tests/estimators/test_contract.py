"""What every estimator promises, read from its own declaration."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from estimator_oracles import needed, pair, some_gradient
from torch import Tensor

from vqtok.errors import ConfigError, InputError, UnknownNameError
from vqtok.estimators import ESTIMATORS, Estimator

PARTS = [ESTIMATORS[name] for name in ESTIMATORS]


def parts(**wanted: object) -> pytest.MarkDecorator:
    """Runs a test once for each estimator that declares what is wanted."""
    some = [p for p in PARTS if all(getattr(p, key) == value for key, value in wanted.items())]
    return pytest.mark.parametrize("part", some, ids=lambda part: part.name)


EACH = parts()
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def quiet(part: Estimator) -> dict[str, Any]:
    """Arguments of a call without chance."""
    return needed(part, **({"noise": 0.0} if "noise" in part.arguments else {}))


def run(part: Estimator, e: Tensor, q: Tensor, g: Tensor | None = None, **more: Any) -> list[Any]:
    """The value, and the gradients of e and q (None where none came)."""
    e, q = (t.detach().clone().requires_grad_() for t in (e, q))
    z = part(e, q, **quiet(part), **more)
    z.backward(some_gradient(z) if g is None else g.to(z.dtype))
    return [z.detach(), e.grad, q.grad]


def acute(dtype: torch.dtype = torch.float32, **more: Any) -> list[Tensor]:
    return [t.to(dtype) for t in pair(8, 50.0, **more)]


def test_a_part_is_a_file_of_its_name() -> None:
    for name in ESTIMATORS:
        assert ESTIMATORS[name].name == name
        assert ESTIMATORS[name].function.__module__ == f"vqtok.estimators.{name}"


def test_all_but_diveq_give_the_code_and_leave_the_codebook_alone() -> None:
    others = {name for name in ESTIMATORS if ESTIMATORS[name].value != "q"}
    moving = {name for name in ESTIMATORS if ESTIMATORS[name].grad != "e"}
    assert others == moving == {"diveq"}
    assert {name for name in ESTIMATORS if ESTIMATORS[name].needs_loss} == {"exact", "hessian"}


@EACH
@pytest.mark.parametrize("e_dtype", DTYPES)
@pytest.mark.parametrize("q_dtype", DTYPES)
def test_the_value_and_the_dtypes(
    part: Estimator, e_dtype: torch.dtype, q_dtype: torch.dtype
) -> None:
    e, q = acute()[0].to(e_dtype), acute()[1].to(q_dtype)
    z, e_grad, _ = run(part, e, q)
    assert z.dtype == q.dtype
    assert e_grad.dtype == e.dtype
    if part.value == "q":
        assert torch.equal(z, q)


@EACH
def test_which_of_the_two_a_gradient_reaches(part: Estimator) -> None:
    _, e_grad, q_grad = run(part, *acute())
    assert e_grad.abs().max() > 0
    assert (q_grad is not None) == (part.grad == "e,q")
    if q_grad is not None:
        assert q_grad.abs().max() > 0


@EACH
def test_without_a_wish_for_gradients_there_is_no_graph(part: Estimator) -> None:
    e, q = acute()
    assert not part(e, q, **quiet(part)).requires_grad
    with torch.no_grad():
        assert not part(e.requires_grad_(), q, **quiet(part)).requires_grad


@EACH
def test_the_inputs_stay_as_they_were(part: Estimator) -> None:
    e, q = acute()
    before = e.clone(), q.clone()
    run(part, e, q)
    z = part(e, q, **quiet(part))
    z.add_(1)
    assert torch.equal(e, before[0])
    assert torch.equal(q, before[1])


@EACH
def test_rows_do_not_see_each_other(part: Estimator) -> None:
    e, q = (torch.cat(ts) for ts in zip(acute(rows=5), acute(rows=4, seed=3), strict=True))
    q[2] = -e[2]
    g = some_gradient(e)
    together = run(part, e, q, g)
    for row in range(len(e)):
        one = slice(row, row + 1)
        for whole, alone in zip(together, run(part, e[one], q[one], g[one]), strict=True):
            if whole is not None:
                torch.testing.assert_close(whole[one], alone)


@EACH
def test_vectors_stand_on_the_last_axis_of_any_shape(part: Estimator) -> None:
    e, q = acute(rows=12)
    g = some_gradient(e)
    flat = run(part, e, q, g)
    shaped = run(part, *(t.view(2, 3, 2, 8) for t in (e, q, g)))
    for a, b in zip(flat, shaped, strict=True):
        if a is not None:
            assert torch.equal(a, b.view(12, 8))


@EACH
def test_no_vectors_at_all(part: Estimator) -> None:
    z, e_grad, _ = run(part, torch.zeros(0, 8), torch.zeros(0, 8))
    assert z.shape == e_grad.shape == (0, 8)


HARD = {
    "zero e": ([0.0, 0, 0], [1.0, 2, 3]),
    "zero q": ([1.0, 2, 3], [0.0, 0, 0]),
    "both zero": ([0.0, 0, 0], [0.0, 0, 0]),
    "equal": ([1.0, 2, 3], [1.0, 2, 3]),
    "parallel": ([1.0, 2, 3], [2.0, 4, 6]),
    "antiparallel": ([1.0, 2, 3], [-1.0, -2, -3]),
    "right angle": ([1.0, 0, 0], [0.0, 1, 0]),
    "denormal": ([1e-40, 2e-40, 0], [3e-41, -1e-40, 0]),
    "denormal e": ([1e-40, 2e-40, 0], [1.0, 2, 3]),
    "tiny": ([1e-20, 0, 0], [0.0, 1e-20, 1e-21]),
    "huge": ([1e30, 2e30, -1e30], [3e30, 1e30, 1e30]),
    "huge e": ([1e30, 2e30, -1e30], [1.0, 2, 3]),
    "huge q": ([1.0, 2, 3], [1e30, 2e30, 3e30]),
    **{
        f"antiparallel but for 1e-{n}": ([1.0, 2, 3], [-1.0, -2, -3 + 10.0**-n])
        for n in range(3, 9)
    },
    "one dimension": ([2.0], [3.0]),
    "one dimension, apart": ([2.0], [-3.0]),
}


def choices(part: Estimator) -> list[dict[str, Any]]:
    return [{"strict": s} if "strict" in part.arguments else {} for s in (False, True)]


@EACH
@pytest.mark.parametrize("case", HARD)
def test_finite_whatever_comes(part: Estimator, case: str) -> None:
    if part.value == "other" and "huge" in case:
        return  # a value that is computed, not copied, leaves float32's range
    loss = {"loss": lambda x: (x * 2).sum()} if part.needs_loss else {}
    e, q = (torch.tensor([row, row]) for row in HARD[case])
    for more in choices(part):
        live = e.clone().requires_grad_()
        z = part(live, q, **loss, **more)
        z.backward(torch.ones_like(z))
        assert z.isfinite().all()
        assert live.grad is not None
        assert live.grad.isfinite().all()
        if part.value == "q":
            assert torch.equal(z, q)


@EACH
def test_a_nan_stays_in_its_row(part: Estimator) -> None:
    e, q = acute()
    g = some_gradient(e)
    clean = run(part, e, q, g)[1]
    e[1, 3] = torch.nan
    z, e_grad, _ = run(part, e, q, g)
    others = [0, 2, 3]
    torch.testing.assert_close(e_grad[others], clean[others])
    assert z[others].isfinite().all()


@EACH
def test_autocast_changes_nothing(part: Estimator) -> None:
    e, q = acute()
    plain = run(part, e, q)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = run(part, e, q)
    for a, b in zip(plain, cast, strict=True):
        if a is not None:
            assert a.dtype == b.dtype == torch.float32
            assert torch.equal(a, b)


@parts(needs_loss=False)
def test_half_precision_is_worked_out_in_float32(part: Estimator) -> None:
    e, q = acute(torch.bfloat16)
    g = some_gradient(e)
    wide = run(part, e.float(), q.float(), g.float())
    half = run(part, e, q, g)
    assert torch.equal(half[0], wide[0].bfloat16())
    assert torch.equal(half[1], wide[1].bfloat16())


# Torch's own compiler does what this warning is about.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@parts(needs_loss=False)  # the others differentiate on their way forward, which graphs do not hold
def test_one_graph(part: Estimator) -> None:
    torch.compiler.reset()
    compiled = torch.compile(part.function, fullgraph=True, backend="aot_eager")
    e, q = acute()
    g = some_gradient(e)
    expected = run(part, e, q, g)
    live = e.clone().requires_grad_()
    z = compiled(live, q, **quiet(part))
    z.backward(g)
    assert live.grad is not None
    torch.testing.assert_close(z.detach(), expected[0])
    torch.testing.assert_close(live.grad, expected[1])


@parts(value="q")
def test_for_backward_no_more_is_kept_than_e_and_q(part: Estimator) -> None:
    e, q = acute(rows=16)
    e.requires_grad_()
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        part(e, q, loss=lambda x: x.sum()) if part.needs_loss else part(e, q)
    own = {t.untyped_storage().data_ptr() for t in (e, q)}
    new = sum(t.nbytes for t in kept if t.untyped_storage().data_ptr() not in own)
    most = {"ste": 0, "exact": e.nbytes, "hessian": e.nbytes}.get(part.name, e.nbytes + q.nbytes)
    assert sum(t.nbytes for t in kept) <= most
    assert new == 0 or part.needs_loss


@EACH
def test_an_unknown_setting(part: Estimator) -> None:
    with pytest.raises(ConfigError) as error:
        part(*acute(), **quiet(part), max_angel=3)
    known = ", ".join(sorted(part.arguments)) or "none"
    near = "Did you mean 'max_angle'? " if "max_angle" in part.arguments else ""
    assert str(error.value) == (
        f"the estimator '{part.name}' has no setting 'max_angel'. {near}Known: {known}."
    )


@EACH
def test_shapes_that_do_not_fit(part: Estimator) -> None:
    with pytest.raises(InputError) as error:
        part(torch.zeros(4, 8), torch.zeros(8), **quiet(part))
    assert str(error.value) == "vectors and their codes have one shape; got (4, 8) and (8,)"


@parts(needs_loss=False)
def test_a_loss_may_come_with_any_call(part: Estimator) -> None:
    assert part(*acute(), loss=lambda x: x.sum()).shape == (4, 8)


@parts(needs_loss=True)
def test_the_loss_is_asked_for_where_it_is_needed(part: Estimator) -> None:
    with pytest.raises(InputError) as error:
        part(*acute())
    assert str(error.value) == (
        f"the estimator '{part.name}' needs the loss itself: pass loss=, a function from "
        "quantized vectors to the scalar that is propagated back"
    )


def test_an_unknown_estimator() -> None:
    with pytest.raises(UnknownNameError) as error:
        ESTIMATORS["rotatoin"]
    assert str(error.value) == (
        "there is no estimator called 'rotatoin'. Did you mean 'rotation'? "
        f"Known: {', '.join(ESTIMATORS)}."
    )
