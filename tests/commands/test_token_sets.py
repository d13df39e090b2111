"""`vqtok status`, `verify`, `inspect`, `retry-failed` and `export-tokens`."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import typer
from commandline import look, picture, pictures, tokenizer, vqtok

from vqtok import cli
from vqtok.offline import open_tokens

OPTIONS = ("--size", "64", "--shard-size", "2", "--batch", "2")
BAD = "is not a picture in a format that Pillow reads here"
USE = re.compile(r"\d+ of 1024 codes in use, \d+ unused\n")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos/ with a bad one, and tokens/ of it."""
    root = tmp_path_factory.mktemp("made")
    pictures(root / "photos", "a.png", "b.png", "c.png", "e.png")
    (root / "photos/d.png").write_text("no picture")
    done = vqtok("tokenize", root / "photos", root / "tokens", *OPTIONS)
    assert done.status == 0, done.err
    return root


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """The same, to be changed; job.json names the first one's photos."""
    shutil.copytree(made / "tokens", tmp_path / "tokens")
    shutil.copytree(made / "photos", tmp_path / "photos")
    return tmp_path


VERBS = ("tokenize", "status", "verify", "inspect", "retry-failed", "export-tokens")
COMMAND: Any = typer.main.get_command(cli.app)


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_explains_itself(verb: str) -> None:
    done = vqtok(verb, "--help")
    assert (done.status, done.err) == (0, "")
    lines = done.out.split("Examples:")[1].strip().splitlines()
    for line in lines:
        _, _, call = line.strip().partition("vqtok ")
        name, *arguments = shlex.split(call.partition(" > ")[0])
        assert name == verb
        assert COMMAND.commands[verb].make_context(verb, arguments)


# --- status -----------------------------------------------------------------------------------


def test_status_of_a_finished_set(made: Path) -> None:
    out = made / "tokens"
    done = vqtok("status", out)
    lines = [line for line in done.out.splitlines() if not line.startswith("waits: ")]
    assert (done.status, done.err) == (0, "")
    assert lines == [
        f"{out}: finished",
        "shards: 3 of 3 done, 0 under way, 0 left",
        "rows: 4 of 5",
        "failed: 1 of 5 rows (decode 1)",
        f"  'd.png': decode: {BAD}",
        f"records alone are read; vqtok verify {out} looks at the files",
        f"next: vqtok status {out} --failed; once mended, vqtok retry-failed {out}",
    ]


def test_status_of_one_that_stopped(copy: Path) -> None:
    out = copy / "tokens"
    (out / "manifest.json").unlink()
    (out / "done/00002.json").unlink()
    (out / "claims").mkdir(exist_ok=True)
    lines = vqtok("status", out).out.splitlines()
    assert lines[:3] == [
        f"{out}: not finished, and nobody works on it",
        "shards: 2 of 3 done, 0 under way, 1 left",
        "rows: 3 of 5",
    ]
    assert lines[-1] == "next: run its `vqtok tokenize` again; it goes on from here"


def test_status_as_json_and_the_list_of_failures(made: Path) -> None:
    told = json.loads(vqtok("status", made / "tokens", "--json", "--watch").out)
    assert (told["complete"], told["rows"], told["lost"], told["left"]) == (True, 4, 1, 0)
    failed = [
        json.loads(line) for line in vqtok("status", made / "tokens", "--failed").out.splitlines()
    ]
    assert failed == [
        {"shard": 1, "key": "d.png", "index": 3, "rows": 1, "stage": "decode", "reason": BAD}
    ]


def test_status_of_something_else(tmp_path: Path) -> None:
    assert vqtok("status", tmp_path) == (
        2,
        b"",
        f"vqtok: '{tmp_path}' holds no plan.json: it is no data set of tokens\n",
    )


