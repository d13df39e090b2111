"""Codes check themselves and behave as a sequence of pictures; fingerprints compare by part."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest

from vqtok.errors import CodesError, ConfigError, LoadError
from vqtok.traits import Traits
from vqtok.types import Codec, Codes, Encoder, Fingerprint, axes_text, code_dtype
from vqtok.verdicts import ProbeResult

PRINT = Fingerprint("a" * 64, "b" * 64, "c" * 64, "0123456789abcdef" * 4)


def codes(*shape: int, **more: Any) -> Codes:
    """Three pictures' codes 0, 1, 2, …"""
    shape = shape or (3, 2, 4)
    ids = np.arange(np.prod(shape)).reshape(shape)
    sizes = np.array([[16, 32]] * shape[0], np.int32).reshape(-1, 2)
    return Codes(**{"ids": ids, "sizes": sizes, "codebook_size": 64, **more})


# --- Codes --------------------------------------------------------------------------------------


def test_the_grid() -> None:
    assert codes().grid == (2, 4)
    assert codes(3, 2, 2, 4).grid == (2, 2, 4)
    assert codes(3, 2, 4, depth=4).grid == (2,)
    assert codes(3, 5).grid == (5,)


def test_a_sequence_of_pictures() -> None:
    batch = codes(codebook="ab")
    assert len(batch) == 3
    assert [len(one) for one in batch] == [1, 1, 1]
    assert batch[1].ids.tolist() == batch.ids[1:2].tolist()
    assert batch[-1] == batch[2] == list(batch)[2]
    assert batch[1:] == replace(batch, ids=batch.ids[1:], sizes=batch.sizes[1:])
    assert batch[np.int64(0)] == batch[0]
    assert (batch[0].codebook, batch[0].codebook_size) == ("ab", 64)
    assert len(codes(0, 2, 4)) == 0
    assert list(codes(0, 2, 4)) == []


@pytest.mark.parametrize("index", [3, -4])
def test_a_picture_that_is_not_there(index: int) -> None:
    with pytest.raises(IndexError) as error:
        codes()[index]
    assert str(error.value) == f"there are 3 pictures in these codes; asked for {index}"


def test_equality() -> None:
    assert codes() == codes()
    assert codes() == replace(codes(), ids=codes().ids.astype(np.uint16))
    assert codes() != replace(codes(), ids=codes().ids + 1)
    assert codes() != replace(codes(), sizes=codes().sizes + 1)
    assert codes() != replace(codes(), codebook_size=65)
    assert codes() != replace(codes(), codebook="x")
    assert codes(3, 2, 4) != codes(3, 2, 4, depth=4)
    assert codes() != codes().ids.tolist()
    with pytest.raises(TypeError):
        hash(codes())
    with pytest.raises(FrozenInstanceError):
        codes().depth = 2  # type: ignore[misc]


@pytest.mark.parametrize(("size", "dtype"), [(64, "<u2"), (65_536, "<u2"), (65_537, "<u4")])
def test_bytes_are_as_wide_as_the_codebook_needs(size: int, dtype: str) -> None:
    ids = np.array([[0, 1], [size - 1, 2]])
    batch = Codes(ids, np.ones((2, 2), np.int32), size)
    assert np.frombuffer(bytes(batch), dtype).reshape(2, 2).tolist() == ids.tolist()
    turned = replace(batch, ids=np.asfortranarray(ids).astype(">i8"))
    assert bytes(turned) == bytes(batch)


def test_more_codes_than_32_bits_name() -> None:
    message = (
        "ids are kept as numbers of 32 bits, which name 4,294,967,296 codes; this codebook has "
        "4,294,967,297"
    )
    assert code_dtype(1 << 32) == np.dtype("<u4")
    wide = Codes(np.array([[1 << 32]]), np.ones((1, 2), np.int32), (1 << 32) + 1)
    for made in (lambda: code_dtype((1 << 32) + 1), lambda: bytes(wide)):
        with pytest.raises(ConfigError) as error:
            made()
        assert str(error.value) == message


