from __future__ import annotations

import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import token_rows
from hypothesis import given
from hypothesis import strategies as st
from offline.jobs import pictures, smooth
from source_files import png, write

from vqtok.errors import ConfigError, InputError, LoadError, UnknownNameError
from vqtok.offline.plan import (
    LARGE,
    SHARD_BYTES,
    SMALL,
    ClipPlan,
    Options,
    Plan,
    default_shard_size,
    differences,
    label_of,
    listing_of,
    make_plan,
)
from vqtok.sources import Sample, open_source


class Listed:
    """A source of labels."""

    is_video = False

    def __init__(self, *labels: Any) -> None:
        self.labels = labels
        self.keys = [str(number) for number in range(len(labels))]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Sample:
        label = self.labels[index]
        if isinstance(label, Exception):
            raise label
        return Sample(self.keys[index], smooth(index), {} if label is None else {"label": label})


def test_a_plan_says_what_will_be_made(tmp_path: Path) -> None:
    source = open_source(pictures(tmp_path, 7))
    tok = tiny.tokenizer()
    wishes = Options("tiny", views=["center", "tencrop"], batch=4, shard_size=3, seed=5)
    plan = make_plan(source, tok, wishes)
    assert plan.source.model_dump() == {
        "kind": "folder",
        "samples": 7,
        "listing": listing_of([f"{number:02d}.png" for number in range(7)]),
        "clips": None,
    }
    assert plan.tokenizer.fingerprint == tok.fingerprint.to_dict()
    assert plan.tokenizer.model_dump(exclude={"fingerprint"}) == {
        "name": "tiny",
        "precision": "ieee32",
        "codebook_size": 64,
        "depth": 0,
        "is_video": False,
        "latent_channels": 4,
    }
    assert plan.view_names == ("center", *(f"tencrop-{number}" for number in range(10)))
    assert (plan.shards, plan.batch, plan.dtype, plan.label) == (3, 4, "uint16", "none")
    assert [plan.range(shard) for shard in range(3)] == [range(3), range(3, 6), range(6, 7)]
    assert [plan.planned(shard) for shard in range(3)] == [33, 33, 11]


def test_its_bytes_are_canonical_and_come_back() -> None:
    plan = token_rows.plan(["a", "ü"], buckets=((16, 16), (12, 20)))
    data = plan.to_bytes()
    assert Plan.from_bytes(data) == plan and Plan.from_bytes(data).to_bytes() == data
    assert json.loads(data)["schema"] == "vqtok-tokens/1"
    assert plan.hash == sha256(data).hexdigest()
    assert plan.hash != plan.model_copy(update={"seed": 1}).hash


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "other/1"}, "schema: Input should be 'vqtok-tokens/1'"),
        ({"seed": "1"}, "seed: Input should be a valid integer"),
        ({"more": 1}, "more: Extra inputs are not permitted"),
        (
            {"shards": 4},
            "it: Value error, 3 samples in shards of 3 are not 4 shards",
        ),
    ],
)
def test_what_is_no_plan(change: dict[str, Any], message: str) -> None:
    stored = {**json.loads(token_rows.plan().to_bytes()), **change}
    with pytest.raises(LoadError) as error:
        Plan.from_bytes(json.dumps(stored).encode(), "out/plan.json")
    assert str(error.value) == (
        f"'out/plan.json' is not a plan of the schema vqtok-tokens/1: {message}"
    )


def test_a_shard_that_is_not_there() -> None:
    with pytest.raises(IndexError, match=r"^there are 1 shards; asked for number 1$"):
        token_rows.plan().range(1)


def test_keys_are_told_apart() -> None:
    assert listing_of(["ab", "c"]) == sha256(b"2 ab1 c").hexdigest()
    assert len({listing_of(keys) for keys in (["ab", "c"], ["a", "bc"], ["abc"], ["ab1 c"])}) == 4
    listing_of(["\udcff"])  # a name that is no UTF-8


@given(st.integers(1, 10**9), st.integers(1, 512), st.integers(1, 10**9))
def test_laws_of_the_usual_shard(samples: int, batch: int, bytes_each: int) -> None:
    size = default_shard_size(samples, batch, bytes_each)
    assert size % batch == 0 and size <= max(LARGE, batch)
    assert size == batch or size * bytes_each <= SHARD_BYTES
    if bytes_each * LARGE <= SHARD_BYTES:
        assert size > SMALL - batch


def test_usual_shards_are_small_where_rows_are_large(tmp_path: Path) -> None:
    source, tok = open_source(pictures(tmp_path / "in", 2)), tiny.tokenizer()
    # 4 x 4 codes of 2 bytes, and 4 channels of latents; those of open sizes as if of 1024 x 1024.
    own = tok.with_preprocess(policy="native", size=None)
    for one, options, row in (
        (tok, {}, 32),
        (tok, {"what": "both", "views": ["center", "hflip"]}, 2 * (32 + 128)),
        (own, {"what": "latents"}, 256 * 256 * 4 * 2),
    ):
        asked: list[int] = []

        def size(samples: int, batch: int, bytes_each: int, asked: list[int] = asked) -> int:
            asked[:] = [batch, bytes_each]
            return 256

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("vqtok.offline.plan.default_shard_size", size)
            make_plan(source, one, Options("tiny", **options))
        assert asked == [1 if one is own else 32, row]


def test_a_changed_plan_has_another_hash() -> None:
    one = token_rows.plan()
    before = one.hash
    other = one.model_copy(update={"seed": one.seed + 1})
    assert other.hash != before and one.model_copy().hash == before == one.hash


