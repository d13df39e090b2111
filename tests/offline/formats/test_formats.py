"""What holds for every format."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import token_rows
from token_rows import plan, row, rows, same

from vqtok.errors import ConfigError, InputError, LoadError
from vqtok.offline.formats import FORMATS
from vqtok.offline.plan import ClipPlan, Plan, SourcePlan
from vqtok.offline.rows import Row, Rows

pytest.importorskip("pyarrow")

KEYS = ("a", "b/c.d.jpg", "ein Bär/日本", "z" * 300, "x%2Fy", "x/y")


class Memory:
    """Files without a place on this machine, as in a bucket."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def local(self, name: str) -> Path | None:
        return None

    def open(self, name: str) -> IO[bytes]:
        return io.BytesIO(self.files[name])

    def get(self, name: str) -> bytes:
        return self.files[name]


class Disk(Memory):
    """Files in a folder."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root

    def local(self, name: str) -> Path | None:
        path = self.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(self.files[name])
        return path


@pytest.fixture(params=["memory", "disk"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Memory:
    return Memory() if request.param == "memory" else Disk(tmp_path)


@pytest.fixture(params=list(FORMATS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def read_back(store: Memory, made: Rows, of: Plan, stem: str = "00000") -> list[Row]:
    files = FORMATS[of.format].write(made, of, stem)
    assert all(name.startswith(stem) for name in files)
    store.files |= {f"shards/{name}": data for name, data in files.items()}
    reader = FORMATS[of.format].read(store, sorted(files), of)
    assert len(reader) == len(made)
    parts = [reader.rows(start, min(start + 2, len(made))) for start in range(0, len(made), 2)]
    assert reader.heads() == (made.keys, made.views)
    assert reader.blocks[0] == 0
    assert bool(len(made)) <= reader.nbytes < 1 << 20
    return list(Rows.concat(parts))


def check(store: Memory, made: Rows, of: Plan) -> None:
    found = read_back(store, made, of)
    assert len(found) == len(made)
    assert all(same(one, other) for one, other in zip(made, found, strict=True))


@pytest.mark.parametrize("what", ["codes", "latents", "both"])
def test_rows_come_back(store: Memory, name: str, what: str) -> None:
    of = plan(KEYS, format=name, what=what)
    check(store, rows(KEYS, of), of)


def test_a_retry_has_a_stem_of_its_own(store: Memory, name: str) -> None:
    of = plan(KEYS, format=name)
    found = read_back(store, rows(KEYS[1:2], of), of, "00000_1-0123456789ab")
    assert found[0].key == "b/c.d.jpg"


def test_all_that_a_row_may_hold_comes_back(store: Memory, name: str) -> None:
    of = plan(("a", "b"), format=name, label="text", views=("hflip",), view_names=("x.y", "x_y"))
    columns: dict[str, Any] = {"score": float("inf"), "raw": b"\0\xff", "list": [1, {"a": None}]}
    first = row("a", of, text="Füße", label="Bär", columns=columns)
    second = row("a", of, view="x_y", flip=True)
    check(store, Rows.of([first, second]), of)


@pytest.mark.parametrize("label", ["int", "text", "none"])
def test_some_rows_may_lack_label_and_text(store: Memory, name: str, label: Any) -> None:
    of = plan(KEYS, format=name, label=label)
    some = {"int": -(1 << 62), "text": "dog", "none": None}[label]
    made = [row("a", of, label=some, text=""), row("b", of, label=None), row("c", of, label=some)]
    check(store, Rows.of(made), of)


@pytest.mark.parametrize(
    ("grid", "tokenizer"),
    [
        ((3, 2, 5), {"is_video": True}),
        ((4, 4), {"depth": 3}),
        ((7,), {}),
    ],
)
def test_every_shape_of_codes_comes_back(
    store: Memory, name: str, grid: tuple[int, ...], tokenizer: dict[str, Any]
) -> None:
    clips = SourcePlan(kind="videos", samples=6, listing="", clips=ClipPlan(frames=4))
    of = plan(KEYS, tokenizer, format=name, source=clips, what="both")
    check(store, rows(KEYS, of, grid=grid), of)


def test_scales_come_back_and_latents_have_a_grid_of_their_own(store: Memory, name: str) -> None:
    of = plan(KEYS, format=name, what="both")
    latents = np.ones((4, 2, 2), np.float16)
    scales = ((1, 1), (2, 2))
    check(store, rows(KEYS, of, grid=(5,), size=(8, 8), scales=scales, latents=latents), of)


@pytest.mark.parametrize("what", ["codes", "both"])
def test_large_codes_take_four_bytes(store: Memory, name: str, what: str) -> None:
    of = plan(KEYS, {"codebook_size": 1 << 18}, format=name, dtype="uint32", what=what)
    made = rows(KEYS, of)
    assert made.codes is not None and max(int(codes.max()) for codes in made.codes) >= 1 << 16
    check(store, made, of)


def test_the_last_of_65536_codes_comes_back(store: Memory, name: str) -> None:
    of = plan(KEYS, {"codebook_size": 1 << 16}, format=name)
    codes = np.full((4, 4), 65535, np.uint16)
    check(store, rows(KEYS, of, codes=codes), of)


@pytest.mark.parametrize("what", ["codes", "latents", "both"])
def test_a_shard_may_have_no_rows(store: Memory, name: str, what: str) -> None:
    of = plan(KEYS, format=name, what=what)
    assert read_back(store, Rows.of([]), of) == []


@pytest.mark.parametrize("name", ["parquet", "webdataset", "bin"])
@pytest.mark.parametrize("what", ["codes", "both"])
def test_grids_may_differ(store: Memory, name: str, what: str) -> None:
    of = plan(KEYS, format=name, what=what, preprocess={"policy": "native"})
    FORMATS[name].check(of)
    grids = [(4, 4), (2, 6), (6, 2), (2, 2)]
    made = [row(key, of, grid=grid) for key, grid in zip(KEYS, grids, strict=False)]
    check(store, Rows.of(made), of)


def test_equal_rows_are_equal_bytes(name: str) -> None:
    of = plan(KEYS, format=name, what="both")
    once, again = (FORMATS[name].write(rows(KEYS, of), of, "00000") for _ in range(2))
    assert once == again
    listed = FORMATS[name].write(Rows.of(list(rows(KEYS, of))), of, "00000")
    assert listed == once


def test_no_time_user_or_host_stands_in_the_bytes(name: str, monkeypatch: Any) -> None:
    of = plan(KEYS, format=name)
    made = FORMATS[name].write(rows(KEYS, of), of, "00000")
    monkeypatch.setattr("time.time", lambda: 4e9)
    assert FORMATS[name].write(rows(KEYS, of), of, "00000") == made


def test_order_in_memory_does_not_change_the_bytes(name: str) -> None:
    of = plan(KEYS, format=name)
    made = rows(KEYS, of)
    assert isinstance(made.codes, np.ndarray)
    turned = np.asfortranarray(made.codes.astype(np.int64))
    other = Rows.of([one._replace(codes=codes) for one, codes in zip(made, turned, strict=True)])
    assert FORMATS[name].write(other, of, "0") == FORMATS[name].write(made, of, "0")


VIDEOS = SourcePlan(kind="clips", samples=3, listing="")
LISTED = SourcePlan(kind="lists", samples=3, listing="")
SCENES = SourcePlan(kind="clips", samples=3, listing="", clips=ClipPlan(frames=None))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"buckets": ((16, 32), (32, 16))}, "2 buckets"),
        ({"preprocess": {"policy": "native"}}, "the policy 'native'"),
        ({"preprocess": {"policy": "extend"}}, "the policy 'extend'"),
        ({"tokenizer": {"is_video": True}, "source": VIDEOS}, "whole videos"),
        ({"tokenizer": {"is_video": True}, "source": LISTED}, "whole videos"),
        ({"tokenizer": {"is_video": True}, "source": SCENES}, "whole scenes"),
    ],
)
def test_npy_refuses_plans_of_several_grids(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError) as error:
        FORMATS["npy"].check(plan(format="npy", **changes))
    assert str(error.value) == (
        f"the format 'npy' has one shape for all grids, and {why} give several; parquet, "
        "webdataset and bin hold several"
    )


ONE_GRID = [{}, {"buckets": ((16, 32),)}, {"tokenizer": {"is_video": True}}]


@pytest.mark.parametrize("changes", ONE_GRID)
def test_plans_of_one_grid_are_for_all_formats(name: str, changes: dict[str, Any]) -> None:
    FORMATS[name].check(plan(format=name, **changes))


def test_npy_refuses_grids_that_no_plan_told_of() -> None:
    of = plan(format="npy")
    made = Rows.of([row("a", of), row("b", of, grid=(2, 2))])
    with pytest.raises(InputError) as error:
        FORMATS["npy"].write(made, of, "00000")
    assert str(error.value) == (
        "the format 'npy' has one shape for all grids; got (2, 2), (4, 4). Parquet, webdataset "
        "and bin hold several"
    )


@pytest.mark.parametrize("name", ["parquet", "bin", "npy"])
def test_labels_of_another_kind_are_refused(name: str) -> None:
    of = plan(format=name)
    with pytest.raises(InputError, match=r"^labels of this plan are of the kind 'int': "):
        FORMATS[name].write(rows("a", of, label="dog"), of, "00000")


def test_a_record_that_names_no_such_file_is_refused(store: Memory) -> None:
    of = plan()
    with pytest.raises(LoadError) as error:
        FORMATS["parquet"].read(store, ["00000.tar"], of)
    assert str(error.value) == (
        "a shard of this format has one file that ends in '.parquet'; its record names 00000.tar"
    )


# --- what other programs rely on ------------------------------------------------------------------


def test_parquet_is_one_schema_whatever_the_rows() -> None:
    import pyarrow.parquet as pq

    of = plan(KEYS)
    full = rows(KEYS, of, text="x", columns={"a": 1})
    made = [FORMATS["parquet"].write(each, of, "0")["0.parquet"] for each in (full, Rows.of([]))]
    one, other = (pq.read_schema(io.BytesIO(data)) for data in made)
    assert one.equals(other, check_metadata=True)
    assert pq.ParquetFile(io.BytesIO(made[1])).metadata.num_row_groups == 0
    assert one.metadata == {
        b"vqtok": b"vqtok-tokens/1",
        b"plan": of.hash.encode(),
        b"dtype": b"uint16",
        b"codebook_size": b"64",
        b"depth": b"0",
    }
    assert [str(field.type) for field in one] == [
        *("string", "string", "list<element: int32>", "bool", "list<element: int32>"),
        *("list<element: int32>", "list<element: list<element: int32>>", "int64", "string"),
        *("string", "binary"),
    ]
    names = "key,view,box,flip,size,grid,scales,label,text,columns,codes"
    assert ",".join(one.names) == names


@pytest.mark.parametrize(("label", "kind"), [("int", "int64"), ("text", "string"), ("none", None)])
def test_the_label_column_follows_the_plan(label: Any, kind: str | None) -> None:
    import pyarrow.parquet as pq

    of = plan(KEYS, label=label)
    made = FORMATS["parquet"].write(Rows.of([]), of, "0")["0.parquet"]
    schema = pq.read_schema(io.BytesIO(made))
    assert (str(schema.field("label").type) if "label" in schema.names else None) == kind


def test_parquet_has_row_groups_of_a_megabyte() -> None:
    import pyarrow.parquet as pq

    keys = [str(number) for number in range(1200)]
    of = plan(keys, {"codebook_size": 1 << 14})
    made = FORMATS["parquet"].write(rows(keys, of, grid=(32, 32)), of, "0")["0.parquet"]
    meta = pq.ParquetFile(io.BytesIO(made)).metadata
    assert [meta.row_group(n).num_rows for n in range(meta.num_row_groups)] == [481, 481, 238]
    assert len(made) / len(keys) <= 1960


def test_a_row_of_14_bit_codes_takes_at_most_1960_bytes() -> None:
    keys = [f"n{number % 10:08d}/picture_{number:06d}.jpeg" for number in range(1000)]
    of = plan(keys, {"codebook_size": 1 << 14})
    made = FORMATS["parquet"].write(rows(keys, of, grid=(32, 32)), of, "0")["0.parquet"]
    assert len(made) / len(keys) <= 1960


def test_tar_members_are_as_webdataset_expects(tmp_path: Path) -> None:
    import tarfile

    of = plan(KEYS, format="webdataset")
    data = FORMATS["webdataset"].write(rows(KEYS, of, text="dog"), of, "0")["0.tar"]
    with tarfile.open(fileobj=io.BytesIO(data), format=tarfile.USTAR_FORMAT) as tar:
        members = tar.getmembers()
        names = [member.name for member in members]
        codes = tar.extractfile("b%2Fc%2Ed%2Ejpg.codes.npy")
        assert codes is not None
        assert np.array_equal(np.load(io.BytesIO(codes.read())), row(KEYS[1], of, 1).codes)
    assert {(member.mtime, member.uid, member.mode) for member in members} == {(0, 0, 0o644)}
    assert names[:4] == ["a.codes.npy", "a.json", "a.cls", "a.txt"]
    samples = [name.partition(".")[0] for name in names[::4]]
    whole = "z" * 300
    assert samples == [
        *("a", "b%2Fc%2Ed%2Ejpg", "ein%20B%C3%A4r%2F%E6%97%A5%E6%9C%AC"),
        f"{'z' * 55}~{hashlib.sha256(whole.encode()).hexdigest()[:32]}",
        *("x%252Fy", "x%2Fy"),
    ]


def test_tar_members_name_their_view_where_there_are_several() -> None:
    from vqtok.offline.formats.webdataset import sample_name

    assert sample_name("a@b", "tencrop.1") == "a%40b@tencrop%2E1"
    assert sample_name("a~b") == "a%7Eb"


def test_a_broken_tar_is_refused(store: Memory) -> None:
    of = plan(KEYS, format="webdataset")
    data = FORMATS["webdataset"].write(rows(KEYS, of), of, "0")["0.tar"]
    store.files["shards/0.tar"] = data[:-1024]
    with pytest.raises(LoadError) as error:
        FORMATS["webdataset"].read(store, ["0.tar"], of)
    assert str(error.value) == "'shards/0.tar' ends before its last block"
    store.files["shards/0.tar"] = b"x" * 1024
    with pytest.raises(LoadError) as error:
        FORMATS["webdataset"].read(store, ["0.tar"], of)
    assert str(error.value) == "'shards/0.tar' is no tar of this format at byte 0"


def test_bin_is_nothing_but_codes() -> None:
    of = plan(KEYS, format="bin")
    made = rows(KEYS, of)
    files = FORMATS["bin"].write(made, of, "0")
    assert isinstance(made.codes, np.ndarray)
    assert files["0.bin"] == made.codes.astype("<u2").tobytes()


def test_a_bin_that_was_cut_off_is_refused(store: Memory) -> None:
    of = plan(KEYS, format="bin")
    made = FORMATS["bin"].write(rows(KEYS, of), of, "0")
    store.files |= {f"shards/{name}": data for name, data in made.items()}
    store.files["shards/0.bin"] = made["0.bin"][:-2]
    reader = FORMATS["bin"].read(store, list(made), of)
    assert len(reader.rows(0, 5)) == 5
    with pytest.raises(LoadError) as error:
        reader.rows(5, 6)
    assert str(error.value) == "a file of a shard ends after 95 values; its rows take 96"


def test_codes_that_do_not_fit_their_grid_are_refused(store: Memory) -> None:
    of = plan(KEYS)
    codes = np.zeros((3, 4), np.uint16)
    made = FORMATS["parquet"].write(Rows.of([row("a", of), row("b", of, codes=codes)]), of, "0")
    store.files["shards/0.parquet"] = made["0.parquet"]
    with pytest.raises(LoadError) as error:
        FORMATS["parquet"].read(store, ["0.parquet"], of).rows(0, 2)
    assert str(error.value) == "row 1 of these has the shape (4, 4) and 12 values"


def test_npy_is_one_array() -> None:
    of = plan(KEYS, format="npy")
    made = rows(KEYS, of)
    files = FORMATS["npy"].write(made, of, "0")
    array = np.load(io.BytesIO(files["0.codes.npy"]))
    assert array.dtype == np.dtype("<u2") and np.array_equal(array, made.codes)


def test_npy_with_another_table_is_refused(store: Memory) -> None:
    of = plan(KEYS, format="npy")
    names: Sequence[str] = ["0.codes.npy", "0.rows.parquet"]
    longer, shorter = (FORMATS["npy"].write(rows(KEYS[:count], of), of, "0") for count in (3, 2))
    store.files["shards/0.codes.npy"] = longer["0.codes.npy"]
    store.files["shards/0.rows.parquet"] = shorter["0.rows.parquet"]
    with pytest.raises(LoadError) as error:
        FORMATS["npy"].read(store, names, of)
    assert str(error.value) == "'shards/0.codes.npy' has 3 rows, and its table 2"


def test_helpers_make_rows_that_differ() -> None:
    of = plan()
    assert not same(token_rows.row("a", of), token_rows.row("b", of))
