"""Slots: what is laid in comes out, and both sides have room of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serve_bench import slab_memory

from vqtok.errors import InputError
from vqtok.serve.shared import PAGE
from vqtok.serve.slab import DTYPES, FREE, GONE, HELD, NAMES, QUEUED, TAKEN, Head, Op, Slab


@given(st.data())
def test_parts_come_out_as_they_were_put_in(data: st.DataObject) -> None:
    slot = Slab([(1, 1 << 16)]).slot(0)
    names = data.draw(st.lists(st.sampled_from(NAMES), unique=True))
    put = {name: some(data) for name in names}
    slot.clear()
    for name, part in put.items():
        slot.put(name, part)
    found = slot.parts()
    assert list(found) == names
    for name, part in put.items():
        assert found[name].dtype == part.dtype
        assert found[name].shape == part.shape
        assert np.array_equal(found[name], part)


def some(data: st.DataObject) -> Any:
    dtype = data.draw(st.sampled_from(DTYPES))
    shape = data.draw(st.lists(st.integers(0, 5), max_size=5))
    seed = data.draw(st.integers(0, 99))
    return np.random.default_rng(seed).integers(0, 255, shape).astype(dtype)


def test_what_was_asked_stays_whole_beside_what_was_made() -> None:
    slot = Slab([(2, 128)]).slot(1)
    slot.clear()
    slot.put("pixels", np.full(128, 3, np.uint8))
    slot.made.put("codes", np.full(32, 9, np.uint32))
    assert slot.parts()["pixels"].tolist() == [3] * 128
    assert slot.made.parts()["codes"].tolist() == [9] * 32


def test_the_parts_of_a_slot_end_with_clear() -> None:
    slot = Slab([(1, 128)]).slot(0)
    slot.put("codes", np.zeros(60, np.uint16))
    slot.clear()
    assert slot.parts() == {}
    slot.put("codes", np.ones(60, np.uint16))
    assert slot.parts()["codes"].tolist() == [1] * 60


def test_a_part_that_does_not_fit() -> None:
    slot = Slab([(1, 256)]).slot(0)
    slot.put("codes", np.zeros(20, np.uint16))
    with pytest.raises(InputError) as error:
        slot.lay("pixels", np.uint8, (8, 8, 4))
    assert str(error.value) == (
        "pixels of uint8 (8, 8, 4) need 256 bytes, and of the slot's 256 there are 192 left"
    )


@pytest.mark.parametrize(
    ("name", "dtype", "shape", "got"),
    [
        ("ids", np.uint16, (1,), "ids of uint16 (1,)"),
        ("codes", np.int64, (1,), "codes of int64 (1,)"),
        ("codes", np.uint16, (1,) * 6, "codes of uint16 (1, 1, 1, 1, 1, 1)"),
    ],
)
def test_what_is_no_part(name: str, dtype: Any, shape: tuple[int, ...], got: str) -> None:
    with pytest.raises(InputError) as error:
        Slab([(1, 256)]).slot(0).lay(name, dtype, shape)
    assert str(error.value) == (
        "parts of a slot are pixels, codes, latents, scales, message, of uint8, uint16, uint32, "
        f"float32, int32 and at most 5 axes; got {got}"
    )


@pytest.mark.parametrize("size", [(), (3, 5), (7, 3, 5)])
def test_heads(size: tuple[int, ...]) -> None:
    slot = Slab([(1, 64)]).slot(0)
    head = Head((1 << 63) + 5, 3, Op.DECODE, size)
    slot.head = head
    assert slot.head == head


def test_slots_lie_apart_on_pages_of_their_own() -> None:
    slab = Slab([(3, 100), (2, 5000)], desks=2)
    starts = [slab.slot(index).start for index in range(slab.total)]
    assert slab.total == 10
    assert not any(start % PAGE for start in starts)
    for index in range(slab.total):
        slot = slab.slot(index)
        for half in (slot.given, slot.made):
            half.clear()
            half.lay("pixels", np.uint8, (half.capacity,))[...] = index
    for index in range(slab.total):
        slot = slab.slot(index)
        for half in (slot.given, slot.made):
            assert (half.parts()["pixels"] == index).all()


def test_each_desk_has_slots_of_each_kind() -> None:
    slab = Slab([(3, 100), (2, 5000)], desks=2)
    found = [list(slab.slots_of(desk, kind)) for desk in (0, 1) for kind in (0, 1)]
    assert found == [[0, 1, 2], [6, 7], [3, 4, 5], [8, 9]]
    assert [slab.kind_of(index) for index in range(10)] == [0] * 6 + [1] * 4
    assert slab.slot(7) is slab.slot(7)


def test_a_kind_may_have_no_slots() -> None:
    slab = Slab([(3, 100), (0, 0)])
    assert list(slab.slots_of(0, 1)) == []
    assert [slab.kind_of(index) for index in range(3)] == [0] * 3
    assert slab.counts(1) == [0] * 5


def test_states_are_counted_by_kind() -> None:
    slab = Slab([(2, 64), (1, 64)], desks=2)
    for index, state in enumerate((HELD, QUEUED, TAKEN, GONE, FREE, GONE)):
        slab.slot(index).state = state
    assert slab.counts(0) == [0, 1, 1, 1, 1]
    assert slab.counts(1) == [1, 0, 0, 0, 1]
    assert slab.slot(2).state == TAKEN


def test_the_memory_of_a_slot_is_given_back() -> None:
    slab = Slab([(1, 64), (1, 1 << 20)])
    before = slab_memory(slab)
    slot = slab.slot(1)
    slot.lay("pixels", np.uint8, (1 << 20,))[...] = 1
    assert slab_memory(slab) > before + (1 << 20)
    slab.give_back(1)
    assert slab_memory(slab) <= before + PAGE
    slot.clear()
    assert not slot.lay("pixels", np.uint8, (1 << 20,)).any()
