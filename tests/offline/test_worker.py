from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import token_rows
import torch
from offline.jobs import changed, expected, job, made, pictures, quiet, rows_of, smooth
from source_files import pan, png, write, write_tar, write_video

from vqtok import VisualTokenizer
from vqtok.errors import InputError, LoadError, MismatchError
from vqtok.offline.api import tokenize
from vqtok.offline.decode import Decoder
from vqtok.offline.gather import Gathered, _Column
from vqtok.offline.job import SourceSpec
from vqtok.offline.latents import Encoded
from vqtok.offline.ledger import record_name
from vqtok.offline.plan import ClipPlan
from vqtok.offline.records import Failure, Record, unpack_histogram
from vqtok.offline.store import open_store
from vqtok.offline.worker import Worker, open_spec
from vqtok.sources import Sample, open_source


def test_a_shard_is_the_codes_of_each_picture(tmp_path: Path) -> None:
    root, tok = pictures(tmp_path / "in"), tiny.tokenizer()
    work = job(root, tmp_path / "out", tok, views=["center", "hflip"])
    result = made(work, 1)
    rows = rows_of(result, work, tmp_path / "back")
    assert rows.keys == ["04.png", "04.png", "05.png", "05.png", "06.png", "06.png"]
    assert rows.views == ["center", "hflip"] * 3
    assert rows.codes is not None and rows.codes[0].dtype == np.uint16
    for number, key in enumerate(rows.keys[::2]):
        np.testing.assert_array_equal(rows.codes[2 * number], expected(root, tok, key))
    assert rows.boxes[0].tolist() == [0, 2, 20, 20]
    assert rows.flips.tolist() == [False, True] * 3
    assert rows.sizes.tolist() == [[16, 16]] * 6 and rows.grids.tolist() == [[4, 4]] * 6


def test_the_record_counts_what_is_there(tmp_path: Path) -> None:
    work = job(pictures(tmp_path / "in", 5, bad=(1,)), tmp_path / "out")
    record = made(work).record
    assert (record.shard, record.attempt, record.plan) == (0, 0, work.plan.hash)
    assert (record.planned, record.rows, record.lost) == (4, 3, 1)
    assert record.failed == [
        Failure(
            key="01.png",
            index=1,
            rows=1,
            stage="decode",
            reason="is not a picture in a format that Pillow reads here",
        )
    ]
    assert record.histogram is not None and record.moments is None
    counts = unpack_histogram(record.histogram)
    rows = rows_of(made(work), work, tmp_path / "back")
    np.testing.assert_array_equal(counts, np.bincount(np.ravel(rows.codes), minlength=64))


@pytest.mark.parametrize("change", [{"decoders": 1}, {"decoders": 5}])
def test_bytes_depend_on_no_decoders(tmp_path: Path, change: dict[str, int]) -> None:
    work = job(pictures(tmp_path / "in", 9, bad=(2,)), tmp_path / "out", shard_size=9, batch=2)
    one, other = made(work), made(changed(work, **change))
    assert one.files == other.files and one.record == other.record


def test_processes_decode_the_same(tmp_path: Path) -> None:
    # Pillow's resize, for torch takes seconds to begin with in each process.
    tok = tiny.tokenizer().with_preprocess(resize="pillow-bicubic")
    work = job(pictures(tmp_path / "in", 5, bad=(2,)), tmp_path / "out", tok, shard_size=5)
    one, other = made(work), made(changed(work, decode_in="processes"))
    assert one.files == other.files and one.record == other.record