def test_status_waits_for_a_job_that_has_not_begun(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, naps = tmp_path / "tokens", []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 2:
            out.mkdir()
        if len(naps) == 3:
            shutil.copytree(made / "tokens", out, dirs_exist_ok=True)

    monkeypatch.setattr("vqtok.commands.status.time", SimpleNamespace(sleep=sleep))
    done = vqtok("status", out, "--watch")
    assert (done.status, naps) == (0, [2.0, 2.0, 2.0])
    assert done.err == f"vqtok: there is nothing at '{out}' yet; it is waited for\n"
    assert done.out.startswith(f"{out}: finished\n")


def test_status_does_not_wait_for_other_things_to_change(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    done = vqtok("status", tmp_path, "--watch")
    message = f"vqtok: '{tmp_path}' holds no plan.json: it is no data set of tokens\n"
    assert (done.status, done.err) == (2, message)


# --- verify -----------------------------------------------------------------------------------


def test_verify(made: Path) -> None:
    out = made / "tokens"
    assert vqtok("verify", out).out == (
        f"{out}: 3 files, plan, records and manifest agree (names and sizes)\n"
    )
    done = vqtok("verify", out, "--full", "--sample", "100%")
    assert (done.status, done.err) == (0, "")
    assert USE.sub("", done.out) == (
        f"{out}: 3 files, plan, records and manifest agree (checksums)\n"
        "4 of 4 rows made again: 4 equal, 0 but for near ties or rounding (0 of 256 values), 0 "
        "wrong\n"
    )


def test_verify_finds_a_flipped_byte(copy: Path) -> None:
    path = copy / "tokens/shards/00001.parquet"
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    assert vqtok("verify", copy / "tokens").status == 0
    assert vqtok("verify", copy / "tokens", "--full", "--sample", "1%") == (
        1,
        b"fault: shard 1: 'shards/00001.parquet' holds other bytes than were written\n",
        f"vqtok: 1 fault in {copy / 'tokens'}; no row was made again\n",
    )


def test_verify_finds_other_pixels(copy: Path) -> None:
    picture(copy / "photos/a.png", seed=9)
    done = vqtok("verify", copy / "tokens", "--sample", "1", "--source", copy / "photos")
    assert done.status == 1
    assert "4 of 4 rows made again: 3 equal" in done.out
    assert re.search(r"wrong: 'a.png' \(center\): \d+ of its 64 ids differ", done.out)


def test_verify_without_its_source(copy: Path) -> None:
    gone = copy / "gone"
    told = json.loads((copy / "tokens/job.json").read_bytes())
    (copy / "tokens/job.json").write_text(
        json.dumps({**told, "source": [str(gone)], "absolute": []})
    )
    done = vqtok("verify", copy / "tokens", "--sample", "1%")
    assert (done.status, done.err) == (
        2,
        f"vqtok: '{copy / 'tokens'}' was made of '{gone}', and that cannot be read here: there is "
        f"no file or folder '{gone}'. Say where it is with --source\n",
    )


def test_source_and_tokenizer_are_found_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures(tmp_path / "photos", "a.png")
    shutil.copytree(tokenizer(), tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    assert vqtok("tokenize", "photos/*.png", "tokens", "--tokenizer", "model").status == 0
    told = json.loads(Path("tokens/job.json").read_bytes())
    assert (told["source"], told["absolute"]) == (["photos/*.png"], [f"{tmp_path}/photos/*.png"])
    assert (told["tokenizer"]["name"], told["folder"]) == ("model", f"{tmp_path}/model")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    done = vqtok("verify", "../tokens", "--sample", "1")
    assert (done.status, done.err) == (0, "")
    assert "1 of 1 rows made again: 1 equal" in done.out
    (tmp_path / "model").rename(tmp_path / "gone")
    done = vqtok("verify", "../tokens", "--sample", "1")
    assert done.status == 2
    assert done.err.startswith("vqtok: the tokenizer of '../tokens' cannot be loaded here: ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sample", "0"], "--sample is a share of the rows, such as 1% or 0.01; got '0'"),
        (["--sample", "1", "--revision", "v1"], "--revision is about the tokenizer that "
         "--tokenizer names"),
        (["--sample", "1", "--kind", "tars"], "--kind is about what --source names"),
    ],
)  # fmt: skip
def test_mistakes_of_verify(made: Path, options: list[str], message: str) -> None:
    done = vqtok("verify", made / "tokens", *options)
    assert (done.status, done.err) == (2, f"vqtok: {message}\n")


# --- inspect ----------------------------------------------------------------------------------


def test_inspect_draws(made: Path, tmp_path: Path) -> None:
    sheet, usage = tmp_path / "sheet.png", tmp_path / "usage.png"
    done = vqtok("inspect", made / "tokens", "-o", sheet, "--histogram", usage, "--rows", "2")
    assert done == (0, b"", "")
    assert look(usage).shape == (520, 900, 3)
    assert look(sheet).shape[1] > look(sheet).shape[0]


def test_inspect_without_the_source(copy: Path, tmp_path: Path) -> None:
    (copy / "tokens/job.json").unlink()
    done = vqtok(
        "inspect", copy / "tokens", "-o", tmp_path / "sheet.png", "--tokenizer", "photo-tiny"
    )
    assert (done.status, done.err) == (
        0,
        f"vqtok: the sheet shows no sources: '{copy / 'tokens'}' does not tell what it was made "
        "of, as it has no such entry in job.json: say where its source is with --source\n",
    )


