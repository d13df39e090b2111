"""Whatever is sent, the only exceptions are those that say what is wrong."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_bodies import npy

from vqtok.serve.wire import (
    ACCEPTED,
    Limits,
    Space,
    WireError,
    picture_reader,
    read_pictures,
    read_pixels,
    read_tokens,
)

NPY, SAFETENSORS, RAW = "application/x-npy", "application/safetensors", "application/octet-stream"
JSON = "application/json"
SPACE = Space(16, latent_channels=4)
LIMITS = Limits(max_body=1_000_000, max_pixels=10_000, max_images=4, max_frames=5)


def refused(headers: dict[str, str], body: bytes) -> str:
    with pytest.raises(WireError) as error:
        read_tokens(headers, body, SPACE, LIMITS)
    return f"{error.value.code}: {error.value}"


def npy_head(text: str, version: bytes = b"\x01\x00") -> bytes:
    width = 2 if version[0] == 1 else 4
    return b"\x93NUMPY" + version + len(text).to_bytes(width, "little") + text.encode()


HUGE = "{'descr': '<u2', 'fortran_order': False, 'shape': (999999999999, 999999999999), }\n"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            b"PK\3\4 a zip of arrays",
            "bad_npy: the body is no npy file, as numpy.save writes them; got 20 bytes that begin "
            "with 50 4b 03 04 20 61 20 7a",
        ),
        (
            npy([[1, 2]])[:-1],
            "truncated: the npy file says that it holds int64 of the shape (1, 2), which is 16 "
            "bytes; after its header come 15",
        ),
        (
            npy([[1, 2]]) + b"more",
            "bad_npy: the npy file says that it holds int64 of the shape (1, 2), which is 16 "
            "bytes; after its header come 20",
        ),
        (
            npy_head(HUGE),
            "truncated: the npy file says that it holds uint16 of the shape (999999999999, "
            "999999999999), which is 1999999999996000000000002 bytes; after its header come 0",
        ),
        (
            b"\x93NUMPY\x02\x00\xff\xff\xff\xff{'descr'",
            "bad_npy: the npy file says that its header is 4294967295 bytes long; at most 4096 "
            "are read, and the whole file has 20",
        ),
        (
            npy_head("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n") + b"cos\nsystem",
            "bad_npy: the npy file holds no plain array of numbers, or its header is not as "
            "numpy.save writes it; got \"{'descr': '|O', 'fortran_order': False, 'shape': (1,), "
            '}"',
        ),
        (
            npy(np.zeros(1, [("a", "u1")])),
            "bad_npy: the npy file holds no plain array of numbers, or its header is not as "
            "numpy.save writes it; got \"{'descr': [('a', '|u1')], 'fortran_order': False, "
            "'shape': (1,), }\"",
        ),
        (
            npy(np.zeros((2, 2), "c8")),
            "bad_npy: the npy file holds '<c8'; arrays of uint8, uint16, uint32, uint64, int16, "
            "int32, int64, float16, float32, float64 are taken",
        ),
        (
            npy(np.zeros((0, 2), "u2")),
            "empty: the npy file holds an array of the shape (0, 2), of no numbers",
        ),
        (
            npy(np.zeros((99999, 1, 1), "u1")),
            "too_many_images: the body holds 99999 pictures; at most 4 are taken at once",
        ),
        (
            npy(np.zeros(3, "u2")),
            "wrong_shape: codes of one picture have the shape (h, w), those of several one axis "
            "before these; got an array of 1 axes",
        ),
    ],
    ids=range(11),
)
def test_npy_files_that_lie(body: bytes, message: str) -> None:
    assert refused({"content-type": NPY}, body) == message


def tensors_head(text: str, data: bytes = b"") -> bytes:
    return len(text).to_bytes(8, "little") + text.encode() + data


def tensor(**changes: Any) -> str:
    one = {"dtype": "U16", "shape": [1, 2], "data_offsets": [0, 4], **changes}
    return json.dumps({"codes": one})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            b"\xff" * 8,
            "bad_safetensors: the body is no safetensors file, or its header takes more than "
            "1048576 bytes",
        ),
        (
            b"abcdefg",
            "bad_safetensors: the body is no safetensors file, or its header takes more than "
            "1048576 bytes",
        ),
        (
            tensors_head("{}"),
            "missing_part: the safetensors file needs a tensor called codes or "
            "latents; got none. Known: codes, latents.",
        ),
        (
            safetensors.numpy.save({"code": np.zeros((1, 2), "u2")}),
            "missing_part: the safetensors file needs a tensor called codes or latents; got "
            "'code'. Did you mean 'codes'? Known: codes, latents.",
        ),
        (
            safetensors.numpy.save(
                {"codes.0": np.zeros((1, 2), "u2"), "codes.2": np.ones(2, "u2")}
            ),
            "missing_part: there are 2 tensors called codes.N, but no codes.1; count from 0",
        ),
        (
            safetensors.numpy.save({"codes": np.zeros((1, 2), bool)}),
            "bad_safetensors: the tensor 'codes' is BOOL; U8, U16, U32, U64, I16, I32, I64, F16, "
            "F32, F64, BF16 are taken",
        ),
        (
            safetensors.numpy.save({"codes": np.zeros((3, 1, 2), "u2"), "sizes": np.zeros((2, 2))}),
            "wrong_shape: the tensor 'sizes' is whole numbers (3, 2), heights and widths, or "
            "(3, 3), of clips the frames before them; got float64 (2, 2)",
        ),
        (
            safetensors.numpy.save(
                {"codes": np.zeros((3, 1, 2), "u2"), "latents": np.zeros((2, 4, 1, 2), "f4")}
            ),
            "wrong_shape: codes and latents are of different numbers of pictures: {2, 3}",
        ),
        (
            safetensors.numpy.save({"codes": np.zeros((1, 2), "u2")}, {"scales": "1x1x1"}),
            "bad_header: scales is heights and widths, such as 1x1,2x2; got '1x1x1'",
        ),
        (
            safetensors.numpy.save({"codes": np.zeros((1, 2), "u2")}, {"scales": "1x1;1x1;1x1"}),
            "bad_header: scales is given for 3 pictures of 1",
        ),
        (
            safetensors.numpy.save({"codes": np.zeros((1, 2), "u2")}, {"depth": "-1"}),
            "bad_safetensors: depth is a whole number; got '-1'",
        ),
        (
            safetensors.numpy.save({"codes": np.zeros((1, 2), "u2")}, {"errors": "[[9]]"}),
            "bad_safetensors: errors is JSON: a list of [index, status, code, message]; got "
            "'[[9]]'",
        ),
    ],
    ids=range(12),
)
def test_safetensors_that_lie(body: bytes, message: str) -> None:
    assert refused({"content-type": SAFETENSORS}, body) == message


@pytest.mark.parametrize(
    "body",
    [
        tensors_head(tensor(), b"\0" * 3),
        tensors_head(tensor(), b"\0" * 5),
        tensors_head(tensor(shape=[10**30, 1]), b"\0" * 4),
        tensors_head(tensor(shape=[2**40, 2**40]), b"\0" * 4),
        tensors_head(tensor(shape=[-1, -2]), b"\0" * 4),
        tensors_head(tensor(data_offsets=[4, 0]), b"\0" * 4),
        tensors_head(tensor(data_offsets=[0, 2**63]), b"\0" * 4),
        tensors_head(tensor(dtype="X")),
        tensors_head("[" * 2000),
        tensors_head(
            '{"codes":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},'
            '"latents":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}',
            b"\0" * 3,
        ),
    ],
    ids=range(10),
)
def test_safetensors_whose_numbers_do_not_add_up(body: bytes) -> None:
    assert refused({"content-type": SAFETENSORS}, body).startswith(
        "bad_safetensors: the body is no safetensors file: "
    )


def raw(shape: str = "1,2", dtype: str = "uint16", **more: str) -> dict[str, str]:
    named = {f"x-vqtok-{name}": value for name, value in more.items()}
    return {"content-type": RAW, "x-vqtok-shape": shape, "x-vqtok-dtype": dtype, **named}


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        (
            {"content-type": RAW},
            "missing_header: raw numbers do not tell their shape: add the header x-vqtok-shape",
        ),
        (
            {"content-type": RAW, "x-vqtok-shape": "1,3"},
            "truncated: uint16 numbers of the shape 1,3 take 6 bytes; got 4",
        ),
        *(
            (
                raw(shape),
                "bad_header: x-vqtok-shape is whole numbers from 1 on with commas between, such "
                f"as 256,256,3; got {shape!r}",
            )
            for shape in ("-1,2", "0,2", "1e3,2", "1" + "0" * 30, "1,2,", "", "١,2", "1," * 8 + "1")
        ),
        (
            raw("9999999999,9999999999"),
            "truncated: uint16 numbers of the shape 9999999999,9999999999 take "
            "199999999960000000002 bytes; got 4",
        ),
        (raw("1,1"), "wrong_shape: uint16 numbers of the shape 1,1 take 2 bytes; got 4"),
        (
            raw(dtype="object"),
            "bad_header: x-vqtok-dtype is one of uint8, uint16, uint32, uint64, int16, int32, "
            "int64, float16, float32, float64; got 'object'",
        ),
        (
            raw(sizes="1x2,3x4"),
            "bad_header: x-vqtok-sizes is one size, or one for each picture; got 2 for 1",
        ),
        (
            raw(sizes="256"),
            "bad_header: x-vqtok-sizes is heights and widths with commas between, such as "
            "256x256,192x256, of clips the frames before them; got '256'",
        ),
        (
            raw(scales="1x1x1"),
            "bad_header: x-vqtok-scales is heights and widths, such as 1x1,2x2; got '1x1x1'",
        ),
        (
            raw(status="200,banana"),
            "bad_header: x-vqtok-status is a status for each picture; got '200,banana'",
        ),
        (
            raw(status="200,200"),
            "bad_header: x-vqtok-status names 2 good pictures, and the body holds 1",
        ),
        (
            raw(**{"codebook-size": "K"}),
            "bad_header: x-vqtok-codebook-size is a whole number; got 'K'",
        ),
        (
            raw(fingerprint="vqtok-fp/2;x"),
            "bad_header: a fingerprint is written vqtok-fp/1;preprocess=<sha256>;encoder=<sha256>;"
            "codebook=<sha256>;decoder=<sha256>; got 'vqtok-fp/2;x'",
        ),
    ],
    ids=range(20),
)
def test_headers_that_lie(headers: dict[str, str], message: str) -> None:
    assert refused(headers, bytes(4)) == message


# --- anything at all -----------------------------------------------------------------------------

HEADERS = st.fixed_dictionaries(
    {"content-type": st.sampled_from(sorted({*ACCEPTED, "multipart/form-data; boundary=b"}))},
    optional={
        "x-vqtok-shape": st.one_of(
            st.sampled_from(["1,2", "1,1,3", "2,1,1,3"]), st.text(max_size=9)
        ),
        "x-vqtok-dtype": st.one_of(st.sampled_from(["uint8", "uint16"]), st.text(max_size=9)),
        "x-vqtok-sizes": st.text("0123x,", max_size=9),
        "x-vqtok-scales": st.text("0123x,", max_size=9),
        "x-vqtok-status": st.text("0245,", max_size=9),
    },
)
NESTED = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["codes", "latents", "pictures", "image", "images", "frames", "error"]),
            inner,
        ),
    ),
    max_leaves=12,
)
VALID = (
    npy([[1, 2]]),
    npy(np.zeros((2, 1, 1, 3), "u1")),
    safetensors.numpy.save({"codes": np.zeros((1, 2), "u2")}, {"depth": "0"}),
    safetensors.numpy.save({"pixels": np.zeros((2, 2, 3), "u1")}),
    b'--b\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n\r\nGIF8\r\n--b--\r\n',
    b'{"codes": [[0, 1]], "size": [2, 2]}',
    b'{"images": ["R0lGODlh"]}',
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    body = bytearray(draw(st.sampled_from(VALID)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(body)))
        body[at : at + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
    return bytes(body)


BODIES = st.one_of(
    st.binary(max_size=60), mutated(), NESTED.map(lambda value: json.dumps(value).encode())
)


@settings(max_examples=400, deadline=None)
@given(HEADERS, BODIES, st.booleans())
def test_any_body_is_read_or_refused(headers: dict[str, str], body: bytes, video: bool) -> None:
    space = Space(16, 3 if video else 2, video=video, latent_channels=4)
    for read in (
        lambda: read_tokens(headers, body, space, LIMITS),
        lambda: read_pictures(headers, body, LIMITS, video=video),
        lambda: read_pixels(headers, body),
    ):
        try:
            read()
        except WireError as error:
            assert error.status in range(400, 500)
            assert len(str(error)) < 1000


@settings(max_examples=100, deadline=None)
@given(HEADERS, BODIES, st.lists(st.integers(1, 9), max_size=6))
def test_how_a_body_is_cut_into_chunks_changes_nothing(
    headers: dict[str, str], body: bytes, cuts: list[int]
) -> None:
    def outcome(sizes: list[int]) -> Any:
        try:
            reader = picture_reader(headers, LIMITS)
            found, at = [], 0
            for size in sizes:
                found += reader.feed(body[at : at + size])
                at += size
            found += reader.feed(memoryview(body)[at:])
            return [(name, clip, _plain(data)) for data, name, clip in [*found, *reader.end()]]
        except WireError as error:
            return error.code

    assert outcome(cuts) == outcome([])


def _plain(data: Any) -> Any:
    return data.tolist() if isinstance(data, np.ndarray) else data


def test_claims_take_no_memory() -> None:
    bodies = [
        ({"content-type": NPY}, npy_head(HUGE)),
        ({"content-type": SAFETENSORS}, tensors_head(tensor(shape=[2**20, 2**20]))),
        (raw("9999999999,99"), b""),
    ]
    tracemalloc.start()
    for headers, body in bodies:
        refused(headers, body or b"x")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4_000_000
