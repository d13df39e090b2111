"""What a picture or clip needs of a slot."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serve_kinds import CLIPS, PICTURES, alone, clip, kind, shown

from vqtok.preprocess import fit
from vqtok.serve.describe import describe
from vqtok.serve.facts import Facts
from vqtok.serve.room import largest_area, picture_area, slot_bytes, slot_kind
from vqtok.serve.shared import PAGE
from vqtok.serve.slab import ALIGN, Slab
from vqtok.tokenizer import VisualTokenizer


class Limits(NamedTuple):
    max_area: int = 1 << 14
    slot_frames: int = 9


def facts_of(name: str) -> Facts:
    return describe(kind(name), name, name)


def bytes_of(tok: VisualTokenizer, pixels: np.ndarray) -> int:
    """What one side of a slot holds at most, of a picture and what is made of it."""
    facts = describe(tok, "x", "x")
    latents, codes, back = alone(tok, pixels)
    room = sum(
        -(-array.nbytes // 64) * 64
        for array in (codes.ids.astype(facts.traits.dtype), np.array(codes.scales, np.int32))
    )
    return max(pixels.nbytes, room + latents.nbytes, room + back.nbytes)


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_finds_room(name: str) -> None:
    tok, facts = kind(name), facts_of(name)
    limits = Limits(max_area=24 * 20)
    capacity = slot_bytes(facts, limits)[0]
    pixels = shown(tok)
    assert slot_kind(facts, pixels.shape[:-1], limits) == 0
    need = bytes_of(tok, pixels)
    assert need <= capacity <= 2 * need + 8192


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("frames", [1, 2, 9])
def test_a_clip_finds_room(name: str, frames: int) -> None:
    tok, facts, limits = kind(name), facts_of(name), Limits(max_area=256)
    capacities = slot_bytes(facts, limits)
    which = slot_kind(facts, (frames, 16, 16), limits)
    assert which == (frames > facts.traits.frames)
    assert bytes_of(tok, clip(frames)) <= capacities[which]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 2000), st.integers(1, 2000), st.integers(64, 1 << 16))
def test_extended_pictures_of_any_shape_find_room(height: int, width: int, area: int) -> None:
    if max(height, width) > 200 * min(height, width):
        return
    tok = kind("extend").with_preprocess(max_area=max(area, 64))
    facts = describe(tok, "e", "e")
    size = fit(height, width, facts.preprocess)
    limits = Limits(max_area=1 << 16)
    assert np.prod(size) <= picture_area(facts, limits)
    cells = np.prod(facts.traits.grid_of(size))
    latents, codes = 4 * 4 * cells, 2 * cells
    assert codes + max(3 * np.prod(size), latents) <= slot_bytes(facts, limits)[0]


def test_grids_larger_than_the_one_size() -> None:
    facts, limits = facts_of("cnn"), Limits(max_area=64 * 64)
    picture, larger = slot_bytes(facts, limits)
    assert slot_kind(facts, (16, 16), limits) == slot_kind(facts, (8, 32), limits) == 0
    assert slot_kind(facts, (64, 64), limits) == 1
    assert largest_area(facts, limits) == 64 * 64
    assert picture < 4096 * 2 < 3 * 64 * 64 <= larger


def test_nothing_is_larger_than_the_only_size() -> None:
    assert slot_bytes(facts_of("sequence"), Limits())[1] == 0
    assert slot_bytes(facts_of("native"), Limits())[1] == 0
    assert largest_area(facts_of("sequence"), Limits()) == 32 * 32


def with_latents(name: str, channels: int | None) -> Facts:
    facts = facts_of(name)
    return replace(facts, traits=replace(facts.traits, latent_channels=channels))


def test_latents_may_be_what_needs_most() -> None:
    wide = with_latents("cnn", 256)
    assert slot_bytes(wide, Limits())[0] >= 4 * 256 * 16
    assert slot_bytes(facts_of("cnn"), Limits())[0] < 4 * 256 * 16


@pytest.mark.parametrize("name", PICTURES)
def test_what_comes_of_a_picture_lies_in_its_slot(name: str) -> None:
    tok, facts = kind(name), facts_of(name)
    pixels = shown(tok)
    limits = Limits(max_area=int(np.prod(pixels.shape[:2])))
    slot = Slab([(1, slot_bytes(facts, limits)[0])]).slot(0)
    latents, codes, back = alone(tok, pixels)
    for last in ({"latents": latents}, {"pixels": back}):
        parts = {"codes": codes.ids[0].astype(facts.traits.dtype), **last}
        if codes.scales:
            parts["scales"] = np.array(codes.scales, np.int32)
        slot.clear()
        for part, array in parts.items():
            slot.made.put(part, array)
        assert all(np.array_equal(slot.made.parts()[part], parts[part]) for part in parts)


def test_room_is_kept_for_parts_to_begin_where_slots_have_them() -> None:
    """A slot of nothing but codes and pixels that fill it to the last byte."""
    facts = with_latents("native", None)
    for area in range(4000, 4100):
        capacity = slot_bytes(facts, Limits(max_area=area))[0]
        codes = -(-area // 16) * facts.traits.dtype.itemsize
        laid = [-(-length // ALIGN) * ALIGN for length in (codes, 0, 3 * area)]
        assert sum(laid) <= capacity
        assert capacity % PAGE == 0