def test_mistakes_of_inspect(made: Path, tmp_path: Path) -> None:
    assert vqtok("inspect", made / "tokens") == (
        2,
        b"",
        "vqtok: say where to: --output sheet.png, --histogram usage.png, or both\n",
    )
    assert vqtok("inspect", made / "tokens", "-o", tmp_path / "sheet") == (
        2,
        b"",
        f"vqtok: --output is a .png file; got '{tmp_path / 'sheet'}'\n",
    )


# --- retry-failed -----------------------------------------------------------------------------


def test_retry_failed_makes_up_for_what_was_mended(copy: Path) -> None:
    out = copy / "tokens"
    before = {path: path.read_bytes() for path in (out / "shards").iterdir()}
    options = ("--source", copy / "photos")
    again = vqtok("retry-failed", out, *options)
    assert (again.status, again.out.splitlines()[1]) == (0, "failed: 1 of 5 rows (decode 1)")
    picture(copy / "photos/d.png", seed=5)
    done = vqtok("retry-failed", out, *options)
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(f"{out}: 5 rows of 5 samples, 3 shards, ")
    assert "failed:" not in done.out
    assert {path: path.read_bytes() for path in before} == before
    keys = [row.key for row in open_tokens(out)]
    assert keys == ["a.png", "b.png", "c.png", "d.png", "e.png"]
    assert vqtok("verify", out, "--full", "--sample", "1", *options).status == 0


def test_retry_failed_where_nothing_did(copy: Path) -> None:
    picture(copy / "photos/d.png", seed=5)
    vqtok("retry-failed", copy / "tokens", "--source", copy / "photos")
    done = vqtok("retry-failed", copy / "tokens", "--source", copy / "photos")
    assert (done.status, done.err) == (0, "vqtok: nothing has failed\n")


def test_a_job_that_has_not_ended_is_not_retried(copy: Path) -> None:
    (copy / "tokens/done/00002.json").unlink()
    done = vqtok("retry-failed", copy / "tokens")
    assert (done.status, done.err) == (
        2,
        f"vqtok: '{copy / 'tokens'}' is not finished: 2 of 3 shards are there. Start its job again "
        "first, then make up for what failed\n",
    )


def test_another_tokenizer_is_refused(copy: Path) -> None:
    import tiny
    from commandline import saved

    other = saved(tiny.tokenizer(0))
    done = vqtok("retry-failed", copy / "tokens", "--tokenizer", other)
    assert done.status == 2
    assert "this is not what was planned: " in done.err
    assert "tokenizer.fingerprint.codebook: planned " in done.err


# --- export-tokens ----------------------------------------------------------------------------


def test_export(made: Path, tmp_path: Path) -> None:
    place = tmp_path / "megatron"
    done = vqtok(
        "export-tokens", made / "tokens", place, "--to", "megatron", "--set", "end_id=1024"
    )
    assert done == (
        0,
        f"{place}: 4 rows of {made / 'tokens'}, as megatron reads them; see origin.json\n".encode(),
        "",
    )
    ids = np.fromfile(place / "tokens.bin", np.uint16).reshape(4, 65)
    assert (ids[:, -1] == 1024).all()
    rows = [row.codes for row in open_tokens(made / "tokens")]
    assert np.array_equal(ids[:, :-1].reshape(4, 8, 8), rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--to", "lama"], "there is no export called 'lama'. Did you mean 'llamagen'? Known: "
         "1xgpt, lightningdit, litdata, llamagen, mds, megatron, npy, rar, webdataset."),
        (["--to", "npy"], "the npy export is of latents, and this data set holds codes; tokenize "
         "with --what latents"),
        (["--to", "megatron", "--set", "end=1"], "the megatron export has no option 'end'. Did you "
         "mean 'end_id'? Known: dtype, end_id."),
        (["--to", "mds", "--views", "hflip"], "this data set has no view 'hflip'. Known: center."),
    ],
)  # fmt: skip
def test_mistakes_of_export(made: Path, tmp_path: Path, options: list[str], message: str) -> None:
    done = vqtok("export-tokens", made / "tokens", tmp_path / "made", *options)
    assert done == (2, b"", f"vqtok: {message}\n")
    assert not (tmp_path / "made").exists()


def test_help_names_every_export() -> None:
    from vqtok.offline.exports import EXPORTS

    text = " ".join(vqtok("export-tokens", "--help").out.split())
    assert [name for name in EXPORTS if name not in text] == []