def test_a_row_has_its_place_in_a_batch_by_its_number(tmp_path: Path, monkeypatch: Any) -> None:
    """So a failed one, or one that a retry leaves out, is zeros, and nothing else moves."""
    root, tok = pictures(tmp_path / "in", 6, bad=(1,)), tiny.tokenizer()
    seen = watch(tok, monkeypatch)
    work = job(root, tmp_path / "out", tok, shard_size=6)
    with Worker(work, "cpu") as worker:
        worker.run(0, quiet)
    assert [batch.shape for batch in seen] == [(4, 16, 16, 3)] * 2
    assert [[bool(row.any()) for row in batch] for batch in seen] == [
        [True, False, True, True],
        [True, True, False, False],
    ]
    write(root / "01.png", png(smooth(1)))
    seen.clear()
    again = made(changed(work, attempt=1))
    assert [[bool(row.any()) for row in batch] for batch in seen] == [[False, True, False, False]]
    rows = rows_of(again, work, tmp_path / "back")
    assert rows.keys == ["01.png"] and sorted(again.files)[0].startswith("00000_1.")
    assert (again.record.attempt, again.record.planned, again.record.rows) == (1, 1, 1)
    np.testing.assert_array_equal(rows[0].codes, expected(root, tok, "01.png"))


def watch(tok: VisualTokenizer, monkeypatch: Any) -> list[Any]:
    """The batches that go through a tokenizer's codec, as they are then."""
    seen: list[Any] = []
    encode = tok.codec.encode

    def watched(pixels: Any) -> Any:
        seen.append(pixels.copy())
        return encode(pixels)

    monkeypatch.setattr(tok.codec, "encode", watched)
    return seen


def test_a_shard_of_failures_has_no_rows(tmp_path: Path) -> None:
    work = job(pictures(tmp_path / "in", 3, bad=(0, 1, 2)), tmp_path / "out")
    record = made(work).record
    assert (record.planned, record.rows, len(record.failed)) == (3, 0, 3)


GONE = (
    "nothing of shard 0 could be read, {count} samples: '00.png' (read: its file is not there); "
    "'01.png' (read: its file is not there){more}. Start again when the source is back, or pass "
    "--max-failed 100% (max_failed='100%') to list them as failed"
)


def test_a_source_that_is_gone_ends_the_job(tmp_path: Path) -> None:
    root = pictures(tmp_path / "in", 4)
    work = job(root, tmp_path / "out", shard_size=2)
    with Worker(work, "cpu") as worker:
        for name in ("00.png", "01.png"):
            (root / name).unlink()
        record = worker.make(0, quiet).record  # the others are there
        assert [(each.key, each.stage) for each in record.failed] == [
            ("00.png", "read"),
            ("01.png", "read"),
        ]
        for file in root.glob("*.png"):
            file.unlink()
        with pytest.raises(LoadError) as error:
            worker.make(0, quiet)
        assert str(error.value) == GONE.format(count=2, more="")
    with Worker(changed(work, all_may_fail=True, opened=worker_source(worker)), "cpu") as worker:
        assert worker.make(1, quiet).record.rows == 0


def worker_source(worker: Worker) -> Any:
    return worker._pipeline._decoder.source


def test_many_samples_that_are_no_pictures(tmp_path: Path) -> None:
    root = pictures(tmp_path / "in", 8, bad=tuple(range(8)))
    work = job(root, tmp_path / "out", shard_size=8)
    with pytest.raises(LoadError) as error:
        made(work)
    assert str(error.value).startswith(
        "nothing of shard 0 could be read, 8 samples: '00.png' (decode: is not a picture in "
        "a format that Pillow reads here); "
    )
    assert made(changed(work, all_may_fail=True)).record.rows == 0


def test_many_samples_do_not_fail_by_chance(tmp_path: Path) -> None:
    root = pictures(tmp_path / "in", 9)
    work = job(root, tmp_path / "out", shard_size=8)
    with Worker(work, "cpu") as worker:
        for number in range(8):
            (root / f"{number:02d}.png").unlink()
        with pytest.raises(LoadError) as error:
            worker.make(0, quiet)
    third = "; '02.png' (read: its file is not there)"
    assert str(error.value) == GONE.format(count=8, more=third)


