"""Torch's switches are where they were, afterwards; between, IEEE products are what there is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from vqtok import search
from vqtok.errors import ConfigError
from vqtok.precision import PRECISIONS, _Flags, arithmetic, check_precision, ieee32

CPU = torch.device("cpu")
NEW = hasattr(torch.backends.cuda.matmul, "fp32_precision")


@pytest.fixture(autouse=True)
def _flags() -> Iterator[None]:
    before = _Flags.read()
    yield
    before.write()


def tf32() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


def nothing() -> None:
    """As torch starts."""


def old_switches() -> None:
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True


def both_off() -> None:
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def high() -> None:
    torch.set_float32_matmul_precision("high")


def medium() -> None:
    torch.set_float32_matmul_precision("medium")


def new_switch() -> None:
    torch.backends.cuda.matmul.fp32_precision = "tf32"


def new_switch_of_convolutions() -> None:
    torch.backends.cudnn.conv.fp32_precision = "ieee"


def new_switches() -> None:
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    torch.backends.mkldnn.conv.fp32_precision = "bf16"


def old_and_new() -> None:
    medium()
    torch.backends.cuda.matmul.allow_tf32 = False


OLD_WAYS = [nothing, old_switches, both_off, high, medium]
NEW_WAYS = [new_switch, new_switch_of_convolutions, new_switches, old_and_new] if NEW else []
ways = pytest.mark.parametrize("way", OLD_WAYS + NEW_WAYS, ids=lambda way: way.__name__)


def known(flags: _Flags, by: _Flags) -> tuple[Any, ...]:
    """`flags` but for what torch refused to tell when `by` was read."""
    return tuple(x for x, told in zip(flags, by, strict=True) if told is not None)


@ways
@pytest.mark.parametrize("precision", PRECISIONS)
def test_all_is_put_back(way: Callable[[], None], precision: Any) -> None:
    way()
    before = _Flags.read()
    with arithmetic(precision, CPU):
        pass
    assert known(_Flags.read(), before) == known(before, before)
    for context in (arithmetic(precision, CPU), ieee32()):
        with pytest.raises(KeyError), context:
            raise KeyError
        assert known(_Flags.read(), before) == known(before, before)


@ways
def test_inside_products_are_ieee_whatever_was_set(way: Callable[[], None]) -> None:
    way()
    with ieee32():
        assert tf32() == (False, False)
        assert torch.get_float32_matmul_precision() == "highest"
        assert set(_Flags.read().operations) <= {"ieee"}


@ways
def test_the_search_sees_to_it_itself(
    way: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    inner = search._search
    monkeypatch.setattr(search, "_search", lambda *args: seen.append(tf32()) or inner(*args))
    way()
    assert search.nearest(torch.eye(3), torch.eye(3)).tolist() == [0, 1, 2]
    assert seen == [(False, False)]


def test_tf32_is_on_where_it_is_asked_for() -> None:
    with arithmetic("tf32", CPU):
        assert tf32() == (True, True)
        assert torch.get_float32_matmul_precision() == "high"
    for other in ("ieee32", "bf16", "fp16"):
        with arithmetic(other, CPU):
            assert tf32() == (False, False)


def test_nested() -> None:
    high()
    with arithmetic("tf32", CPU):
        with ieee32():
            with ieee32():
                assert tf32() == (False, False)
            assert tf32() == (False, False)
        assert tf32() == (True, True)
    with ieee32(), arithmetic("tf32", CPU):
        assert tf32() == (False, False)
    assert torch.get_float32_matmul_precision() == "high"


def test_threads_that_overlap_do_not_switch_each_other() -> None:
    high()
    before = _Flags.read()
    first, second = ieee32(), ieee32()
    first.__enter__()
    other = threading.Thread(target=second.__enter__)
    other.start()
    other.join()
    first.__exit__(None, None, None)
    assert tf32() == (False, False)  # the other thread is still inside
    second.__exit__(None, None, None)
    assert _Flags.read() == before


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        ("ieee32", torch.float32),
        ("tf32", torch.float32),
        ("bf16", torch.bfloat16),
        ("fp16", torch.float16),
    ],
)
def test_what_a_float32_network_computes_in(precision: Any, dtype: torch.dtype) -> None:
    layer = torch.nn.Linear(4, 4)
    with arithmetic(precision, CPU):
        assert layer(torch.zeros(1, 4)).dtype == dtype
    with torch.autocast("cpu", dtype=torch.bfloat16), arithmetic("ieee32", CPU):
        assert layer(torch.zeros(1, 4)).dtype == torch.float32


def test_names() -> None:
    assert [check_precision(name) for name in PRECISIONS] == ["ieee32", "tf32", "bf16", "fp16"]


@pytest.mark.parametrize(
    ("name", "hint"), [("bf61", "Did you mean 'bf16'? "), ("double", ""), ("", "")]
)
def test_an_unknown_precision(name: str, hint: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_precision(name)
    assert str(error.value) == (
        f"there is no precision called {name!r}. {hint}Known: bf16, fp16, ieee32, tf32."
    )
