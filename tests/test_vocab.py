from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vqtok.errors import CodesError, ConfigError, LoadError
from vqtok.vocab import ORDERS, SPECIALS, VisualVocab

SMALL = VisualVocab(10)  # boi 10, eoi 11, eol 12, eof 13, pad 14
GRID = np.array([[0, 1, 2], [3, 4, 5]])


@st.composite
def vocabularies(draw: st.DrawFn) -> VisualVocab:
    size, depth = draw(st.integers(1, 40)), draw(st.integers(0, 3))
    offset = draw(st.integers(0, 100))
    end = offset + size * max(1, depth)
    free = [*range(offset), *range(end, end + 20)]
    specials = draw(st.permutations(free))[:5]
    if draw(st.booleans()):
        specials[4] = specials[1]  # pad is eoi
    return VisualVocab(
        size,
        offset,
        *specials,
        order=draw(st.sampled_from(ORDERS)),
        row_ends=draw(st.booleans()),
        depth=depth,
    )


@st.composite
def written(draw: st.DrawFn) -> tuple[VisualVocab, np.ndarray, tuple[int, ...]]:
    """A vocabulary, codes for it, and their grid."""
    vocab = draw(vocabularies())
    grid = (draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    if vocab.is_flat:
        grid = grid[:1]
    elif draw(st.booleans()):
        grid = (draw(st.integers(2, 3)), *grid)
    shape = (*grid, vocab.depth) if vocab.depth else grid
    seed = draw(st.integers(0, 2**32 - 1))
    dtype = draw(st.sampled_from([np.uint8, np.uint16, np.int32, np.int64]))
    codes = np.random.default_rng(seed).integers(0, vocab.codebook_size, shape).astype(dtype)
    return vocab, codes, grid


# --- laws -----------------------------------------------------------------------------------


@given(written())
def test_ids_come_back_as_the_codes_they_were(case: Any) -> None:
    vocab, codes, grid = case
    ids = vocab.flatten(codes)
    assert (ids.dtype, ids.ndim) == (np.int64, 1)
    for known in [None, grid] if vocab.row_ends or vocab.is_flat else [grid]:
        back = vocab.unflatten(ids, known)
        assert back.dtype == np.int64
        np.testing.assert_array_equal(back, codes)


@given(written())
def test_there_are_as_many_ids_as_length_says_and_size_holds_them(case: Any) -> None:
    vocab, codes, grid = case
    ids = vocab.flatten(codes)
    assert len(ids) == vocab.length(grid) == len(vocab.flatten(codes, special=False)) + 2
    assert 0 <= ids.min() <= ids.max() < vocab.size


@given(written())
def test_size_is_the_smallest_that_holds_every_id(case: Any) -> None:
    vocab = case[0]
    last_code = vocab.offset + max(1, vocab.depth) * vocab.codebook_size - 1
    assert vocab.size - 1 == max(last_code, *(getattr(vocab, name) for name in SPECIALS))


@given(written(), st.integers(0, 3), st.integers(0, 3), st.booleans(), st.booleans())
def test_padding_and_missing_ends_change_nothing(
    case: Any, left: int, right: int, boi: bool, eoi: bool
) -> None:
    vocab, codes, grid = case
    ids = vocab.flatten(codes, special=False)
    ids = np.concatenate([[vocab.boi] * boi, ids, [vocab.eoi] * eoi]).astype(np.int64)
    ids = np.pad(ids, (left, right), constant_values=vocab.pad)
    np.testing.assert_array_equal(vocab.unflatten(ids, grid), codes)


@given(written(), st.lists(st.integers(0, 1000), max_size=5))
def test_text_after_the_end_is_ignored(case: Any, rest: list[int]) -> None:
    vocab, codes, grid = case
    ids = [*vocab.flatten(codes).tolist(), *(i for i in rest if i != vocab.boi)]
    np.testing.assert_array_equal(vocab.unflatten(ids, grid), codes)


@given(written(), st.booleans())
def test_each_id_is_allowed_after_those_before_it(case: Any, special: bool) -> None:
    vocab, codes, grid = case
    ids = vocab.flatten(codes, special=special).tolist()
    for place, following in enumerate(ids):
        allowed = vocab.allowed_next(ids[:place], grid)
        assert following in allowed
        assert set(allowed) < set(range(vocab.size))


@given(written())
def test_only_the_end_and_padding_follow_the_last_code(case: Any) -> None:
    vocab, codes, grid = case
    body = vocab.flatten(codes)[:-1].tolist()
    assert list(vocab.allowed_next(body, grid)) == [vocab.eoi]
    assert list(vocab.allowed_next([*body, vocab.eoi], grid)) == [vocab.pad]
    assert list(vocab.allowed_next([*body, vocab.eoi, vocab.pad], grid)) == [vocab.pad]


@given(vocabularies(), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(0, 99))
def test_whatever_is_allowed_decodes(vocab: VisualVocab, t: int, h: int, w: int, seed: int) -> None:
    random, ids = np.random.default_rng(seed), []
    grid = (t * h * w,) if vocab.is_flat else (t, h, w)
    while not ids or ids[-1] != vocab.eoi:
        ids.append(int(random.choice(list(vocab.allowed_next(ids, grid)))))
    codes = vocab.unflatten(ids, grid)
    assert codes.shape == (*grid, vocab.depth)[: len(grid) + bool(vocab.depth)]
    assert codes.min() >= 0 and codes.max() < vocab.codebook_size


@given(vocabularies())
def test_a_stored_vocabulary_comes_back(vocab: VisualVocab) -> None:
    assert VisualVocab.from_dict(vocab.to_dict()) == vocab


# --- the format itself ------------------------------------------------------------------------


def test_a_picture_is_its_rows_between_two_ends() -> None:
    assert SMALL.flatten(GRID).tolist() == [10, 0, 1, 2, 12, 3, 4, 5, 12, 11]
    assert SMALL.flatten(GRID, special=False).tolist() == [0, 1, 2, 12, 3, 4, 5, 12]


def test_columns_are_closed_as_rows_are() -> None:
    column = replace(SMALL, order="column")
    assert column.flatten(GRID).tolist() == [10, 0, 3, 12, 1, 4, 12, 2, 5, 12, 11]


def test_without_row_ends_only_codes_are_between() -> None:
    assert replace(SMALL, row_ends=False).flatten(GRID).tolist() == [10, 0, 1, 2, 3, 4, 5, 11]


def test_frames_of_a_clip_are_closed() -> None:
    clip = np.array([[[0, 1]], [[2, 3]]])
    assert SMALL.flatten(clip).tolist() == [10, 0, 1, 12, 13, 2, 3, 12, 13, 11]


def test_a_clip_of_one_frame_is_a_picture() -> None:
    assert SMALL.flatten(GRID[None]).tolist() == SMALL.flatten(GRID).tolist()
    assert SMALL.unflatten(SMALL.flatten(GRID[None])).shape == (2, 3)
    assert SMALL.unflatten(SMALL.flatten(GRID), (1, 2, 3)).shape == (1, 2, 3)
    assert SMALL.length((1, 2, 3)) == SMALL.length((2, 3)) == 10


def test_a_sequence_stands_between_its_ends_as_it_is() -> None:
    flat = replace(SMALL, order="sequence")
    assert flat.flatten(np.array([4, 0, 9])).tolist() == [10, 4, 0, 9, 11]
    assert flat.unflatten([10, 4, 0, 9, 11, 14]).tolist() == [4, 0, 9]
    assert flat.unflatten([4, 0, 9], (1, 1, 3)).tolist() == [4, 0, 9]
    assert flat.length((3,)) == flat.length((1, 1, 3)) == 5
    assert list(flat.allowed_next([10, 4, 0, 9], (3,))) == [11]
    with pytest.raises(CodesError) as error:
        flat.flatten(GRID)
    assert str(error.value) == "codes have the shape (L,), all at least 1; got (2, 3)"
    with pytest.raises(CodesError) as error:
        flat.length((2, 3))
    assert str(error.value) == "a grid is (L,), a number of codes, at least 1; got (2, 3)"
    with pytest.raises(CodesError) as error:
        VisualVocab(10, order="sequence", depth=2).unflatten([0, 11, 2])
    assert str(error.value) == (
        "these ids hold 3 codes, which is no whole number of tokens with 2 codes each"
    )


def test_levels_have_ids_of_their_own() -> None:
    vocab = VisualVocab(10, 100, depth=2)
    assert vocab.flatten(np.array([[[1, 1], [9, 0]]])).tolist() == [
        120,
        101,
        111,
        109,
        110,
        122,
        121,
    ]
    assert (vocab.boi, vocab.pad, vocab.size) == (120, 124, 125)


def test_special_ids_follow_the_codes() -> None:
    vocab = VisualVocab(16, 1000)
    assert [getattr(vocab, name) for name in SPECIALS] == [1016, 1017, 1018, 1019, 1020]
    assert vocab.size == 1021


def test_special_ids_may_lie_in_the_text_part() -> None:
    vocab = replace(SMALL, offset=50, boi=3, eoi=4, eol=5, eof=6, pad=4)
    assert vocab.flatten(GRID).tolist() == [3, 50, 51, 52, 5, 53, 54, 55, 5, 4]
    assert vocab.size == 60


def test_numpy_integers_and_tensors_are_taken() -> None:
    vocab = VisualVocab(np.int64(10), offset=np.uint8(0))
    assert vocab == SMALL
    assert type(vocab.codebook_size) is int
    ids = torch.from_numpy(SMALL.flatten(torch.from_numpy(GRID)))
    np.testing.assert_array_equal(SMALL.unflatten(ids), GRID)


def test_it_needs_no_array_of_the_codebook() -> None:
    vocab = VisualVocab(1 << 40, row_ends=False)
    assert vocab.allowed_next([vocab.boi], (4, 4)) == range(1 << 40)


def test_a_stored_vocabulary_names_its_schema() -> None:
    assert SMALL.to_dict() == {
        "schema": "vqtok-vocab/1",
        "codebook_size": 10,
        "offset": 0,
        "boi": 10,
        "eoi": 11,
        "eol": 12,
        "eof": 13,
        "pad": 14,
        "order": "raster",
        "row_ends": True,
        "depth": 0,
    }


# --- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"codebook_size": 0}, "codebook_size is a whole number, at least 1; got 0"),
        ({"codebook_size": 2.0}, "codebook_size is a whole number, at least 1; got 2.0"),
        ({"codebook_size": True}, "codebook_size is a whole number, at least 1; got True"),
        ({"offset": -1}, "offset is a whole number, at least 0; got -1"),
        ({"depth": "2"}, "depth is a whole number, at least 0; got '2'"),
        ({"eol": -3}, "eol is a whole number, at least 0; got -3"),
        ({"boi": 9}, "boi=9 lies among the ids of the codes, [0, 10)"),
        ({"depth": 3, "eof": 29}, "eof=29 lies among the ids of the codes, [0, 30)"),
        ({"boi": 20, "eol": 20}, "boi and eol are both 20; only pad may be eoi"),
        ({"pad": 12}, "eol and pad are both 12; only pad may be eoi"),
        (
            {"order": "colum"},
            "there is no order 'colum'. Did you mean 'column'? Known: column, raster, sequence.",
        ),
        ({"row_ends": 1}, "row_ends is True or False; got 1"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        VisualVocab(**{"codebook_size": 10, **settings})
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (
            {"schema": "vqtok-vocab/2"},
            LoadError,
            "a stored vocabulary has the schema 'vqtok-vocab/1'; got 'vqtok-vocab/2'",
        ),
        (
            {"row_end": True},
            ConfigError,
            "a stored vocabulary has no setting 'row_end'. Did you mean 'row_ends'? Known: boi, "
            "codebook_size, depth, eof, eoi, eol, offset, order, pad, row_ends.",
        ),
        ({"eol": None, "order": None}, ConfigError, "a stored vocabulary lacks eol, order"),
        ({"offset": "7"}, ConfigError, "offset is a whole number, at least 0; got '7'"),
    ],
)
def test_stored_settings_that_cannot_be(
    change: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind) as error:
        VisualVocab.from_dict({**SMALL.to_dict(), **change})
    assert str(error.value) == message