class Shaky:
    """Pictures of which the first tries to read raise."""

    is_video = False

    def __init__(self, error: Exception, times: int) -> None:
        self.keys = ["a", "b"]
        self.error, self.left = error, times
        self.reads = 0

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        self.reads += 1
        if index == 0 and self.left:
            self.left -= 1
            raise self.error
        return Sample(self.keys[index], smooth(index), {})


@pytest.mark.parametrize(
    ("error", "times", "reads", "failed"),
    [
        (OSError(5, "Input/output error"), 2, 3, 0),
        (OSError(5, "Input/output error"), 9, 3, 1),
        (FileNotFoundError(2, "No such file"), 1, 1, 1),
        (LoadError("the cls file is no number"), 1, 1, 1),
    ],
)
def test_reading_is_tried_again(
    error: Exception, times: int, reads: int, failed: int, monkeypatch: Any
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("vqtok.offline.decode.time.sleep", pauses.append)
    source = Shaky(error, times)
    decoder = Decoder(source, token_rows.plan(source.keys))
    found = decoder([0])
    assert source.reads == reads and pauses == [0.2, 1.0][: reads - 1]
    assert [each.stage for each in found if isinstance(each, Failure)] == ["read"] * failed
    if times == 9:  # until something can be read again, nobody waits
        decoder([0, 1, 0])
        assert (source.reads, len(pauses)) == (3 + 1 + 1 + 3, 4)


def test_an_opened_source_is_not_opened_again(tmp_path: Path, monkeypatch: Any) -> None:
    root, tok = pictures(tmp_path / "in", 4), tiny.tokenizer()
    opened: list[Any] = []

    def watched(*given: Any) -> Any:
        opened.append(given)
        return open_source(*given)

    monkeypatch.setattr("vqtok.offline.worker.open_source", watched)
    assert tokenize(root, tmp_path / "out", tok, shard_size=2).rows == 4
    assert len(opened) == 1


def test_columns_of_open_sizes_take_what_rows_take() -> None:
    plan = token_rows.plan(batch=1)
    Gathered(plan, range(1 << 40)).put(
        Encoded([0], (4, 4), (), np.zeros((1, 4, 4), np.uint16), None, [])
    )
    column = _Column(1 << 40, alone=True)
    column.put([3], np.zeros((1, 4, 8, 8), np.float16))
    column.put([7], np.ones((1, 4, 8, 8), np.float16))
    assert np.shape(column.take([3, 7])) == (2, 4, 8, 8)
    assert column.take([]) is None


def test_labels_text_and_columns_are_carried(tmp_path: Path) -> None:
    members = {}
    for number in range(2):
        members |= {
            f"{number}.png": png(smooth(number)),
            f"{number}.cls": str(number).encode(),
            f"{number}.txt": b"a picture",
            f"{number}.json": b'{"score": 1.5}',
        }
    write_tar(tmp_path / "in.tar", members | {"2.png": png(smooth(2))})
    work = job(tmp_path / "in.tar", tmp_path / "out")
    result = made(work)
    rows = rows_of(result, work, tmp_path / "back")
    assert work.plan.label == "int" and rows.labels == [0, 1, None]
    assert rows.texts == ["a picture", "a picture", None]
    assert rows.columns == ['{"json":{"score":1.5}}'] * 2 + [""]
    assert result.record.labels == {"0": 1, "1": 1}


def test_a_label_of_another_kind_fails(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "in", 2)
    write(folder / "metadata.jsonl", '{"file_name": "00.png", "label": 3}\n')
    work = job(folder, tmp_path / "out")
    write(folder / "metadata.jsonl", '{"file_name": "00.png", "label": "three"}\n')
    failed = made(work).record.failed
    assert [(each.stage, each.reason) for each in failed] == [
        ("columns", "its label 'three' is text; those of this data set are whole numbers")
    ]


def test_labels_that_nobody_planned_stay_among_columns(tmp_path: Path) -> None:
    root = pictures(tmp_path / "in", 3)
    work = job(root, tmp_path / "out")
    write(root / "metadata.csv", "file_name,label\n01.png,3\n02.png,4\n")
    said = (
        r"^the sample '01.png' has the label 3, and none that was looked at for the plan had one: "
        "labels stay among the columns of this data set$"
    )
    with pytest.warns(UserWarning, match=said) as warned:
        rows = rows_of(made(changed(work, decoders=1)), work, tmp_path / "back")
    assert len(warned) == 1
    assert rows.labels == [None] * 3 and rows.columns == ["", '{"label":3}', '{"label":4}']


def test_videos_without_a_clip(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", pan(5), "libx264")
    with pytest.raises(LoadError) as error:
        open_spec(SourceSpec((str(tmp_path),)), ClipPlan(frames=6))
    assert str(error.value) == (
        "no clip can be cut: 5 frames at the ends of videos or scenes make no whole clip and are "
        "left out; 1 of 1 videos have no clip at all"
    )


def test_pictures_that_keep_their_size_go_by_themselves(tmp_path: Path) -> None:
    root = tmp_path / "in"
    sizes = [(20, 24), (17, 30), (20, 24)]
    for number, (height, width) in enumerate(sizes):
        write(root / f"{number}.png", png(smooth(number, height, width)))
    tok = tiny.tokenizer().with_preprocess(policy="extend")
    work = job(root, tmp_path / "out", tok)
    rows = rows_of(made(work), work, tmp_path / "back")
    assert work.plan.batch == 1
    assert rows.sizes.tolist() == [[20, 24], [17, 30], [20, 24]]
    assert rows.grids.tolist() == [[5, 6], [5, 8], [5, 6]]
    for row in rows:
        np.testing.assert_array_equal(row.codes, expected(root, tok, row.key))


def test_buckets_have_batches_of_their_own(tmp_path: Path, monkeypatch: Any) -> None:
    root, tok = tmp_path / "in", tiny.tokenizer()
    for number in range(5):
        size = (20, 20) if number % 2 else (16, 32)
        write(root / f"{number}.png", png(smooth(number, *size)))
    seen = watch(tok, monkeypatch)
    work = job(root, tmp_path / "out", tok, buckets=[(16, 16), (12, 24)], batch=2, shard_size=5)
    rows = rows_of(made(work), work, tmp_path / "back")
    assert [batch.shape for batch in seen] == [(2, 12, 24, 3), (2, 16, 16, 3), (2, 12, 24, 3)]
    assert rows.keys == [f"{number}.png" for number in range(5)]
    assert rows.grids.tolist() == [[3, 6], [4, 4], [3, 6], [4, 4], [3, 6]]
    wide = tok.with_preprocess(size=(12, 24))
    for row in rows:
        own = tok if row.grid == (4, 4) else wide
        np.testing.assert_array_equal(row.codes, expected(root, own, row.key))


def test_a_model_that_refuses_one_row_loses_no_other(tmp_path: Path, monkeypatch: Any) -> None:
    root, tok = pictures(tmp_path / "in", 4), tiny.tokenizer()
    plain = made(job(root, tmp_path / "out", tok))
    encode = tok.codec.encode
    third = encode_pixels(root / "02.png", tok)

    def picky(pixels: Any) -> Any:
        if any(np.array_equal(row, third) for row in pixels):
            raise InputError("the encoder's output is not finite")
        return encode(pixels)

    monkeypatch.setattr(tok.codec, "encode", picky)
    work = job(root, tmp_path / "out", tok)
    result = made(work)
    assert [(each.key, each.stage, each.reason) for each in result.record.failed] == [
        ("02.png", "encode", "the encoder's output is not finite")
    ]
    rows = rows_of(result, work, tmp_path / "back")
    whole = rows_of(plain, work, tmp_path / "all")
    assert rows.codes is not None and whole.codes is not None
    np.testing.assert_array_equal(rows.codes, [whole.codes[n] for n in (0, 1, 3)])


def fails_on(tok: VisualTokenizer, height: int, error: Exception, monkeypatch: Any) -> None:
    """Has the encoder raise for pictures of a height."""
    encode = tok.codec.encode

    def picky(pixels: Any) -> Any:
        if pixels.shape[1] == height:
            raise error
        return encode(pixels)

    monkeypatch.setattr(tok.codec, "encode", picky)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (torch.OutOfMemoryError("Tried 9 GiB"), "the device has not enough memory for it"),
        (MemoryError(), "the device has not enough memory for it"),
        (RuntimeError("no kernel"), "no kernel"),
    ],
)
def test_a_picture_that_the_device_cannot_take_loses_no_other(
    tmp_path: Path, monkeypatch: Any, error: Exception, reason: str
) -> None:
    root = pictures(tmp_path / "in", 2)
    write(root / "large.png", png(smooth(2, 64, 64)))
    tok = tiny.tokenizer().with_preprocess(policy="extend")
    fails_on(tok, 64, error, monkeypatch)
    record = made(job(root, tmp_path / "out", tok)).record
    assert record.rows == 2
    assert [(each.key, each.stage, each.reason) for each in record.failed] == [
        ("large.png", "encode", reason)
    ]