@pytest.mark.parametrize(
    ("axes", "depth", "text"),
    [(1, 0, "(L,)"), (1, 4, "(L, 4)"), (2, 0, "(h, w)"), (3, "Q", "(t, h, w, Q)")],
)
def test_shapes_of_grids_as_messages_have_them(axes: int, depth: int | str, text: str) -> None:
    assert axes_text(axes, depth) == text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": np.zeros((3, 2, 4))}, "codes are whole numbers; got an array of float64"),
        ({"ids": np.zeros((3, 2, 4), bool)}, "codes are whole numbers; got an array of bool"),
        (
            {"codebook_size": 20},
            "codes of this tokenizer lie in [0, 20); got some from 0 to 23",
        ),
        (
            {"ids": np.full((3, 2, 4), 70) + np.arange(4)},
            "codes of this tokenizer lie in [0, 64); got some from 70 to 73",
        ),
        (
            {"ids": np.full((3, 2, 4), -1)},
            "codes of this tokenizer lie in [0, 64); got some from -1 to -1",
        ),
        ({"ids": np.zeros(3, int)}, "codes have the shape (N, *grid); got (3,)"),
        (
            {"ids": np.zeros((3, 4), int), "depth": 4},
            "codes have the shape (N, *grid, Q); got (3, 4)",
        ),
        (
            {"sizes": np.zeros((2, 2), np.int32)},
            "sizes has the shape (N, 2), or (N, 3) for clips, here N = 3; got (2, 2)",
        ),
        (
            {"sizes": [[1, 2]]},
            "sizes are a numpy array of whole numbers; got list",
        ),
        (
            {"sizes": np.zeros((3, 2))},
            "sizes are a numpy array of whole numbers; got float64",
        ),
        (
            {"sizes": np.full((3, 2), -1)},
            "sizes are pixels, at least 0; got -1",
        ),
        (
            {"scales": (1, 2)},
            "scales are the height and width of each grid, all at least 1, of codes with one a "
            "token; got (1, 2) and depth=0",
        ),
        (
            {"scales": ((1, 1), (-2, 4))},
            "scales are the height and width of each grid, all at least 1, of codes with one a "
            "token; got ((1, 1), (-2, 4)) and depth=0",
        ),
        (
            {"depth": 3},
            "depth=3, but the last axis of the codes, whose shape is (3, 2, 4), is not that long",
        ),
    ],
)
def test_codes_that_cannot_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CodesError) as error:
        codes(**change)
    assert str(error.value) == message


# --- Fingerprint ---------------------------------------------------------------------------------


def test_same_ids_leaves_the_decoder_out() -> None:
    other = "f" * 64
    assert PRINT.same_ids(PRINT)
    assert PRINT.same_ids(replace(PRINT, decoder=other))
    for part in ("preprocess", "encoder", "codebook"):
        assert not PRINT.same_ids(replace(PRINT, **{part: other}))


def test_there_and_back() -> None:
    stored = json.loads(json.dumps(PRINT.to_dict()))
    assert stored["schema"] == "vqtok-fp/1"
    assert Fingerprint.from_dict(stored) == PRINT
    assert hash(Fingerprint.from_dict(stored)) == hash(PRINT)
    assert str(PRINT) == "vqtok-fp/1:aaaaaaaa-bbbbbbbb-cccccccc-01234567"


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "vqtok-fp/2"},
        {"schema": None},
        {"encoder": "b" * 63},
        {"encoder": "B" * 64},
        {"encoder": "b" * 64 + "\n"},
        {"encoder": 5},
        {"encoder": None},
    ],
)
def test_a_stored_print_that_is_none(change: dict[str, object]) -> None:
    stored = {**PRINT.to_dict(), **change}
    with pytest.raises(LoadError) as error:
        Fingerprint.from_dict(stored)
    assert str(error.value) == (
        "a fingerprint of the schema vqtok-fp/1 has the sha256 of preprocess, encoder, codebook, "
        f"decoder; got {stored}"
    )


# --- the protocols, and what an import costs -----------------------------------------------------


def test_protocols_tell_an_encoder_from_a_codec() -> None:
    class Half:
        fingerprint = PRINT
        precision = "ieee32"

        def encode(self, pixels: Any) -> Codes:
            return codes()

    class Whole(Half):
        traits = Traits(codebook_size=4, depth=0, axes=2, stride=(4, 4))
        device = runs_on = "nowhere"

        def decode(self, codes: Codes) -> Any:
            return None

        def verify(self) -> ProbeResult:
            return ProbeResult("unchecked")

    assert isinstance(Half(), Encoder)
    assert not isinstance(Half(), Codec)
    assert isinstance(Whole(), Codec)


def test_importing_the_types_brings_no_torch() -> None:
    check = "import sys, vqtok.types, vqtok.precision; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_scales_may_come_as_lists() -> None:
    ids = np.zeros((2, 5), int)
    batch = Codes(ids, np.zeros((2, 2), int), 8, scales=[[1, 1], [2, 2]])  # type: ignore[arg-type]
    assert batch.scales == ((1, 1), (2, 2)) and batch.grid == (5,)
    assert batch != Codes(ids, np.zeros((2, 2), int), 8)
    assert batch[0].scales == batch.scales


def test_codes_are_shown_short() -> None:
    ids = np.arange(30).reshape(5, 2, 3) % 8
    sizes = np.array([[16, 24]] * 5, np.int32)
    assert repr(Codes(ids, sizes, 8, "0123456789abcdef")) == (
        "Codes(ids=int64[5, 2, 3], sizes=16x24, codebook_size=8, codebook=01234567)"
    )
    sizes[:, 1] += np.arange(5, dtype=np.int32)
    deep = Codes(ids.astype(np.uint16), sizes, 8, depth=3)
    assert repr(deep) == (
        "Codes(ids=uint16[5, 2, 3], sizes=16x24 16x25 16x26 and 2 more, codebook_size=8, "
        "codebook=not known, depth=3)"
    )
    flat = Codes(ids[:1, 0], np.zeros((1, 2), np.int32), 8, scales=((1, 1), (1, 2)))
    assert repr(flat) == (
        "Codes(ids=int64[1, 3], sizes=0x0, codebook_size=8, codebook=not known, scales=1x1 1x2)"
    )
    assert repr(flat[:0]) == (
        "Codes(ids=int64[0, 3], codebook_size=8, codebook=not known, scales=1x1 1x2)"
    )