DEEP = VisualVocab(10, depth=2)  # boi 20, eoi 21, eol 22, eof 23, pad 24


@pytest.mark.parametrize(
    ("vocab", "grid", "message"),
    [
        (SMALL, [[0.0, 1.0]], "codes are whole numbers; got an array of float64"),
        (SMALL, [[0], [1, 2]], "codes are one array of whole numbers; got lists of unequal length"),
        (
            SMALL,
            [0, 1, 2],
            "codes have the shape (h, w) or (t, h, w), all at least 1; got (3,)",
        ),
        (
            SMALL,
            np.zeros((0, 4), int),
            "codes have the shape (h, w) or (t, h, w), all at least 1; got (0, 4)",
        ),
        (
            DEEP,
            np.zeros((2, 4, 3), int),
            "codes have the shape (h, w, 2) or (t, h, w, 2), all at least 1; got (2, 4, 3)",
        ),
        (SMALL, [[0, 1], [10, 2]], "code 10 at (1, 0) is outside the codebook, [0, 10)"),
        (SMALL, [[0, -1], [1, 2]], "code -1 at (0, 1) is outside the codebook, [0, 10)"),
    ],
)
def test_grids_that_cannot_be_written(vocab: VisualVocab, grid: Any, message: str) -> None:
    with pytest.raises(CodesError) as error:
        vocab.flatten(grid)
    assert str(error.value) == message


