"""Codes and latents: every kind of them, in every medium, there and back."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from wire_bodies import JSON, LIMITS, NPY, PRINT, RAW, SAFETENSORS, codes_of, jsoned, npy, space

from vqtok.serve.wire import (
    CARRIERS,
    Failure,
    Head,
    Latents,
    Row,
    Space,
    head_of,
    read_codes,
    read_tokens,
    row_of,
    write_tokens,
)
from vqtok.types import Codes

ONE_ARRAY = (NPY, RAW)
FAILED = Failure(400, "not_a_picture", "picture 1 is no picture")


@st.composite
def kinds_of_codes(draw: st.DrawFn, *, alike: bool) -> tuple[Space, list[Codes]]:
    """Codes of one tokenizer, of one shape or of several."""
    size = draw(st.sampled_from([2, 16, 65_536, 65_537, 2**18, 2**32]))
    axes, depth = draw(st.integers(1, 3)), draw(st.sampled_from([0, 1, 3]))
    scales = ((1, 1), (2, 2), (3, 2)) if axes == 1 and not depth and draw(st.booleans()) else ()
    kind = Space(size, axes, PRINT.codebook, depth, video=axes == 3)
    sides = st.tuples(*[st.integers(1, 4)] * axes)
    shared = draw(sides)
    found = []
    for _ in range(draw(st.integers(1, 4))):
        grid = (11,) if scales else shared if alike else draw(sides)
        shape = (*grid, depth) if depth else grid
        seed = draw(st.integers(0, 2**32 - 1))
        ids = np.random.default_rng(seed).integers(0, size, shape, dtype=np.uint64)
        ids.flat[0] = size - 1
        pixels = draw(st.tuples(*[st.integers(0, 2**31 - 1)] * (2 + kind.video)))
        sizes = np.array([pixels], np.int32)
        found.append(codes_of(ids, kind, sizes=sizes, scales=scales))
    return kind, found


@given(kinds_of_codes(alike=True), st.sampled_from(CARRIERS))
def test_codes_of_one_shape_come_back_from_every_medium(
    kind: tuple[Space, list[Codes]], media: str
) -> None:
    there, codes = kind
    body, headers = write_tokens([row_of(one) for one in codes], head_of(codes[0]), media)
    assert headers["content-type"] == media
    back = read_codes(headers, body, there, LIMITS)
    assert back == codes
    assert {one.ids.dtype.itemsize for one in back} == {2 if there.codebook_size <= 65_536 else 4}
    assert read_tokens(headers, body, there, LIMITS) == codes


@given(kinds_of_codes(alike=False), st.sampled_from([JSON, SAFETENSORS]))
def test_codes_of_several_shapes_come_back_from_media_that_hold_them(
    kind: tuple[Space, list[Codes]], media: str
) -> None:
    there, codes = kind
    body, headers = write_tokens([row_of(one) for one in codes], head_of(codes[0]), media)
    assert read_codes(headers, body, there, LIMITS) == codes


@given(
    st.lists(st.booleans(), min_size=1, max_size=4).filter(any),
    st.sampled_from(CARRIERS),
)
def test_each_picture_of_an_answer_keeps_its_place(good: list[bool], media: str) -> None:
    rows = [
        row_of(codes_of([[index, 0]], space())) if fine else FAILED
        for index, fine in enumerate(good)
    ]
    body, headers = write_tokens(rows, Head(PRINT, PRINT.codebook, 16), media)
    back = read_codes(headers, body, space(), LIMITS)
    assert [isinstance(one, Codes) for one in back] == good
    for index, one in enumerate(back):
        if isinstance(one, Codes):
            assert one.ids[0, 0, 0] == index
        else:
            assert one.status == 400
            assert media in ONE_ARRAY or one == FAILED


@given(st.integers(1, 3), st.integers(1, 3), st.sampled_from(CARRIERS), st.data())
def test_latents_come_back_bit_for_bit(
    count: int, axes: int, media: str, data: st.DataObject
) -> None:
    there = space(axes=axes, video=axes == 3)
    shape = (4, *data.draw(st.tuples(*[st.integers(1, 3)] * axes)))
    values = np.random.default_rng(count).normal(size=(count, *shape)).astype(np.float32)
    size = (8, 32, 16)[-2 - there.video :]
    rows = [Row({"latents": one}, size) for one in values]
    body, headers = write_tokens(rows, Head(PRINT), media, main="latents")
    back = read_tokens(headers, body, there, LIMITS)
    assert all(isinstance(one, Latents) and one.size == size for one in back)
    assert np.array_equal(values, [one.values for one in back])  # type: ignore[union-attr]


def test_a_picture_with_codes_and_latents_is_its_codes() -> None:
    codes = codes_of([[1, 2]], space())
    row = row_of(codes)
    row = row._replace(parts={**row.parts, "latents": np.zeros((4, 1, 2), np.float32)})
    for media in (JSON, SAFETENSORS):
        body, headers = write_tokens([row], Head(PRINT), media)
        assert read_tokens(headers, body, space(), LIMITS) == [codes]


def test_latents_may_have_another_grid_than_codes() -> None:
    there = space(axes=1, latent_axes=2)
    rows = [Row({"latents": np.ones((4, 2, 3), np.float32)})]
    for media in CARRIERS:
        body, headers = write_tokens(rows, Head(PRINT), media, main="latents")
        (back,) = read_tokens(headers, body, there, LIMITS)
        assert isinstance(back, Latents)
        assert back.values.shape == (4, 2, 3)


def test_the_answer_says_what_it_holds() -> None:
    rows = [Row({"codes": np.array([[0, 15]], np.uint16)}, (16, 32))]
    body, headers = write_tokens(rows, Head(PRINT, PRINT.codebook, 16), JSON)
    assert json.loads(body) == {
        "schema": "vqtok-wire/1",
        "fingerprint": PRINT.to_dict(),
        "codebook_size": 16,
        "pictures": [{"status": 200, "grid": [1, 2], "size": [16, 32], "codes": [[0, 15]]}],
    }
    assert headers == {
        "content-type": JSON,
        "x-vqtok-fingerprint": f"vqtok-fp/1;preprocess={'a' * 64};encoder={'b' * 64};"
        f"codebook={'c' * 64};decoder={'d' * 64}",
        "x-vqtok-codebook-size": "16",
        "x-vqtok-shape": "1,1,2",
        "x-vqtok-dtype": "uint16",
        "x-vqtok-sizes": "16x32",
    }


def test_safetensors_is_what_other_libraries_read() -> None:
    rows = [row_of(codes_of([[1, 2]], space())), FAILED, row_of(codes_of([[3, 4]], space()))]
    body, headers = write_tokens(rows, Head(PRINT, PRINT.codebook, 16), SAFETENSORS)
    assert safetensors.numpy.load(body)["codes"].tolist() == [[[1, 2]], [[3, 4]]]
    assert headers["x-vqtok-status"] == "200,400,200"


def test_safetensors_of_arrays_in_any_order_of_memory() -> None:
    values = np.arange(24).reshape(4, 2, 3)
    for count in (1, 2):
        for array in (
            np.asfortranarray(values, np.float32),
            values.astype(">f4"),
            np.asfortranarray(values.astype("<f4").repeat(2, 0))[::2],
        ):
            rows = [Row({"latents": array})] * count
            body, _ = write_tokens(rows, Head(PRINT), SAFETENSORS, main="latents")
            found = safetensors.numpy.load(body)["latents"]
            assert np.array_equal(found, [values] * count)
    rows = [Row({"latents": np.asfortranarray(values[:, :, :n], np.float32)}) for n in (2, 3)]
    body, _ = write_tokens(rows, Head(PRINT), SAFETENSORS, main="latents")
    assert np.array_equal(safetensors.numpy.load(body)["latents.1"], values)


def test_sizes_that_are_not_known_are_not_told() -> None:
    codes = codes_of([[1, 2]], space())
    assert row_of(codes).size == ()
    for media in CARRIERS:
        body, headers = write_tokens([row_of(codes)], head_of(codes), media)
        assert "x-vqtok-sizes" not in headers
        assert read_tokens(headers, body, space(), LIMITS) == [codes]


def test_what_is_said_once_is_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Row({"codes": np.array([[0, 15]], np.uint16)}, (16, 48))]
    head = Head(PRINT, PRINT.codebook, 16)
    _, first = write_tokens(rows, head, RAW)
    monkeypatch.setattr("vqtok.serve.wire.headers.print_text", None)
    monkeypatch.setattr("vqtok.serve.wire.headers.sizes_text", None)
    assert write_tokens(rows, head, RAW)[1] == first


# --- what people send ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"codes": [[0, 1], [2, 15]]},
        {"codes": [[[0, 1], [2, 15]]]},
        {"pictures": [{"codes": [[0, 1], [2, 15]]}]},
        {"codes": [[0, 1], [2, 15]], "codebook": PRINT.codebook, "grid": [2, 2], "key": "cat.jpg"},
        {"codes": [[0, 1], [2, 15]], "fingerprint": PRINT.to_dict(), "codebook_size": 16},
    ],
)
def test_short_json_is_taken(fields: dict[str, object]) -> None:
    assert read_codes(*jsoned(**fields), space(), LIMITS) == [codes_of([[0, 1], [2, 15]], space())]


def test_several_grids_without_names_may_differ_in_shape() -> None:
    back = read_codes(*jsoned(codes=[[[0, 1]], [[2], [3]]], size=[4, 4]), space(), LIMITS)
    assert [one.ids.shape for one in back] == [(1, 1, 2), (1, 2, 1)]  # type: ignore[union-attr]
    assert [one.sizes.tolist() for one in back] == [[[4, 4]]] * 2  # type: ignore[union-attr]


def test_a_grid_is_a_clip_of_one_frame_where_clips_are_taken() -> None:
    there = space(axes=3, video=True)
    (back,) = read_codes(*jsoned(codes=[[0, 1]]), there, LIMITS)
    assert back == codes_of([[[0, 1]]], there)


def test_arrays_of_other_whole_numbers_are_taken() -> None:
    for dtype in ("u1", "<i8", ">u4", ">i2"):
        ids = np.array([[0, 15]], dtype)
        file = npy(ids)
        (back,) = read_codes({"content-type": NPY}, file, space(), LIMITS)
        assert back == codes_of([[0, 15]], space())
    fortran = npy(np.asfortranarray([[1, 2], [3, 4]]))
    (back,) = read_codes({"content-type": NPY}, fortran, space(), LIMITS)
    assert back == codes_of([[1, 2], [3, 4]], space())


def test_raw_codes_are_of_the_codebooks_dtype_where_no_header_tells() -> None:
    headers = {"content-type": RAW, "x-vqtok-shape": "1,2"}
    for size, dtype in ((16, "<u2"), (1 << 17, "<u4")):
        there = replace(space(), codebook_size=size)
        (found,) = read_tokens(headers, np.array([3, 5], dtype).tobytes(), there, LIMITS)
        assert found == codes_of([[3, 5]], there)


@pytest.mark.parametrize("media", ["application/jsonl", "application/x-ndjson"])
def test_lines_are_pictures(media: str) -> None:
    line = (
        '{"key":"a","size":[2,4],"grid":[1,2],"codebook":"","precision":"ieee32","codes":[[1,2]]}'
    )
    body = f"{line}\n\n{line}\n".encode()
    sizes = np.array([[2, 4]], np.int32)
    one = codes_of([[1, 2]], space(), sizes=sizes)
    assert read_tokens({"content-type": media}, body, space(), LIMITS) == [one, one]


def test_what_codes_are_in_can_be_told_by_their_first_bytes() -> None:
    one = codes_of([[1, 2]], space())
    for media in (JSON, NPY, SAFETENSORS):
        body, headers = write_tokens([row_of(one)], Head(), media)
        for vague in ({}, {"content-type": RAW}):
            left = {name: text for name, text in headers.items() if name != "x-vqtok-shape"}
            del left["content-type"]
            assert read_tokens({**left, **vague}, body, space(), LIMITS) == [one]
