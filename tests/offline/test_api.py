"""Data sets from Python: with a tokenizer that is an object, and with one that has a name."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import onnx_folders
import pytest
import tiny
from commandline import picture, pictures, saved

import vqtok.offline as offline
from vqtok.errors import ConfigError, InputError, LoadError, MismatchError
from vqtok.offline import job_status, open_tokens, retry_failed, tokenize, verify_tokens
from vqtok.offline.here import here
from vqtok.offline.job import SourceSpec
from vqtok.offline.jobs import Asked, planned
from vqtok.offline.launch import launch
from vqtok.offline.ledger import read_records
from vqtok.offline.named import called
from vqtok.offline.plan import Options
from vqtok.offline.progress import Progress
from vqtok.offline.store import open_store
from vqtok.tokenizer import VisualTokenizer
from vqtok.wanted import Wanted


@pytest.fixture(scope="module")
def tok() -> VisualTokenizer:
    return tiny.tokenizer()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return pictures(tmp_path / "photos", "cat/a.png", "dog/b.png", "dog/c.png")


def test_an_object_makes_a_data_set(source: Path, tmp_path: Path, tok: VisualTokenizer) -> None:
    seen: list[int] = []

    def watch(progress: Progress) -> None:
        seen.append(progress.rows)

    out = tmp_path / "tokens"
    manifest = tokenize(source, out, tok, views=["center", "hflip"], shard_size=2, watch=watch)
    assert (manifest.rows, manifest.failed, manifest.classes) == (6, 0, ["cat", "dog"])
    assert seen == [4, 6]
    assert len(open_tokens(out, expect=tok)) == 6
    assert job_status(out).complete
    assert verify_tokens(out, full=True) == []
    assert json.loads((out / "job.json").read_bytes())["tokenizer"] is None


def test_an_object_stays_in_its_process(source: Path, tmp_path: Path, tok: VisualTokenizer) -> None:
    with pytest.raises(ConfigError) as error:
        tokenize(source, tmp_path / "tokens", tok, processes=2)
    assert str(error.value) == (
        "a tokenizer that is given as an object cannot go to other processes; save it and give "
        "the folder's name, or make the data set in this process: engine='local' with processes=1"
    )


def test_an_object_has_its_precision(source: Path, tmp_path: Path, tok: VisualTokenizer) -> None:
    with pytest.raises(ConfigError) as error:
        tokenize(source, tmp_path / "tokens", tok, precision="bf16")
    assert str(error.value) == (
        "the tokenizer computes with ieee32; got precision='bf16'. Load it with that precision, or "
        "give its name"
    )


def test_backends_that_cannot_be(source: Path, tmp_path: Path, tok: VisualTokenizer) -> None:
    out, name = tmp_path / "tokens", saved(tok)
    unknown = "there is no backend called 'onxx'. Did you mean 'onnx'? Known: auto, onnx, torch."
    own = (
        "the tokenizer runs on torch already; got backend='onnx'. Load it with that backend, or "
        "give its name"
    )
    for given, backend, said in (
        (name, "onxx", unknown),
        (tok, "onxx", unknown),
        (tok, "onnx", own),
    ):
        with pytest.raises(ConfigError) as error:
            tokenize(source, out, given, backend=backend)
        assert str(error.value) == said
    assert not out.exists()
    tokenize(source, out, tok)
    told = (
        "backend='onnx' is of a tokenizer that is named here; without one, what the job had is "
        "taken"
    )
    for given, backend, said in (
        (name, "onxx", unknown),
        (None, "onxx", unknown),
        (tok, "onnx", own),
        (None, "onnx", told),
    ):
        with pytest.raises(ConfigError) as error:
            retry_failed(out, tokenizer=given, backend=backend)
        assert str(error.value) == said


def test_a_look_at_what_gpus_make_elsewhere(source: Path, tmp_path: Path) -> None:
    """A plan for other processes is made on the CPU, which has no TF32."""
    graphs = str(onnx_folders.folder(tmp_path / "graphs"))
    named = Wanted(name=graphs)
    asked = Asked(
        SourceSpec((str(source),)),
        str(tmp_path / "tokens"),
        named,
        named.load,
        Options("graphs"),
        device="cuda",
        precision="tf32",
    )
    job = planned(asked, launch("local", 2))
    assert (job.plan.tokenizer.precision, job.device) == ("tf32", "cuda")
    assert job.load.look().precision == "ieee32"  # type: ignore[attr-defined]
    with pytest.raises(ConfigError) as error:
        job.load("cpu")
    assert str(error.value) == "precision='tf32' is arithmetic of GPUs; the CPU has none"


def test_a_name_and_its_object_make_the_same_rows(
    source: Path, tmp_path: Path, tok: VisualTokenizer
) -> None:
    folder = saved(tok)
    one = tokenize(source, tmp_path / "one", folder)
    two = tokenize(source, tmp_path / "two", VisualTokenizer.from_pretrained(folder))
    assert one.parts == two.parts
    assert open_tokens(tmp_path / "one").plan.tokenizer.name == folder.name


def test_what_goes_to_other_processes_is_the_name(
    source: Path, tmp_path: Path, tok: VisualTokenizer
) -> None:
    out = tmp_path / "tokens"
    other = tok.with_preprocess(policy="extend")
    folder = saved(tok)
    tokenize(source, out, other)
    found = here(str(out), tokenizer=Wanted(name=str(folder)))
    assert found.loader is not None
    again = pickle.loads(pickle.dumps(found.loader))("cpu")
    assert again.fingerprint == other.fingerprint
    assert again.settings == other.settings


def test_retry_of_an_objects_set(source: Path, tmp_path: Path, tok: VisualTokenizer) -> None:
    (source / "dog/d.png").write_text("no picture")
    out = tmp_path / "tokens"
    assert tokenize(source, out, tok).failed == 1
    with pytest.raises(InputError) as error:
        retry_failed(out)
    assert str(error.value) == (
        f"'{out}' does not tell what it was made of, as it has no such entry in job.json: say "
        "which tokenizer it is with --tokenizer"
    )
    picture(source / "dog/d.png")
    with pytest.raises(MismatchError, match=r"tokenizer\.fingerprint\.codebook: planned "):
        retry_failed(out, tokenizer=tiny.tokenizer(1))
    assert retry_failed(out, tokenizer=tok).failed == 0
    assert retry_failed(out).failed == 0  # there is nothing to do, so nothing is asked for
    assert [row.label for row in open_tokens(out)] == ["cat", "dog", "dog", "dog"]


def test_a_retry_without_its_tokenizer(source: Path, tmp_path: Path, tok: VisualTokenizer) -> None:
    (source / "dog/d.png").write_text("no picture")
    out = tmp_path / "tokens"
    tokenize(source, out, tok)
    with pytest.raises(LoadError) as error:
        retry_failed(out, tokenizer=tmp_path / "gone")
    assert str(error.value).startswith(f"the tokenizer of '{out}' cannot be loaded here: ")
    assert str(error.value).endswith(". Say where it is with --tokenizer")


def test_a_resumed_job_counts_what_a_retry_brought(
    source: Path, tmp_path: Path, tok: VisualTokenizer
) -> None:
    (source / "dog/d.png").write_text("no picture")
    out = tmp_path / "tokens"
    tokenize(source, out, tok)
    picture(source / "dog/d.png")
    retry_failed(out, tokenizer=tok)
    assert tokenize(source, out, tok, max_failed=0).rows == 4


def test_where_samples_are_decoded(source: Path, tmp_path: Path, tok: VisualTokenizer) -> None:
    with pytest.raises(ConfigError) as error:
        tokenize(source, tmp_path / "tokens", tok, decode_in="gpu")  # type: ignore[arg-type]
    assert str(error.value) == "decode_in is 'threads' or 'processes'; got 'gpu'"
    light = tok.with_preprocess(resize="pillow-bicubic")
    one = tokenize(source, tmp_path / "one", light)
    other = tokenize(source, tmp_path / "other", light, decode_in="processes", decoders=1)
    assert one.dataset_sha256 == other.dataset_sha256


def test_a_source_that_goes_away(tmp_path: Path, tok: VisualTokenizer) -> None:
    source = pictures(tmp_path / "photos", *(f"{number}.png" for number in range(6)))
    held = {path: path.read_bytes() for path in source.iterdir()}

    def unplug(progress: Progress) -> None:
        for path in held:
            path.unlink(missing_ok=True)

    out = tmp_path / "tokens"
    with pytest.raises(LoadError, match=r"^nothing of shard [12] could be read, 2 samples: "):
        tokenize(source, out, tok, shard_size=2, watch=unplug)
    for path, content in held.items():
        path.write_bytes(content)
    before = job_status(out).left
    manifest = tokenize(source, out, tok, shard_size=2)
    assert before and (manifest.rows, manifest.failed) == (6, 0)
    more = tmp_path / "more"
    manifest = tokenize(source, more, tok, shard_size=2, watch=unplug, max_failed="100%")
    assert manifest.rows + manifest.failed == 6 and manifest.failed_by_stage["read"] >= 2


def test_latents_and_buckets(source: Path, tmp_path: Path, tok: VisualTokenizer) -> None:
    manifest = tokenize(source, tmp_path / "tokens", tok, what="latents", buckets="16x16,8x24")
    assert manifest.latents is not None
    assert manifest.codes is None
    assert {row.size for row in open_tokens(tmp_path / "tokens")} <= {(16, 16), (8, 24)}


def test_a_launcher_makes_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(launch().engine).__name__ == "Local"
    monkeypatch.setenv("SLURM_PROCID", "1")
    monkeypatch.setenv("SLURM_NTASKS", "2")
    chosen = launch()
    assert (type(chosen.engine).__name__, chosen.here, chosen.leads) == ("Ranks", True, False)
    assert type(launch(processes=2).engine).__name__ == "Local"
    assert launch(rank="0/3").leads


def test_what_a_plan_calls_a_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "mine/tokenizer").mkdir(parents=True)
    assert called(str(tmp_path / "mine")) == "mine"
    assert called(str(tmp_path / "mine/tokenizer")) == "mine"
    assert called("org/name") == "org/name"


def test_the_names_are_lazy_and_listed() -> None:
    assert sorted(offline.__all__) == sorted(offline._HOMES)
    for name in offline.__all__:
        assert getattr(offline, name).__name__ == name


def test_reading_brings_no_torch() -> None:
    code = "import sys; from vqtok.offline import open_tokens; print({'torch'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_ranks_that_come_late_do_not_try_again(
    source: Path, tmp_path: Path, tok: VisualTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "dog/d.png").write_bytes(b"no picture")
    out = tmp_path / "tokens"
    before = tokenize(source, out, tok)
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "17")
    for rank in ("0/3", "1/3", "2/3"):
        assert retry_failed(out, tokenizer=tok, rank=rank) == before
    attempts = {record.attempt for record in read_records(open_store(str(out)))}
    assert attempts == {0, 1}
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "18")
    assert retry_failed(out, tokenizer=tok, rank="2/3") == before
    assert {record.attempt for record in read_records(open_store(str(out)))} == {0, 1, 2}