def test_a_device_that_is_lost_ends_the_shard(tmp_path: Path, monkeypatch: Any) -> None:
    if not hasattr(torch, "AcceleratorError"):
        pytest.skip("this torch does not tell such errors from others")
    tok = tiny.tokenizer().with_preprocess(policy="extend")
    work = job(pictures(tmp_path / "in", 2), tmp_path / "out", tok)
    fails_on(tok, 20, torch.AcceleratorError("an illegal memory access", 700), monkeypatch)
    with pytest.raises(torch.AcceleratorError):
        made(work)


def test_batches_that_the_device_has_no_memory_for(tmp_path: Path, monkeypatch: Any) -> None:
    tok = tiny.tokenizer()
    work = job(pictures(tmp_path / "in", 2), tmp_path / "out", tok)
    fails_on(tok, 16, torch.OutOfMemoryError("Tried to allocate 20.00 GiB"), monkeypatch)
    with pytest.raises(LoadError) as error:
        made(work)
    assert str(error.value) == (
        "cpu has not enough memory for batches of 4 rows of 16 x 16 pixels; make a data set with a "
        "smaller batch (--batch), or take a larger device"
    )


def encode_pixels(path: Path, tok: VisualTokenizer) -> Any:
    from vqtok.preprocess import prepare

    return prepare(path, tok.settings).pixels


