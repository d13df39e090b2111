from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from autoencoders.toys import toy
from commandline import look, picture, pictures, residual, saved, tokenizer, vqtok

from vqtok import Codes, VisualTokenizer
from vqtok.commands.reconstruct import Report
from vqtok.metrics.pixels import psnr, ssim
from vqtok.preprocess import Preprocess, preprocess


def test_figures_are_those_of_the_metrics(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b/long name.png")
    done = vqtok("reconstruct", tmp_path, "-t", tokenizer())
    assert (done.status, done.err) == (0, "")
    tok = VisualTokenizer.from_pretrained(tokenizer())
    rows, used = [], set()
    for name in ("a.png", "b/long name.png"):
        seen = preprocess(tmp_path / name, tok.settings)[None]
        codes = tok.encode_codes([tmp_path / name])
        back = tok.decode_codes(codes, "np")[0][None]
        rows.append((psnr(seen, back)[0], ssim(seen, back)[0]))
        used |= set(codes[0].flatten().tolist())
    means = np.mean(rows, axis=0)
    assert done.out.splitlines() == [
        f"a.png            PSNR {rows[0][0]:6.2f} dB  SSIM {rows[0][1]:.4f}",
        f"b/long name.png  PSNR {rows[1][0]:6.2f} dB  SSIM {rows[1][1]:.4f}",
        f"mean of 2        PSNR {means[0]:6.2f} dB  SSIM {means[1]:.4f}  "
        f"{len(used)} of 64 codes used",
    ]
    assert sorted(p.name for p in tmp_path.rglob("*.*")) == ["a.png", "long name.png"]


@pytest.mark.parametrize(("options", "width"), [([], 16), (["--side-by-side"], 16 * 3 + 4 * 2)])
@pytest.mark.parametrize("folder", [tokenizer, residual])
def test_pictures_are_written(folder: Any, options: list[str], width: int, tmp_path: Path) -> None:
    pictures(tmp_path / "in", "a.jpg", "b/c.png")
    out = tmp_path / "out"
    done = vqtok("reconstruct", tmp_path / "in", "-t", folder(), "-o", out, *options)
    assert (done.status, done.err) == (0, "")
    for name in ("a.jpg.png", "b/c.png"):
        assert look(out / name).shape == (16, width, 3)
    total = 128 if folder is residual else 64
    assert re.search(rf"\d+ of {total} codes used$", done.out)


def test_codes_of_each_level_count_by_themselves(capsys: pytest.CaptureFixture[str]) -> None:
    tok = VisualTokenizer.from_pretrained(residual())
    ids = np.zeros((1, 4, 4, 2), np.int64)
    ids[0, 0, 0] = 5, 6
    report = Report(tok, ["a"], to_stderr=False)
    codes = Codes(ids, np.array([[16, 16]], np.int32), 64, depth=2)
    report.add("a", codes, [(30.0, 0.5)])
    report.end()
    assert capsys.readouterr().out.endswith("  4 of 128 codes used\n")


def test_one_picture_goes_into_a_file_or_a_pipe(tmp_path: Path) -> None:
    file = picture(tmp_path / "a.jpg")
    shown = vqtok("reconstruct", file, "-t", tokenizer())
    named = vqtok("reconstruct", file, "-t", tokenizer(), "-o", tmp_path / "b.png")
    assert named == shown
    data = file.read_bytes()
    piped = vqtok("reconstruct", "-", "-t", tokenizer(), "-o", "-", stdin=data)
    assert piped.raw == (tmp_path / "b.png").read_bytes()
    assert piped.err == shown.out.replace("a.jpg", "stdin")
    assert look(piped.raw).shape == (16, 16, 3)


def test_a_bad_picture_among_many_is_skipped(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    done = vqtok("reconstruct", tmp_path, "-t", tokenizer(), "-o", tmp_path / "out")
    assert (done.status, len(done.out.splitlines())) == (1, 2)
    assert done.err.endswith("vqtok: skipped 1 of 2 pictures\n")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.png"]


def test_only_bad_pictures_have_no_mean(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"no picture")
    done = vqtok("reconstruct", tmp_path, "-t", tokenizer())
    assert (done.status, done.raw) == (1, b"")


def test_a_picture_too_small_for_a_figure(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", size=(5, 5))
    picture(tmp_path / "b.png")
    done = vqtok("reconstruct", tmp_path, "-t", tokenizer(), "--policy", "native")
    assert (done.status, len(done.out.splitlines())) == (1, 2)
    assert done.err == (
        "vqtok: skipped: 'a.png': SSIM with the window 'uniform7' needs pictures of at least 7 x 7 "
        "pixels; got 4 x 4\nvqtok: skipped 1 of 2 pictures\n"
    )


def test_originals_are_not_overwritten(tmp_path: Path) -> None:
    file = picture(tmp_path / "a.png")
    before = file.read_bytes()
    for output in (str(tmp_path), str(file)):
        done = vqtok("reconstruct", file, "-t", tokenizer(), "-o", output)
        assert done == (
            2,
            b"",
            f"vqtok: --output {output!r} would overwrite the picture '{file}'\n",
        )
    assert file.read_bytes() == before


def test_outputs_that_cannot_be(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png")
    assert vqtok("reconstruct", tmp_path, "--side-by-side") == (
        2,
        b"",
        "vqtok: --side-by-side makes pictures: say where with --output\n",
    )
    for output in ("-", str(tmp_path / "c.png")):
        assert vqtok("reconstruct", tmp_path, "-o", output) == (
            2,
            b"",
            f"vqtok: {output!r} takes one picture, and there are 2; name a folder with --output\n",
        )


def test_a_quantizer_without_a_table(tmp_path: Path) -> None:
    folder = saved(
        tiny.tokenizer(
            quantizer="fsq", quantizer_args={"levels": (4, 4, 4, 4)}, num_vq_embeddings=256
        )
    )
    done = vqtok("reconstruct", picture(tmp_path / "a.png"), "-t", folder, "-o", tmp_path / "s.png",
                 "--side-by-side")  # fmt: skip
    assert (done.status, done.err) == (0, "")


@pytest.mark.parametrize("folder", [tokenizer, residual])
def test_extended_pictures_come_back_as_large_as_they_were(folder: Any, tmp_path: Path) -> None:
    file = picture(tmp_path / "a.png", size=(41, 30))
    options = "-t", folder(), "--policy", "extend"
    row = json.loads(vqtok("encode", file, *options).out)
    assert (row["size"], row["grid"]) == ([30, 41], [8, 11])
    lines = tmp_path / "codes.jsonl"
    lines.write_text(json.dumps(row))
    assert vqtok("decode", lines, "-t", folder(), "-o", tmp_path / "b.png").status == 0
    assert look(tmp_path / "b.png").shape == (30, 41, 3)
    done = vqtok("reconstruct", file, *options, "-o", tmp_path / "c.png")
    assert (done.status, done.err) == (0, "")
    assert (tmp_path / "b.png").read_bytes() == (tmp_path / "c.png").read_bytes()
    figure = psnr(look(file)[None], look(tmp_path / "b.png")[None])[0]
    assert f"PSNR {figure:6.2f} dB" in done.out


def sequence(kind: str) -> Path:
    """A tokenizer whose codes are no grid."""
    if kind == "scales":
        return saved(tiny.tokenizer(quantizer="multiscale", quantizer_args=SCALES))
    return saved(VisualTokenizer.from_model(toy("titok"), Preprocess(size=32)))


SCALES = {"scales": (1, 2, 4), "start": "kaiming"}


@pytest.mark.parametrize("kind", ["scales", "tokens"])
def test_codes_that_are_no_grid(kind: str, tmp_path: Path) -> None:
    file, lines, folder = picture(tmp_path / "a.png"), tmp_path / "codes.jsonl", sequence(kind)
    assert vqtok("encode", file, "-t", folder, "-o", lines) == (0, b"", "")
    row = json.loads(lines.read_text())
    assert row["grid"] == list(np.shape(row["codes"])) == [len(row["codes"])]
    assert row.get("scales") == ([[1, 1], [2, 2], [4, 4]] if kind == "scales" else None)
    assert vqtok("decode", lines, "-t", folder, "-o", tmp_path / "b.png") == (0, b"", "")
    options = "-t", folder, "-o"
    assert vqtok("reconstruct", file, *options, tmp_path / "c.png").status == 0
    assert (tmp_path / "b.png").read_bytes() == (tmp_path / "c.png").read_bytes()
    done = vqtok("reconstruct", file, *options, tmp_path / "d.png", "--side-by-side")
    assert (done.status, done.err) == (0, "")
    side = look(tmp_path / "c.png").shape[0]
    assert look(tmp_path / "d.png").shape == (side, 3 * side + 8, 3)
