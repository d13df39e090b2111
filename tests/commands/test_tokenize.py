"""`vqtok tokenize`: the whole flow on a few small pictures, going on, refusals, failures."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commandline import Result, picture, pictures, vqtok

from vqtok.offline import open_tokens

BAD = "is not a picture in a format that Pillow reads here"
ONE_BY_ONE = "vqtok: pictures of open sizes and whole clips go through the model one by one"
OPTIONS = ("--size", "64", "--shard-size", "2", "--batch", "2")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return pictures(tmp_path / "photos", "a.png", "b.png", "c.png")


def tokenize(source: Path, out: Path | str, *more: str) -> Result:
    return vqtok("tokenize", source, out, *OPTIONS, *more)


def shards(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "shards").iterdir())}


def spoil(source: Path) -> Path:
    (source / "d.png").write_text("no picture")
    return source


def test_a_folder_becomes_a_data_set(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "tokens"
    done = tokenize(source, out, "--views", "center,hflip")
    assert (done.status, done.err) == (0, "")
    manifest = json.loads((out / "manifest.json").read_bytes())
    use = manifest["codes"]
    assert re.sub(r"[\d.]+ kB", "SIZE", done.out) == (
        f"{out}: 6 rows of 3 samples in 2 views, 2 shards, SIZE of parquet\n"
        f"codes: {use['used']} of 1,024 in use, entropy {use['entropy']:.3f} bits, the most common "
        f"one {use['most_common_share']:.1%} of all\n"
        f"data set: sha256 {manifest['dataset_sha256']}\n"
        f"next: vqtok inspect {out} -o sheet.png; in Python: open_tokens('{out}')\n"
    )
    rows = open_tokens(out, expect="photo-tiny")
    assert [(row.key, row.view, row.grid) for row in rows[:2]] == [
        ("a.png", "center", (8, 8)),
        ("a.png", "hflip", (8, 8)),
    ]


def test_it_notes_what_it_was_made_of(source: Path, tmp_path: Path) -> None:
    tokenize(source, tmp_path / "tokens", "--kind", "folder")
    told = json.loads((tmp_path / "tokens/job.json").read_bytes())
    assert (told["source"], told["kind"]) == ([str(source)], "folder")
    assert told["tokenizer"]["name"] == "photo-tiny"
    assert str(tmp_path) not in (tmp_path / "tokens/plan.json").read_text()


def test_json(source: Path, tmp_path: Path) -> None:
    done = tokenize(source, tmp_path / "tokens", "--json")
    told = json.loads(done.out)
    assert (told["rows"], told["failed"], told["schema"]) == (3, 0, "vqtok-tokens/1")


def test_it_goes_on_where_it_stopped(source: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "tokens"
    tokenize(source, whole)
    tokenize(source, out)
    for name in ("done/00001.json", "shards/00001.parquet", "manifest.json"):
        (out / name).unlink()
    first = (out / "shards/00000.parquet").stat().st_mtime_ns
    assert tokenize(source, out).status == 0
    assert (out / "shards/00000.parquet").stat().st_mtime_ns == first
    for name in ("plan.json", "manifest.json", "done/00001.json", "shards/00001.parquet"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()


def test_processes_make_the_same_bytes(source: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    tokenize(source, one)
    done = tokenize(source, two, "--processes", "2")
    assert done.status == 0
    assert shards(two) == shards(one)
    assert (two / "manifest.json").read_bytes() == (one / "manifest.json").read_bytes()


def test_another_plan_is_refused(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "tokens"
    tokenize(source, out)
    before = shards(out)
    assert tokenize(source, out, "--seed", "1", "--format", "npy") == (
        2,
        b"",
        f'vqtok: \'{out}\' was begun with another plan: format: planned "parquet", now "npy"; '
        "seed: planned 0, now 1. Ask for what was planned to go on with it, or choose another "
        "place for this one\n",
    )
    assert shards(out) == before


def test_a_failed_sample_is_listed_and_shifts_nothing(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "tokens"
    tokenize(spoil(source), out)
    done = tokenize(source, out)
    assert done.status == 0
    assert done.out.splitlines()[1:4] == [
        "failed: 1 of 4 rows (decode 1)",
        f"  'd.png': decode: {BAD}",
        f"  all of them: vqtok status {out} --failed; once mended: vqtok retry-failed {out}",
    ]
    assert [row.key for row in open_tokens(out)] == ["a.png", "b.png", "c.png"]


def test_too_many_failures_stop_it(source: Path, tmp_path: Path) -> None:
    done = tokenize(spoil(source), tmp_path / "tokens", "--max-failed", "10%")
    assert (done.status, done.raw) == (1, b"")
    assert done.err == (
        "vqtok: 1 of 4 rows have failed, and max_failed allows 0; first: 'd.png' (decode: "
        f"{BAD}). What is done stays: allow more and run it again to go on; retry-failed makes up "
        "for those that can be read later\n"
    )
    assert tokenize(source, tmp_path / "tokens", "--max-failed", "25%").status == 0


def test_no_row_at_all_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    done = tokenize(spoil(tmp_path / "photos"), tmp_path / "tokens")
    assert (done.status, done.err) == (1, "vqtok: not one row could be made\n")
    out = tmp_path / "tokens"
    assert done.out.splitlines()[1:] == [
        "failed: 1 of 1 rows (decode 1)",
        f"  'd.png': decode: {BAD}",
        f"next: vqtok status {out} --failed; once mended: vqtok retry-failed {out}",
    ]


def test_the_bar_at_a_terminal(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    out = tmp_path / "tokens"
    done = vqtok("tokenize", source, out, *OPTIONS, terminals=("stderr",))
    first, *_, last = [line for line in done.err.split("\r\x1b[K") if line]
    bar = r"tokenize  \[#+-*\]  +\d+%  \d of 3 rows, [\d.,]+ img/s, 0:00:\d\d left.*"
    assert re.fullmatch(r"tokenize  \[#*-*\]  +\d+%  \d of 3 rows.*", first)
    assert re.fullmatch(bar, last)


def test_the_lines_of_a_log(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vqtok.commands.jobs.LINES_EVERY", 0.0)
    monkeypatch.setattr("vqtok.offline.progress.EVERY", 1e9)
    lines = tokenize(spoil(source), tmp_path / "tokens").err.splitlines()
    speed = r"[\d.,]+ img/s, 0:00:\d\d left, waits: decode \d+%, encode \d+%, write \d+%"
    assert re.fullmatch(rf"vqtok: tokenize: [23] of 4 rows, {speed}", lines[0])
    assert re.fullmatch(f"vqtok: tokenize: 4 of 4 rows, 1 failed, {speed}", lines[1])
    assert len(lines) == 2


def test_a_dry_run_writes_nothing(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "tokens"
    done = tokenize(spoil(source), out, "--dry-run", "--views", "center,hflip")
    assert (done.status, done.err, out.exists()) == (0, "", False)
    table, _, plan = done.out.partition("{")
    lines = dict(re.split(r"  +", line, maxsplit=1) for line in table.splitlines() if "  " in line)
    assert lines["samples"] == "4 (folder); labels: none"
    assert lines["views"] == "2 (center, hflip)"
    assert lines["rows"] == "8 in 2 shards of 2 samples"
    assert lines["failed"] == "1 of these samples (25.0%)"
    assert f"  'd.png': decode: {BAD}" in table
    assert re.search(r"^size +[\d.]+ k?B as parquet  as planned$", table, re.MULTILINE)
    assert {"decode", "encode", "cores", "time"} <= set(lines)
    assert json.loads("{" + plan)["view_names"] == ["center", "hflip"]


def test_a_dry_run_as_json(source: Path, tmp_path: Path) -> None:
    done = tokenize(source, tmp_path / "tokens", "--dry-run", "--json")
    told = json.loads(done.out)
    assert told["plan"]["source"]["samples"] == told["measured"]["tried"] == 3
    assert {"bin", "npy", "parquet", "webdataset"} <= set(told["measured"]["bytes"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--what", "ids"], "what is one of codes, latents and both; got 'ids'"),
        (["--format", "parket"], "there is no format called 'parket'. Did you mean 'parquet'? "
         "Known: bin, npy, parquet, webdataset."),
        (["--views", "flip"], "there is no view called 'flip'. Did you mean 'hflip'? Known: "
         "center, hflip, random, tencrop."),
        (["--max-failed", "some"], "max_failed is a number of rows such as 10, or a share such as "
         "1%; got 'some'"),
        (["--engine", "ranks", "--processes", "2"], "the engine 'ranks' has no setting "
         "'processes'; it has rank"),
        (["--engine", "loco"], "there is no engine called 'loco'. Did you mean 'local'? Known: "
         "local, ranks, ray."),
        (["--stride", "2"], "--stride and --every are of clips: say how long with --frames"),
        (["--scenes", "hours"], "--scenes counts frames or seconds; got 'hours'"),
        (["--decode-in", "gpu"], "--decode-in is threads or processes; got 'gpu'"),
        (["--frames", "2"], "clips are cut out of videos, and this source holds pictures"),
    ],
)  # fmt: skip
def test_mistakes(source: Path, tmp_path: Path, options: list[str], message: str) -> None:
    done = vqtok("tokenize", source, tmp_path / "tokens", "--size", "64", *options)
    assert done == (2, b"", f"vqtok: {message}\n")
    assert not (tmp_path / "tokens").exists()


def test_a_folder_with_other_things_is_no_place(source: Path, tmp_path: Path) -> None:
    assert tokenize(source, tmp_path) == (
        2,
        b"",
        f"vqtok: '{tmp_path}' holds other files and no plan.json, so it is no data set to go on "
        "with; name a new folder\n",
    )


def test_memory_is_no_place(source: Path) -> None:
    assert tokenize(source, "memory://tokens") == (
        2,
        b"",
        "vqtok: 'memory://tokens' is the memory of this process and ends with it; name a folder, "
        "or a URL of a store that lasts\n",
    )


def test_a_place_in_the_source_is_refused(source: Path) -> None:
    out = source / "tokens"
    assert tokenize(source, out) == (
        2,
        b"",
        f"vqtok: '{out}' lies inside the source '{source}' and would become part of it; choose a "
        "place outside\n",
    )


def test_a_place_inside_the_source_by_its_url(source: Path) -> None:
    done = tokenize(source, f"file://{source}/tokens")
    assert (done.status, done.err) == (
        2,
        f"vqtok: 'file://{source}/tokens' lies inside the source '{source}' and would become part "
        "of it; choose a place outside\n",
    )


@pytest.mark.parametrize("how", [[], ["--dry-run"]])
def test_it_says_what_the_classes_are(tmp_path: Path, how: list[str]) -> None:
    root = pictures(tmp_path / "photos", "a/images/1.png", "b/images/2.png", "c/3.png")
    done = tokenize(root, tmp_path / "tokens", *how)
    assert (done.status, done.err) == (
        0,
        "vqtok: 2 classes: 'c' (1), 'images' (2)\n"
        "vqtok: samples lie at several depths, such as 'c/3.png' and 'a/images/1.png'; the label "
        "of each is the name of the folder that it lies in itself\n"
        "vqtok: the label 'images' is the name of 2 folders, such as 'a/images' and 'b/images', "
        "whose samples become one class\n",
    )


@pytest.mark.parametrize("how", [[], ["--dry-run"]])
def test_it_says_which_videos_are_left_out(tmp_path: Path, how: list[str]) -> None:
    pytest.importorskip("av", reason="videos need PyAV")
    from clip_files import clip_tokenizer, film

    film(tmp_path / "films/cat/a.mkv", count=9)
    film(tmp_path / "films/cat/b.mkv", count=3)
    name = "-t", str(clip_tokenizer())
    done = vqtok("tokenize", tmp_path / "films", tmp_path / "out", *name, "--frames", "4", *how)
    assert done.status == 0
    assert done.err.replace(f"{ONE_BY_ONE}\n", "") == (
        "vqtok: 4 frames at the ends of videos or scenes make no whole clip and are left out; 1 of "
        "2 videos have no clip at all\n"
        "vqtok: 1 class: 'cat' (2) videos\n"
    )


def test_clips_of_videos(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="videos need PyAV")
    from clip_files import clip_tokenizer, film

    film(tmp_path / "films/a.mkv", count=9)
    out = tmp_path / "tokens"
    name = "-t", str(clip_tokenizer())
    done = vqtok("tokenize", tmp_path / "films", out, *name, "--frames", "4", "--every", "5")
    assert (done.status, done.err) == (0, f"{ONE_BY_ONE}\n")
    rows = open_tokens(out)
    assert [(row.key, row.size[0]) for row in rows] == [("a.mkv#000000", 4), ("a.mkv#000005", 4)]
    made = vqtok("verify", out, "--sample", "1")
    assert "2 of 2 rows made again: 2 equal" in made.out
    assert vqtok("inspect", out, "-o", tmp_path / "sheet.png").status == 0
    whole = vqtok("tokenize", tmp_path / "films", tmp_path / "whole", *name)
    assert (whole.status, whole.err) == (0, f"{ONE_BY_ONE}\n")
    assert open_tokens(tmp_path / "whole")[0].size[0] == 9


def test_ranks_are_seen_and_one_of_them_speaks(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "tokens"
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert tokenize(source, out) == (0, b"", "")
    monkeypatch.setenv("RANK", "0")
    assert tokenize(source, out).out.startswith(f"{out}: 3 rows of 3 samples, 2 shards, ")


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    source = tmp_path / "photos"
    picture(source / "0.png")
    for number in range(1, 400):
        shutil.copy(source / "0.png", source / f"{number}.png")
    out = tmp_path / "tokens"
    command = [sys.executable, "-m", "vqtok", "tokenize", str(source), str(out)]
    options = ["--size", "128", "--shard-size", "4", "--batch", "4"]
    with subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True) as process:
        try:
            for _ in range(600):
                if (out / "done/00000.json").exists() or process.poll() is not None:
                    break
                time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert re.fullmatch(
        r"vqtok: stopped; \d+ of 100 shards are there\. The same command goes on from there\n", err
    )
    assert not os.path.exists(out / "manifest.json")