def test_what_a_beat_raises_ends_the_shard(tmp_path: Path) -> None:
    work = job(pictures(tmp_path / "in", 8), tmp_path / "out", shard_size=8, batch=2)

    def taken(rows: int = 0) -> None:
        raise LookupError("this shard is somebody else's")

    with Worker(work, "cpu") as worker:
        with pytest.raises(LookupError):
            worker.make(0, taken)
        assert worker.make(0, quiet).files == made(work).files


def test_beats_come_with_batches(tmp_path: Path) -> None:
    beats: list[int] = []
    work = job(pictures(tmp_path / "in", 7), tmp_path / "out", shard_size=7, batch=2)
    with Worker(work, "cpu") as worker:
        worker.make(0, lambda rows=0: beats.append(1))
    assert len(beats) == 4 + 1  # and one for what was decoded together


def test_shards_are_committed_while_the_next_is_made(tmp_path: Path) -> None:
    work = job(pictures(tmp_path / "in", 8), tmp_path / "out")
    with Worker(work, "cpu") as worker:
        outcomes = [worker.start(shard, quiet) for shard in (0, 1, 0)]
        assert [each.result() for each in outcomes] == ["won", "won", "lost"]
    store = open_store(work.out)
    record = Record.from_bytes(store.get(record_name(1)), "done/00001.json")
    assert (record.shard, record.rows) == (1, 4)