COLUMN = replace(SMALL, order="column")


@pytest.mark.parametrize(
    ("vocab", "ids", "message"),
    [
        (SMALL, [0.5, 1], "ids are whole numbers; got an array of float64"),
        (SMALL, [[0, 12]], "the ids of one picture have the shape (L,); got (1, 2)"),
        (SMALL, [], "these ids hold no codes"),
        (SMALL, [14, 10, 11, 0, 12], "these ids hold no codes"),
        (SMALL, [14, 14], "these ids hold no codes"),
        (
            SMALL,
            [14, 10, 0, 99, 12, 11],
            "id 99 at position 3 is no code: these have the ids [0, 10)",
        ),
        (SMALL, [0, -1, 12], "id -1 at position 1 is no code: these have the ids [0, 10)"),
        (
            SMALL,
            [10, 0, 12, 10, 1, 12],
            "these ids hold 2 pictures, which begin at [0, 3]; pass the ids of one",
        ),
        (
            SMALL,
            [7, 7, 10, 0, 12, 11],
            "2 ids stand before the picture, which begins (boi, 10) at position 2; pass the ids "
            "from there on",
        ),
        (
            SMALL,
            [10, 0, 14, 1, 12],
            "id 14 (pad) at position 2 is no code: these have the ids [0, 10)",
        ),
        (
            SMALL,
            [10, 0, 1, 12, 2, 3],
            "the last row has no end: after id 3 at position 5 there is no eol (12)",
        ),
        (SMALL, [0, 1, 12, 2, 12], "row 1 has 1 codes, row 0 has 2"),
        (COLUMN, [0, 1, 12, 2, 3, 12, 12], "column 2 has 0 codes, column 0 has 2"),
        (SMALL, [12, 12], "every row has 0 codes, which is no grid"),
        (
            DEEP,
            [0, 10, 1, 22],
            "every row has 3 codes, which is no grid with 2 codes a token",
        ),
        (
            DEEP,
            [0, 10, 11, 1, 22],
            "id 11 at position 2 is no code of level 0: these have the ids [0, 10)",
        ),
        (
            DEEP,
            [20, 0, 1, 22],
            "id 1 at position 2 is no code of level 1: these have the ids [10, 20)",
        ),
        (
            SMALL,
            [0, 1, 13, 2, 3, 12, 13],
            "the frame end (13) at position 2 does not follow the end of a row (12)",
        ),
        (
            SMALL,
            [10, 0, 12, 13, 1, 12, 11],
            "the last frame has no end (13): rows follow the frame end at position 3",
        ),
        (SMALL, [0, 12, 13, 1, 12, 2, 12, 13], "frame 1 has 2 rows, frame 0 has 1"),
        (
            replace(SMALL, row_ends=False),
            [10, 0, 1, 2, 3, 11],
            "rows of this vocabulary do not end with an id of their own, so these ids fit more "
            "than one grid; pass the grid, (h, w)",
        ),
    ],
)
def test_ids_that_cannot_be_read(vocab: VisualVocab, ids: Any, message: str) -> None:
    with pytest.raises(CodesError) as error:
        vocab.unflatten(ids)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("vocab", "grid", "message"),
    [
        (SMALL, (3, 2), "these ids have the grid (2, 3), not (3, 2)"),
        (SMALL, (2, 2, 3), "these ids have the grid (2, 3), not (2, 2, 3)"),
        (SMALL, (6,), "a grid is (h, w) or (t, h, w), all at least 1; got (6,)"),
        (SMALL, (0, 6), "a grid is (h, w) or (t, h, w), all at least 1; got (0, 6)"),
        (SMALL, (2.0, 3), "a grid is (h, w) or (t, h, w), all at least 1; got (2.0, 3)"),
        (SMALL, 6, "a grid is (h, w) or (t, h, w), all at least 1; got 6"),
        (replace(SMALL, row_ends=False), (2, 2), "a grid of (2, 2) takes 4 ids; got 6"),
    ],
)
def test_grids_that_do_not_fit_the_ids(vocab: VisualVocab, grid: Any, message: str) -> None:
    with pytest.raises(CodesError) as error:
        vocab.unflatten(vocab.flatten(GRID), grid)
    assert str(error.value) == message


def test_ids_with_row_ends_are_not_read_without_them() -> None:
    with pytest.raises(CodesError) as error:
        replace(SMALL, row_ends=False).unflatten(SMALL.flatten(GRID), (2, 4))
    assert str(error.value) == "id 12 (eol) at position 4 is no code: these have the ids [0, 10)"
