"""Records, what they count, and their bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqtok.errors import LoadError
from vqtok.offline.moments import Moments
from vqtok.offline.records import (
    MOST_LABELS,
    Failure,
    Record,
    count_labels,
    describe,
    pack_histogram,
    stem,
    unpack_histogram,
    unstem,
)


def record(**changes: object) -> Record:
    settings = {
        "shard": 3,
        "attempt": 1,
        "plan": "0" * 64,
        "planned": 3,
        "rows": 1,
        "failed": [Failure(key="ü.v1", index=9, rows=2, stage="read", reason="it is not there")],
        "files": describe({"00003_1.b": b"b", "00003_1.a": b"a"}),
        "codes_sha256": "1" * 64,
        "histogram": pack_histogram([0, 3]),
        "labels": {"7": 1},
        "moments": Moments(count=1, mean=[0.1], m2=[1e-300]),
    }
    return Record(**{**settings, **changes})


def test_a_record_comes_back() -> None:
    one = record()
    assert Record.from_bytes(one.to_bytes(), "x") == one
    assert one.name == "done/00003_1.json"
    assert one.lost == 2
    assert [file.name for file in one.files] == ["00003_1.a", "00003_1.b"]


def test_equal_records_are_equal_bytes() -> None:
    assert record(labels={"a": 1, "b": 2}).to_bytes() == record(labels={"b": 2, "a": 1}).to_bytes()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "'x' is no record: Invalid JSON: EOF while parsing an object at line 1 column 1"),
        (b"{}", "'x' is no record: shard: Field required"),
        (
            record().to_bytes().replace(b'"rows": 1', b'"rows": "1"'),
            "'x' is no record: rows: Input should be a valid integer",
        ),
        (
            record().to_bytes().replace(b'"shard"', b'"host": "a", "shard"'),
            "'x' is no record: host: Extra inputs are not permitted",
        ),
    ],
)
def test_what_is_no_record(data: bytes, message: str) -> None:
    with pytest.raises(LoadError) as error:
        Record.from_bytes(data, "x")
    assert str(error.value) == message


def test_a_file_name_that_is_no_unicode_can_be_told() -> None:
    failure = Failure(key="a\udcff", index=0, rows=1, stage="read", reason="'a\udcff' is bad")
    assert (failure.key, failure.reason) == ("a\\udcff", "'a\\udcff' is bad")


def test_names_of_shards() -> None:
    assert (stem(7), stem(7, 2), stem(123456)) == ("00007", "00007_2", "123456")
    for shard, attempt in [(0, 0), (7, 2), (123456, 12)]:
        assert unstem(stem(shard, attempt) + ".codes.npy") == (shard, attempt)
        assert unstem(stem(shard, attempt) + "-0123456789ab.npy") == (shard, attempt)
    with pytest.raises(LoadError) as error:
        unstem("README.md")
    assert str(error.value) == "'README.md' does not begin with a shard's number"


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50))
def test_histograms_come_back(counts: list[int]) -> None:
    packed = pack_histogram(counts)
    assert packed is not None
    assert unpack_histogram(packed).tolist() == counts


def test_labels_are_counted() -> None:
    assert count_labels([3, "a", None, 3]) == {"3": 2, "a": 1}
    many = count_labels([*range(MOST_LABELS + 5), 0])
    assert len(many) == MOST_LABELS
    assert many["0"] == 2


# --- moments --------------------------------------------------------------------------------------


def latents(seed: int, count: int = 5) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.normal(3, 2, (4, 3, 3 + n)).astype(np.float16) for n in range(count)]


def flat(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([each.reshape(4, -1) for each in arrays], 1).astype(np.float64)


def test_moments_are_those_of_numpy() -> None:
    arrays = latents(0)
    found, values = Moments.of(arrays, 4), flat(arrays)
    assert found.count == values.shape[1]
    np.testing.assert_allclose(found.mean, values.mean(1), rtol=1e-13)
    np.testing.assert_allclose(found.m2, values.var(1) * values.shape[1], rtol=1e-12)


def test_moments_do_not_depend_on_the_order_of_rows() -> None:
    assert Moments.of(latents(0), 4) == Moments.of(latents(0)[::-1], 4)


def test_merged_moments_are_those_of_all() -> None:
    parts = [latents(seed, seed + 1) for seed in range(4)]
    merged = Moments.of_all([Moments.of([], 4), *(Moments.of(part, 4) for part in parts)])
    values = flat([each for part in parts for each in part])
    assert merged is not None
    spread = merged.spread()
    assert spread is not None
    np.testing.assert_allclose(spread.mean, values.mean(1), rtol=1e-13)
    np.testing.assert_allclose(spread.std, values.std(1), rtol=1e-13)
    assert spread.scaling is not None
    np.testing.assert_allclose([spread.shift, spread.scaling], [values.mean(), 1 / values.std()])


def test_moments_of_nothing() -> None:
    nothing = Moments.of([], 2)
    assert nothing == Moments(count=0, mean=[0.0, 0.0], m2=[0.0, 0.0])
    assert nothing.spread() is None
    assert Moments.of_all([]) is None


def test_values_without_spread_have_no_scaling() -> None:
    spread = Moments.of([np.full((2, 3), 1.5, np.float16)], 2).spread()
    assert spread is not None
    assert (spread.shift, spread.scaling) == (1.5, None)