def test_an_error_in_writing_is_raised_by_the_next_start(tmp_path: Path, monkeypatch: Any) -> None:
    work = job(pictures(tmp_path / "in", 8), tmp_path / "out")
    with Worker(work, "cpu") as worker:

        def full(*_: Any) -> None:
            raise LoadError("no space left")

        monkeypatch.setattr("vqtok.offline.worker.commit", full)
        worker.start(0, quiet)
        with pytest.raises(LoadError, match=r"^no space left$"):
            worker.start(1, quiet)


def test_how_long_who_waited(tmp_path: Path) -> None:
    work = job(pictures(tmp_path / "in", 4), tmp_path / "out")
    timing = made(work).timing
    assert timing is not None and sorted(timing.waits) == ["decode", "encode", "write"]
    assert 0 <= timing.waits["decode"] <= timing.seconds
    assert (timing.rows, timing.failed, timing.pid) == (4, 0, os.getpid())


# --- refusals -------------------------------------------------------------------------------------


def test_another_source_is_refused(tmp_path: Path) -> None:
    root = pictures(tmp_path / "in", 3)
    work = job(root, tmp_path / "out")
    write(root / "new.png", png(smooth(9)))
    with pytest.raises(MismatchError) as error:
        Worker(work, "cpu")
    listing = work.plan.source.listing[:16]
    text = str(error.value)
    assert text.startswith(f"this is not what was planned: source.listing: planned {listing}, now ")
    assert text.endswith("; source.samples: planned 3, now 4")


def test_another_tokenizer_is_refused(tmp_path: Path) -> None:
    work = job(pictures(tmp_path / "in", 3), tmp_path / "out")
    other = tiny.tokenizer(seed=1)
    here, there = work.plan.tokenizer.fingerprint, other.fingerprint.to_dict()
    with pytest.raises(MismatchError) as error:
        Worker(changed(work, load=lambda device: other), "cpu")
    assert str(error.value) == "this is not what was planned: " + "; ".join(
        f"tokenizer.fingerprint.{part}: planned {here[part][:16]}, now {there[part][:16]}"
        for part in ("codebook", "encoder")
    )


def test_another_decoder_is_taken(tmp_path: Path) -> None:
    tok = tiny.tokenizer()
    work = job(pictures(tmp_path / "in", 3), tmp_path / "out", tok)
    model = tiny.model()
    with torch.no_grad():
        model.decoder.conv_out.bias += 1
    other = VisualTokenizer.from_model(model, tok.settings)
    assert other.fingerprint.differences(tok.fingerprint) == ["decoder"]
    assert made(changed(work, load=lambda device: other)).files == made(work).files


def test_other_preprocessing_is_refused(tmp_path: Path) -> None:
    work = job(pictures(tmp_path / "in", 3), tmp_path / "out")
    other = tiny.tokenizer().with_preprocess(resize="pillow-bicubic")
    here, there = work.plan.tokenizer.fingerprint, other.fingerprint.to_dict()
    with pytest.raises(MismatchError) as error:
        Worker(changed(work, load=lambda device: other), "cpu")
    assert str(error.value) == (
        'this is not what was planned: preprocess.resize: planned "torch-u8-bicubic", now '
        f'"pillow-bicubic"; tokenizer.fingerprint.preprocess: planned {here["preprocess"][:16]}, '
        f"now {there['preprocess'][:16]}"
    )


def test_a_tokenizer_that_computes_something_else_is_refused(tmp_path: Path) -> None:
    tiny.tokenizer().save_pretrained(tmp_path / "tok")
    tok = VisualTokenizer.from_pretrained(tmp_path / "tok")
    assert tok.codec.verify().verdict in ("exact", "near ties")
    assert tiny.tokenizer().codec.verify().verdict == "unchecked"
    with torch.no_grad():
        tok.model.encoder.conv_in.bias += 1
    with pytest.raises(MismatchError) as error:
        tok.codec.verify()
    assert str(error.value).startswith(
        f"the tokenizer in '{tmp_path / 'tok'}' does not compute here what it did where it was "
        "saved: refused"
    )
