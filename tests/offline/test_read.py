"""Opening data sets, by number, in order, by view, as latents, and in worker processes."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import token_sets
import torch
from token_rows import PRINTS, plan, same
from torch.utils.data import DataLoader

from vqtok.errors import ConfigError, InputError, LoadError, MismatchError
from vqtok.offline.formats import FORMATS, parquet
from vqtok.offline.plan import TokenizerPlan
from vqtok.offline.read import collate, open_tokens, torch_dataset
from vqtok.offline.rows import Row
from vqtok.offline.scaled import LookedUp
from vqtok.offline.shelf import Shelf
from vqtok.types import Fingerprint
from vqtok.vocab import VisualVocab

pytest.importorskip("pyarrow")

KEYS = [f"k{number}" for number in range(7)]
PRINT = Fingerprint.from_dict(PRINTS)
VIEWS = {"views": ("center", "hflip"), "view_names": ("center", "hflip")}


def equal(found: Any, wanted: list[Row]) -> bool:
    rows = list(found)
    return len(rows) == len(wanted) and all(map(same, rows, wanted))


@pytest.mark.parametrize("name", list(FORMATS))
def test_rows_come_in_order_and_by_number(tmp_path: Path, name: str) -> None:
    of = plan(KEYS, shard_size=3, format=name)
    made = token_sets.write(tmp_path, of, KEYS)
    tokens = open_tokens(tmp_path)
    assert len(tokens) == 7 and equal(tokens, made)
    assert all(same(tokens[place], made[place]) for place in (6, 0, 3, -1, -7))
    assert equal(tokens[1:6:2], made[1:6:2]) and equal(tokens[::-1], made[::-1])
    assert tokens.plan == of
    assert tokens.manifest.rows == 7
    assert tokens.sha256 == tokens.manifest.dataset_sha256
    assert tokens.classes == [str(10 * number) for number in range(7)]


def test_a_place_that_is_not_there_is_an_index_error(tmp_path: Path) -> None:
    token_sets.write(tmp_path, plan(KEYS), KEYS)
    for place in (7, -8):
        with pytest.raises(IndexError) as error:
            open_tokens(tmp_path)[place]
        assert str(error.value) == f"there are 7 rows; asked for {place}"


def test_a_row_is_asked_for_by_number(tmp_path: Path) -> None:
    made = token_sets.write(tmp_path, plan(KEYS), KEYS)
    tokens = open_tokens(tmp_path)
    assert same(tokens[np.int64(2)], made[2]) and same(tokens[torch.tensor(2)], made[2])
    for place in ([1, 2], 1.0, "k1"):
        with pytest.raises(TypeError) as error:
            tokens[place]
        assert str(error.value) == (
            f"a row is asked for by a whole number, and several by a slice; got {place!r}. "
            "For a list of numbers: [tokens[number] for number in numbers]"
        )


def test_a_set_tells_what_it_is(tmp_path: Path) -> None:
    of = plan(KEYS, format="npy", **VIEWS)
    token_sets.write(tmp_path, of, KEYS)
    assert repr(open_tokens(tmp_path)) == (
        f"TokenSet('{tmp_path}': 14 rows of 7 samples, npy, {of.tokenizer.name})"
    )


@pytest.mark.parametrize("name", list(FORMATS))
def test_retries_come_after_their_shard(tmp_path: Path, name: str) -> None:
    of = plan(KEYS, shard_size=3, format=name, **VIEWS)
    lost = [("k0", "center"), ("k0", "hflip"), ("k2", "hflip"), ("k4", "center")]
    made = token_sets.write(tmp_path, of, KEYS, lost, lost[1:3])
    tokens = open_tokens(tmp_path)
    assert len(tokens) == 12 and equal(tokens, made)
    assert [row.key for row in tokens][:6] == ["k1", "k1", "k2", "k0", "k2", "k3"]


def test_shards_where_all_failed_hold_no_rows(tmp_path: Path) -> None:
    of = plan(KEYS, shard_size=3)
    lost = [(key, "center") for key in KEYS[:3]]
    made = token_sets.write(tmp_path, of, KEYS, lost)
    assert equal(open_tokens(tmp_path), made) and len(made) == 4
    everything = tmp_path / "none"
    assert token_sets.write(everything, of, KEYS, [(key, "center") for key in KEYS]) == []
    assert list(open_tokens(everything)) == []


def test_rows_are_the_callers_own(tmp_path: Path) -> None:
    token_sets.write(tmp_path, plan(KEYS, what="both"), KEYS)
    tokens = open_tokens(tmp_path)
    codes, latents = tokens[0].codes, tokens[0].latents
    assert codes is not None and latents is not None
    codes[:] = 0
    latents[:] = 0
    again = tokens[0]
    assert again.codes is not None and again.codes.any()
    assert again.latents is not None and again.latents.any()


def test_codes_go_into_a_vocabulary(tmp_path: Path) -> None:
    made = token_sets.write(tmp_path, plan(KEYS), KEYS)
    codes = open_tokens(tmp_path).codes(2)
    assert codes.codebook == PRINTS["codebook"] and codes.codebook_size == 64
    assert codes.sizes.tolist() == [[16, 16]]
    ids = VisualVocab(64, offset=1000).flatten(codes.ids[0])
    assert made[2].codes is not None
    assert ids[1] == 1000 + made[2].codes[0, 0]


def test_a_set_of_latents_has_no_codes(tmp_path: Path) -> None:
    token_sets.write(tmp_path, plan(KEYS, what="latents"), KEYS)
    with pytest.raises(InputError) as error:
        open_tokens(tmp_path).codes(0)
    assert str(error.value) == "this data set holds latents and no codes"


# --- what is refused ------------------------------------------------------------------------------


def test_a_folder_without_a_plan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"holds no plan.json: it is no data set of tokens$"):
        open_tokens(tmp_path)


def test_an_unfinished_set_is_read_only_if_asked_for(tmp_path: Path) -> None:
    of = plan(KEYS, shard_size=3)
    made = token_sets.write(tmp_path, of, KEYS, finish=False)
    (tmp_path / "done" / "00001.json").unlink()
    with pytest.raises(LoadError) as error:
        open_tokens(tmp_path)
    assert str(error.value) == (
        f"'{tmp_path}' is not finished: 2 of 3 shards are there. Start its job again, or take what "
        "is there with partial=True"
    )
    assert equal(open_tokens(tmp_path, partial=True), made[:3] + made[6:])


def damage(path: Path) -> None:
    """Other bytes, from the middle to near the end, as long as before."""
    data = bytearray(path.read_bytes())
    for place in range(len(data) // 3, len(data)):
        data[place] ^= 0x55
    path.write_bytes(bytes(data))


FILES = {
    "parquet": ["parquet"],
    "bin": ["bin", "rows.parquet"],
    "npy": ["codes.npy", "rows.parquet"],
    "webdataset": ["tar"],
}


@pytest.mark.parametrize("name", list(FORMATS))
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    token_sets.write(tmp_path, plan(KEYS, shard_size=3, format=name), KEYS)
    paths = [tmp_path / "shards" / f"00001.{ending}" for ending in FILES[name]]
    damage(paths[-1])
    tokens = open_tokens(tmp_path)
    assert tokens[0].key == "k0"
    with pytest.raises(LoadError) as error:
        list(tokens)
    named = " with ".join(f"'{path}'" for path in paths)
    text = str(error.value)
    assert text.startswith(f"{named} cannot be read: ") and "\n" not in text
    assert text.endswith(
        f"; `vqtok verify {tmp_path} --full` lists all files that are not as they were written"
    )


@pytest.mark.parametrize("name", list(FORMATS))
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    token_sets.write(tmp_path, plan(KEYS, shard_size=3, format=name), KEYS)
    path = tmp_path / "shards" / f"00001.{FILES[name][0]}"
    path.unlink()
    with pytest.raises(LoadError) as error:
        list(open_tokens(tmp_path))
    assert str(error.value) == (
        f"'{path}' is not there; `vqtok verify {tmp_path} --full` lists all files that are not as "
        "they were written"
    )


@pytest.mark.parametrize("name", list(FORMATS))
def test_no_flipped_byte_gives_an_error_of_a_library(tmp_path: Path, name: str) -> None:
    token_sets.write(tmp_path, plan(KEYS, format=name), KEYS)
    for path in sorted((tmp_path / "shards").iterdir()):
        whole = path.read_bytes()
        for place in range(3, len(whole), max(1, len(whole) // 40)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
            with suppress(LoadError):  # some bytes are codes, and others are read by nobody
                list(open_tokens(tmp_path))
        path.write_bytes(whole)
    assert len(list(open_tokens(tmp_path))) == 7


def test_the_manifest_of_another_plan_is_refused(tmp_path: Path) -> None:
    of, other = plan(KEYS), plan(KEYS, seed=1)
    token_sets.write(tmp_path, of, KEYS)
    (tmp_path / "plan.json").write_bytes(other.to_bytes())
    with pytest.raises(MismatchError) as error:
        open_tokens(tmp_path)
    assert str(error.value) == (
        f"the manifest of '{tmp_path}' is of the plan {of.hash[:16]}, and the plan there is "
        f"{other.hash[:16]}"
    )


def test_another_tokenizer_is_refused_by_part(tmp_path: Path) -> None:
    token_sets.write(tmp_path, plan(KEYS), KEYS)
    assert len(open_tokens(tmp_path, expect=PRINT)) == 7
    for part in ("decoder", "preprocess"):
        assert len(open_tokens(tmp_path, expect=replace(PRINT, **{part: "f" * 64}))) == 7
    other = replace(PRINT, encoder="a" * 64, codebook="b" * 64)
    with pytest.raises(MismatchError) as error:
        open_tokens(tmp_path, expect=other)
    assert str(error.value) == (
        "this data set was made by 'tiny', vqtok-fp/1:11111111-22222222-33333333-44444444; "
        "expected vqtok-fp/1:11111111-aaaaaaaa-bbbbbbbb-44444444: another encoder and another "
        "codebook"
    )


def test_a_tokenizer_or_its_name_may_be_expected(tmp_path: Path) -> None:
    tok = tiny.tokenizer()
    token_sets.write(tmp_path / "data", _planned_by(tok), KEYS)
    tok.save_pretrained(tmp_path / "tok")
    assert len(open_tokens(tmp_path / "data", expect=tok)) == 7
    assert len(open_tokens(tmp_path / "data", expect=str(tmp_path / "tok"))) == 7
    with pytest.raises(MismatchError, match=r": another encoder and another codebook$"):
        open_tokens(tmp_path / "data", expect=tiny.tokenizer(seed=1))


# --- views ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", [[], [("k1", "hflip"), ("k5", "center")]])
@pytest.mark.parametrize("views", [["hflip"], "hflip", ["center", "hflip"]])
def test_views_are_chosen_by_name(tmp_path: Path, lost: Any, views: Any) -> None:
    of = plan(KEYS, shard_size=3, **VIEWS)
    made = token_sets.write(tmp_path, of, KEYS, lost)
    tokens = open_tokens(tmp_path, views=views)
    assert equal(tokens, [row for row in made if row.view in views])


@pytest.mark.parametrize("lost", [[], [("k1", "hflip"), ("k5", "center"), ("k6", "center")]])
def test_one_view_of_each_sample_is_drawn(tmp_path: Path, lost: Any) -> None:
    keys = [f"k{number}" for number in range(40)]
    of = plan(keys, shard_size=15, **VIEWS)
    made = token_sets.write(tmp_path, of, keys, lost, lost[:1])
    tokens = open_tokens(tmp_path, views="random", seed=3)
    assert sorted(row.key for row in tokens) == sorted(keys)
    wanted = {(row.key, row.view): row for row in made}
    assert all(same(row, wanted[row.key, row.view]) for row in tokens)
    first = [row.view for row in tokens]
    assert 8 < first.count("hflip") < 32
    assert [row.view for row in open_tokens(tmp_path, views="random", seed=3)] == first
    assert [row.view for row in open_tokens(tmp_path, views="random", seed=4)] != first
    tokens.epoch = 1
    assert [row.view for row in tokens] != first


def test_a_views_draw_is_the_keys_own(tmp_path: Path) -> None:
    keys = [f"k{number}" for number in range(30)]
    for name, of_keys in (("all", keys), ("some", keys[10:20])):
        token_sets.write(tmp_path / name, plan(of_keys, **VIEWS), of_keys)
    every, some = (open_tokens(tmp_path / name, views="random") for name in ("all", "some"))
    drawn = {row.key: row.view for row in every}
    assert all(drawn[row.key] == row.view for row in some)


def test_a_view_that_the_set_has_not_is_refused(tmp_path: Path) -> None:
    token_sets.write(tmp_path, plan(KEYS, **VIEWS), KEYS)
    with pytest.raises(ConfigError) as error:
        open_tokens(tmp_path, views=["centre"])
    assert str(error.value) == (
        "this data set has no view 'centre'. Did you mean 'center'? Known: center, hflip."
    )
    with pytest.raises(ConfigError) as error:
        open_tokens(tmp_path, views=[])
    assert str(error.value) == "views names at least one view; None stands for all of them"


# --- latents --------------------------------------------------------------------------------------


def test_stored_latents_are_scaled_by_the_manifest(tmp_path: Path) -> None:
    made = token_sets.write(tmp_path, plan(KEYS, what="both"), KEYS)
    tokens = open_tokens(tmp_path, as_latents=True)
    stats = tokens.manifest.latents
    assert stats is not None and stats.scaling_factor is not None
    assert (tokens.shift_factor, tokens.scaling_factor) == (
        stats.shift_factor,
        stats.scaling_factor,
    )
    found = np.stack([row.latents for row in tokens if row.latents is not None])
    stored = np.stack([row.latents for row in made if row.latents is not None]).astype(np.float32)
    assert found.dtype == np.float32 and found.shape == (7, 4, 4, 4)
    assert abs(float(found.mean())) < 1e-3 and abs(float(found.std()) - 1) < 1e-3
    np.testing.assert_allclose(found / stats.scaling_factor + stats.shift_factor, stored, atol=1e-3)


def test_stored_latents_come_as_they_are_unless_asked_for(tmp_path: Path) -> None:
    made = token_sets.write(tmp_path, plan(KEYS, what="latents"), KEYS)
    tokens = open_tokens(tmp_path)
    assert equal(tokens, made) and tokens.scaling_factor is not None


@pytest.mark.parametrize("depth", [0, 2])
def test_codes_are_looked_up(tmp_path: Path, depth: int) -> None:
    changes = {"quantizer": "residual", "quantizer_args": {"num_quantizers": 2}} if depth else {}
    tok = tiny.tokenizer(**changes)
    made = token_sets.write(tmp_path, _planned_by(tok), KEYS)
    tokens = open_tokens(tmp_path, as_latents=True, tokenizer=tok)
    shift, scaling = tokens.shift_factor, tokens.scaling_factor
    assert shift is not None and scaling is not None
    for row, wanted in zip(tokens, made, strict=True):
        assert wanted.codes is not None
        (plain,) = tok.latents([torch.from_numpy(wanted.codes.astype(np.int64))])
        assert row.latents is not None and row.latents.dtype == np.float32
        np.testing.assert_allclose(row.latents, (plain.numpy() - shift) * scaling, atol=1e-5)
    found = np.stack([row.latents for row in tokens if row.latents is not None])
    assert abs(float(found.mean())) < 1e-5 and abs(float(found.std()) - 1) < 1e-5


def test_the_expected_tokenizer_looks_up(tmp_path: Path) -> None:
    tok = tiny.tokenizer()
    token_sets.write(tmp_path, _planned_by(tok), KEYS)
    assert open_tokens(tmp_path, expect=tok, as_latents=True)[0].latents is not None


def test_codes_as_latents_need_their_tokenizer(tmp_path: Path) -> None:
    tok = tiny.tokenizer()
    of = _planned_by(tok)
    token_sets.write(tmp_path, of, KEYS)
    with pytest.raises(InputError) as error:
        open_tokens(tmp_path, as_latents=True)
    assert str(error.value) == (
        "this data set holds codes; to read them as latents, pass the tokenizer that made them as "
        "tokenizer="
    )
    other = tiny.tokenizer(seed=1)
    with pytest.raises(MismatchError) as mismatch:
        open_tokens(tmp_path, as_latents=True, tokenizer=other)
    assert str(mismatch.value) == (
        f"this data set was made with the codebook {tok.fingerprint.codebook[:16]}, and the "
        f"tokenizer has {other.fingerprint.codebook[:16]}: its latents are others"
    )
    with pytest.raises(ConfigError) as config:
        open_tokens(tmp_path, tokenizer=tok)
    assert str(config.value) == (
        "tokenizer= looks up latents of codes: it goes with as_latents=True"
    )


def test_stored_latents_need_no_tokenizer(tmp_path: Path) -> None:
    token_sets.write(tmp_path, plan(KEYS, what="both"), KEYS)
    with pytest.raises(ConfigError) as error:
        open_tokens(tmp_path, as_latents=True, tokenizer=tiny.tokenizer())
    assert str(error.value) == "this data set stores its latents: leave tokenizer= out"


@pytest.mark.parametrize("depth", [0, 2])
def test_looked_up_latents_are_scaled_alike_whatever_is_chosen(tmp_path: Path, depth: int) -> None:
    changes = {"quantizer": "residual", "quantizer_args": {"num_quantizers": 2}} if depth else {}
    tok = tiny.tokenizer(**changes)
    made = token_sets.write(tmp_path, _planned_by(tok, **VIEWS), KEYS)
    for chosen in ({}, {"views": "hflip"}, {"views": "random"}, {"views": "random", "seed": 1}):
        tokens = open_tokens(tmp_path, as_latents=True, tokenizer=tok, **chosen)
        codes = [torch.from_numpy(row.codes.astype(np.int64)) for row in made]  # type: ignore
        values = np.stack([each.numpy() for each in tok.latents(codes)]).astype(float)
        assert tokens.scaling_factor is not None
        np.testing.assert_allclose(tokens.shift_factor, values.mean(), rtol=1e-6)
        np.testing.assert_allclose(1 / tokens.scaling_factor, values.std(), rtol=1e-6)


def test_few_rows_are_read_to_scale_codes_that_are_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tok = tiny.tokenizer()
    token_sets.write(tmp_path, _planned_by(tok), KEYS)
    exact = open_tokens(tmp_path, as_latents=True, tokenizer=tok)
    read: list[int] = []
    row = Shelf.row

    def counted(self: Shelf, shard: int, place: int) -> Row:
        read.append(place)
        return row(self, shard, place)

    monkeypatch.setattr(Shelf, "row", counted)
    lookup = LookedUp(exact.plan, tok)
    lookup.measure(exact._shelf, ["any", None])
    assert read == list(range(7))
    assert lookup.shift == pytest.approx(exact.shift_factor)
    assert lookup.scaling == pytest.approx(exact.scaling_factor)
    monkeypatch.setattr("vqtok.offline.scaled.MEASURED", 3)
    read.clear()
    lookup.measure(exact._shelf, [None])
    assert read == [0, 3, 6]


def _planned_by(tok: Any, **changes: Any) -> Any:
    found = TokenizerPlan(
        name="tiny",
        fingerprint=tok.fingerprint.to_dict(),
        precision="ieee32",
        codebook_size=tok.codebook_size,
        depth=tok.vocab.depth,
        is_video=False,
        latent_channels=4,
    )
    return plan(KEYS, found.model_dump(), **changes)


# --- torch, processes -----------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on machines of one core
@pytest.mark.parametrize(("start", "name"), [("fork", "parquet"), ("spawn", "bin")])
def test_it_is_a_data_set_for_torch(tmp_path: Path, start: str, name: str) -> None:
    made = token_sets.write(tmp_path, plan(KEYS, shard_size=3, format=name), KEYS)
    tokens = open_tokens(tmp_path)
    assert same(tokens[0], made[0])  # handles are open when workers start
    loader = DataLoader(
        tokens, batch_size=2, num_workers=2, collate_fn=collate, multiprocessing_context=start
    )
    batches = list(loader)
    assert [key for batch in batches for key in batch["key"]] == KEYS
    codes = torch.cat([batch["codes"] for batch in batches])
    wanted = np.stack([row.codes for row in made if row.codes is not None])
    assert codes.dtype == torch.int64 and np.array_equal(codes.numpy(), wanted)


def test_batches_hold_tensors_of_what_has_one_shape(tmp_path: Path) -> None:
    made = token_sets.write(tmp_path, plan(KEYS, what="both"), KEYS)
    batch = collate(made)
    assert batch["latents"].shape == (7, 4, 4, 4) and batch["label"].dtype == torch.int64
    assert batch["flip"].dtype == torch.bool and batch["box"].shape == (7, 4)
    made[1] = made[1]._replace(label=None, codes=np.zeros((2, 2), np.uint16))
    batch = collate(made)
    assert isinstance(batch["codes"], list) and isinstance(batch["label"], list)


def test_rows_are_collated_by_torch_itself(tmp_path: Path) -> None:
    made = token_sets.write(tmp_path, plan(KEYS, what="both"), KEYS)
    dataset = torch_dataset(open_tokens(tmp_path))
    assert len(dataset) == 7
    (batch,) = DataLoader(dataset, batch_size=7)
    assert sorted(batch) == ["codes", "key", "label", "latents", "view"]
    assert batch["codes"].dtype == torch.int64 and batch["key"] == KEYS
    assert made[6].codes is not None and np.array_equal(batch["codes"][6], made[6].codes)
    assert batch["latents"].dtype == torch.float16


def test_one_shard_is_read_while_another_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = token_sets.write(tmp_path, plan(KEYS, shard_size=3), KEYS)
    tokens, waiting, going = open_tokens(tmp_path), threading.Event(), threading.Event()
    group = parquet.Reader._group

    def slow(self: parquet.Reader, number: int) -> Any:
        if "00000" in self._name:
            waiting.set()
            assert going.wait(20)
        return group(self, number)

    monkeypatch.setattr(parquet.Reader, "_group", slow)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(tokens.__getitem__, 0)
        assert waiting.wait(20)
        assert same(tokens[6], made[6])
        # Nor does a process that is forked meanwhile wait for what its parent holds.
        forked = os.fork()
        if not forked:
            going.set()
            os._exit(0 if same(tokens[0], made[0]) else 1)
        assert os.waitpid(forked, 0)[1] == 0
        going.set()
        assert same(first.result(), made[0])


def test_no_more_is_kept_in_memory_than_so_many_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vqtok.offline.shelf.BLOCKS", 5 << 10)
    monkeypatch.setattr("vqtok.offline.shelf.OPEN", 2 << 20)
    made = token_sets.write(tmp_path, plan(KEYS, shard_size=2), KEYS)
    tokens = open_tokens(tmp_path)
    assert equal(tokens, made)
    assert len(tokens._shelf._readers._held) == len(tokens._shelf._blocks._held) == 2


def test_open_files_are_not_pickled(tmp_path: Path) -> None:
    made = token_sets.write(tmp_path, plan(KEYS), KEYS)
    tokens = open_tokens(tmp_path)
    list(tokens)
    data = pickle.dumps(tokens)
    assert len(data) < 20_000
    assert equal(pickle.loads(data), made)


READ = """
import sys
from vqtok.offline.read import open_tokens
for path in sys.argv[1:]:
    tokens = open_tokens(path)
    assert len(list(tokens)) == len(tokens) == 7 and tokens[3].codes.shape == (4, 4)
heavy = {"torch", "diffusers", "transformers", "fsspec"} & set(sys.modules)
assert not heavy, heavy
"""


def test_reading_needs_no_torch(tmp_path: Path) -> None:
    for name in FORMATS:
        token_sets.write(tmp_path / name, plan(KEYS, shard_size=3, format=name), KEYS)
    command = [sys.executable, "-c", READ, *(str(tmp_path / name) for name in FORMATS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
