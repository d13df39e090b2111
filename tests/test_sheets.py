from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from vqtok.sheets import code_colours, code_map, colours_of, gallery, plane, sheet


def near(colours: np.ndarray, a: int, b: int) -> float:
    return float(np.abs(colours[a].astype(int) - colours[b]).sum())


@given(st.integers(1, 9), st.integers(2, 40), st.integers(0, 99))
def test_every_code_has_a_colour(dim: int, size: int, seed: int) -> None:
    codebook = np.random.default_rng(seed).normal(size=(size, dim)).astype(np.float32)
    colours = code_colours(codebook)
    assert (colours.shape, colours.dtype) == ((size, 3), np.uint8)
    # Neither the place nor the unit of the codebook matters.
    assert np.array_equal(code_colours(codebook * 8), colours)


@pytest.mark.parametrize("dim", [1, 2, 3, 8])
def test_like_codes_have_like_colours(dim: int) -> None:
    centres = np.random.default_rng(0).normal(size=(8, dim))
    codebook = np.repeat(centres, 16, axis=0)
    codebook += np.random.default_rng(1).normal(size=codebook.shape) * 1e-3
    colours = code_colours(codebook.astype(np.float32))
    inside = np.mean([near(colours, 16 * g, 16 * g + k) for g in range(8) for k in range(16)])
    across = np.mean([near(colours, 16 * g, 16 * h) for g in range(8) for h in range(8) if g != h])
    assert inside < across / 3


def test_equal_codes_have_equal_colours() -> None:
    codebook = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    colours = code_colours(np.concatenate([codebook, codebook]))
    assert np.array_equal(colours[:5], colours[5:])
    assert len(np.unique(code_colours(np.ones((4, 3), np.float32)), axis=0)) == 1


def test_axes_point_the_same_way_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    codebook = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    colours = code_colours(codebook)
    eigh = np.linalg.eigh

    def turned(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, axes = eigh(matrix)
        return values, -axes

    monkeypatch.setattr(np.linalg, "eigh", turned)
    assert np.array_equal(code_colours(codebook), colours)


def test_colours_are_those_of_the_codebook() -> None:
    tok = tiny.tokenizer()
    assert np.array_equal(colours_of(tok), code_colours(tok.codebook.numpy()))


@pytest.mark.parametrize("name", ["residual", "grouped"])
def test_the_first_of_several_codes_is_shown(name: str) -> None:
    settings = {"residual": {"num_quantizers": 2}, "grouped": {"groups": 2}}[name]
    tok = tiny.tokenizer(quantizer=name, quantizer_args=settings)
    ids = np.zeros((1, 64, 2), int)
    ids[0, :, 0] = np.arange(64)
    vectors = tok.latents([ids])[0][:, 0].T.numpy()
    assert len(np.unique(vectors, axis=0)) == 64
    assert np.array_equal(colours_of(tok), code_colours(vectors))


def test_a_code_map_has_a_square_for_each_code() -> None:
    colours = np.arange(12, dtype=np.uint8).reshape(4, 3)
    ids = np.array([[0, 1, 2], [3, 2, 1]])
    shown = code_map(ids, colours, (8, 12))
    assert np.array_equal(shown, colours[ids].repeat(4, 0).repeat(4, 1))


def test_a_sheet_has_three_parts_in_a_row() -> None:
    original, back = np.full((8, 12, 3), 10, np.uint8), np.full((8, 12, 3), 20, np.uint8)
    row = sheet(original, back, np.zeros((2, 3), int), np.full((1, 3), 30, np.uint8))
    assert row.shape == (8, 12 * 3 + 4 * 2, 3)
    values = row[0, :, 0].tolist()
    assert values == [10] * 12 + [255] * 4 + [20] * 12 + [255] * 4 + [30] * 12


def test_a_gallery_has_columns_and_a_margin() -> None:
    parts = [[np.full((2, 3, 3), 10 * c + r, np.uint8) for r in range(3)] for c in range(2)]
    shown = gallery(parts)
    assert shown.shape == (3 * 2 + 2 * 4 + 16, 2 * 3 + 4 + 16, 3)
    assert (shown[:8] == 255).all() and (shown[:, -8:] == 255).all()
    assert shown[8, 8, 0] == 0 and shown[14, 8, 0] == 1 and shown[8, 15, 0] == 10


def test_what_of_codes_there_is_to_look_at() -> None:
    grid = np.arange(12).reshape(3, 4)
    assert plane(grid) is grid
    assert np.array_equal(plane(np.stack([grid, grid + 100], -1), 2), grid)
    flat = np.arange(14)
    assert plane(flat, 0, ((1, 1), (1, 2), (3, 3)))[0, 0] == 5
    assert plane(torch.arange(13), 0, ((1, 1), (3, 4))).tolist() == (grid + 1).tolist()
    assert plane(flat).shape == (1, 14)
    assert plane(np.stack([flat, flat], -1), 2).shape == (1, 14)