def test_latents_differ_only_where_there_are_some(tmp_path: Path) -> None:
    source, tok = open_source(pictures(tmp_path, 3)), tiny.tokenizer()

    def both(what: Any) -> tuple[Plan, Plan]:
        plan = make_plan(source, tok, Options("tiny", what=what))
        less = plan.tokenizer.model_copy(update={"latent_channels": None})
        return plan, plan.model_copy(update={"tokenizer": less})

    assert differences(*both("codes")) == []
    assert differences(*both("both")) == ["tokenizer.latent_channels: planned 4, now nothing"]


def test_differences_name_what_differs() -> None:
    one = token_rows.plan()
    prints = {**token_rows.PRINTS, "codebook": "9" * 64, "decoder": "8" * 64}
    other = token_rows.plan(
        tokenizer={"name": "another name", "fingerprint": prints},
        preprocess={"policy": "center", "size": 32, "stride": 4},
        views=("center", "hflip"),
    )
    assert differences(one, one) == []
    assert differences(one, other) == [
        "preprocess.size: planned 16, now 32",
        "tokenizer.fingerprint.codebook: planned 3333333333333333, now 9999999999999999",
        'views: planned ["center"], now ["center", "hflip"]',
    ]


def test_clips_that_are_there_or_not_differ() -> None:
    one = token_rows.plan()
    source = one.source.model_copy(update={"clips": ClipPlan(frames=4)})
    assert differences(one, one.model_copy(update={"source": source})) == [
        "source.clips.frames: planned nothing, now 4",
        "source.clips.stride: planned nothing, now 1",
    ]


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        ((1, 2), "int"),
        (("a", None), "text"),
        ((None, LoadError("it is broken"), 3), "int"),
        ((None, None), "none"),
        ((1.5, True), "none"),
    ],
)
def test_kinds_of_labels(labels: tuple[Any, ...], kind: str) -> None:
    assert label_of(Listed(*labels)) == kind


def test_labels_of_two_kinds_are_refused() -> None:
    with pytest.raises(InputError) as error:
        label_of(Listed(1, "a"))
    assert str(error.value) == (
        "labels are whole numbers or text, not both: '0' has a number, '1' has text"
    )


def test_labels_that_follow_a_pattern() -> None:
    with pytest.raises(InputError) as error:
        label_of(Listed(*(7 if number % 2 else "cat" for number in range(640))))
    numbers = (int(number) for number in re.findall(r"'(\d+)' has", str(error.value)))
    assert [number % 2 for number in numbers] == [1, 0]
    odd = [None] * 640
    assert label_of(Listed(*odd, 3)) == label_of(Listed(3, *odd)) == "int"


def test_the_same_samples_are_looked_at_everywhere() -> None:
    class Counted(Listed):
        def __getitem__(self, index: int) -> Sample:
            self.seen = [*getattr(self, "seen", []), index]
            return super().__getitem__(index)

    one, other = Counted(*[1] * 5000), Counted(*[2] * 5000)
    assert label_of(one) == label_of(other, listing_of(one.keys)) == "int"
    assert one.seen == other.seen == sorted(set(one.seen))
    assert (one.seen[0], one.seen[-1]) == (0, 4999) and 30 <= len(one.seen) <= 34
    assert len({index % 8 for index in one.seen}) == 8


def test_large_codebooks_take_four_bytes(tmp_path: Path) -> None:
    source = open_source(pictures(tmp_path, 1))
    for levels, dtype in ((16, "uint16"), (17, "uint32")):
        tok = tiny.tokenizer(
            quantizer="fsq",
            quantizer_args={"levels": [levels, 16, 16, 16]},
            num_vq_embeddings=levels * 16**3,
        )
        assert make_plan(source, tok, Options("tiny")).dtype == dtype


@pytest.mark.parametrize(
    ("wishes", "kind", "message"),
    [
        ({"batch": 0}, ConfigError, "batch is a whole number, at least 1; got 0"),
        ({"shard_size": -1}, ConfigError, "shard_size is a whole number, at least 1; got -1"),
        (
            {"quantized": True},
            ConfigError,
            "quantized=True is about latents; with what='codes' there are none",
        ),
        (
            {"clips": ClipPlan(frames=4)},
            InputError,
            "the source holds pictures; only videos are cut into clips",
        ),
        (
            {"format": "npz"},
            UnknownNameError,
            "there is no format called 'npz'. Did you mean 'npy'? Known: bin, npy, parquet, "
            "webdataset.",
        ),
    ],
)
def test_wishes_that_cannot_be(
    tmp_path: Path, wishes: dict[str, Any], kind: type[Exception], message: str
) -> None:
    source = open_source(pictures(tmp_path, 1))
    with pytest.raises(kind) as error:
        make_plan(source, tiny.tokenizer(), Options("tiny", **wishes))
    assert str(error.value) == message


def test_clips_are_for_tokenizers_of_clips() -> None:
    source = Listed(1)
    source.is_video = True
    with pytest.raises(InputError) as error:
        make_plan(source, tiny.tokenizer(), Options("tiny"))
    assert str(error.value) == "the source holds clips, and this tokenizer takes pictures"


def test_equal_plans_on_any_machine(tmp_path: Path) -> None:
    one, other = pictures(tmp_path / "one", 3), tmp_path / "other"
    for name in ("02.png", "00.png", "01.png"):
        write(other / name, png(np.zeros((20, 24, 3), np.uint8)))
    plans = [make_plan(open_source(root), tiny.tokenizer(), Options("t")) for root in (one, other)]
    assert plans[0].hash == plans[1].hash
