from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from commandline import picture, pictures, residual, tokenizer, vqtok
from metric_weights import VARIABLES, random_weights
from PIL import Image

from vqtok import VisualTokenizer
from vqtok.autoencoders.video import AutoencoderVQTimesformer
from vqtok.evaluation import Metrics, evaluate
from vqtok.evaluation.report import versions
from vqtok.metrics.pixels import psnr
from vqtok.preprocess import Preprocess, preprocess
from vqtok.sources import held_out

QUICK = "psnr,usage,quantization,bits_per_pixel"


@pytest.fixture(autouse=True)
def no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """None on this machine."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "none"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return pictures(tmp_path / "photos", "a.png", "b.png", "c/d.png", "c/e.png", "f.png")


def report(*arguments: str | Path) -> dict[str, Any]:
    done = vqtok("eval", *arguments, "--json")
    assert (done.status, done.err) == (0, "")
    found: dict[str, Any] = json.loads(done.out)
    return found


def flat(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for inner in value.values() for number in flat(inner)]
    if isinstance(value, list):
        return [number for inner in value for number in flat(inner)]
    return [] if value is None else [value]


def test_the_report(photos: Path, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    done = vqtok("eval", tokenizer(), "--data", photos, "-o", file)
    assert (done.status, done.err) == (0, "")
    found = json.loads(file.read_text())
    assert file.read_text() == vqtok("eval", tokenizer(), "--data", photos, "--json").out
    tok = VisualTokenizer.from_pretrained(tokenizer())
    keys = ["a.png", "b.png", "c/d.png", "c/e.png", "f.png"]
    seen = np.stack([preprocess(photos / key, tok.settings) for key in keys])
    x = torch.from_numpy(seen).permute(0, 3, 1, 2)
    expected = evaluate(tok.model, [x], Metrics.load())
    assert found.pop("schema") == "vqtok-eval/1"
    assert found.pop("provenance") == {
        "samples": {
            "chosen": 5,
            "of": 5,
            "skipped": 0,
            "skipped_by_error": {},
            "keys_sha256": hashlib.sha256("\0".join(keys).encode()).hexdigest(),
        },
        "preprocessing": tok.settings.model_dump(mode="json"),
        "tokenizer": {
            "fingerprint": tok.fingerprint.to_dict(),
            "codebook_size": 64,
            "codes_per_token": 1,
        },
        "precision": "ieee32",
        "device": "cpu",
        "weights": {},
        "versions": versions(),
    }
    metrics = found.pop("metrics")
    assert flat(metrics) == pytest.approx(flat(expected.pop("metrics")), rel=1e-5)
    assert found == expected
    lines = done.out.splitlines()
    assert lines[0].split() == ["pictures", "5"]
    assert f"{metrics['psnr']:.2f} dB" in lines[1]
    assert lines[-1].startswith("rfid, ris: no weights of FID's Inception: ")


def test_batches_change_nothing(photos: Path) -> None:
    pictures(photos, "wide.png")
    picture(photos / "wide.png", size=(64, 32))
    options = "--data", photos, "--policy", "native", "--metrics", QUICK
    found = [report(tokenizer(), *options, "--batch-size", str(size)) for size in (1, 4)]
    assert flat(found[1]["metrics"]) == pytest.approx(flat(found[0]["metrics"]), rel=1e-4)
    assert found[1]["provenance"] == found[0]["provenance"]
    assert found[0]["counts"] == {"pictures": 6}
    assert found[0]["metrics"]["bits_per_pixel"] == 6 / 16


def test_repeated_edges_are_in_no_figure(tmp_path: Path) -> None:
    names = [(41, 30), (41, 31), (44, 32)]
    for number, size in enumerate(names):
        picture(tmp_path / "in" / f"{number}.png", seed=number, size=size)
    metrics = "psnr,bits_per_pixel"
    options = "--data", tmp_path / "in", "--policy", "extend", "--metrics", metrics
    found = report(tokenizer(), *options)["metrics"]
    tok = VisualTokenizer.from_pretrained(tokenizer()).with_preprocess(policy="extend")
    figures, pixels = [], 0
    for number in range(3):
        with Image.open(tmp_path / "in" / f"{number}.png") as shown:
            original = np.asarray(shown)
        height, width = original.shape[:2]
        seen = preprocess(original, tok.settings)
        assert seen.shape[:2] == (32, 44)
        back = tok.decode_codes(tok.encode_pixels([seen]), "np")[0][:height, :width]
        figures.append(psnr(original[None], back[None])[0])
        pixels += height * width
    assert found["psnr"] == pytest.approx(np.mean(figures), rel=1e-4)
    assert found["bits_per_pixel"] == pytest.approx(3 * 8 * 11 * 6 / pixels)


def test_several_codes_a_token(photos: Path) -> None:
    found = report(residual(), "--data", photos, "--metrics", "usage")
    assert len(found["metrics"]["usage"]) == 2
    done = vqtok("eval", residual(), "--data", photos, "--metrics", "usage")
    assert "codebook 2: perplexity" in done.out


def test_settings_that_are_asked_for(photos: Path) -> None:
    found = report(
        tokenizer(), "--data", photos, "--size", "32", "--policy", "stretch", "--metrics", "psnr"
    )
    tok = VisualTokenizer.from_pretrained(tokenizer())
    other = tok.with_preprocess(size=32, policy="stretch")
    assert found["provenance"]["preprocessing"] == other.settings.model_dump(mode="json")
    assert found["provenance"]["tokenizer"]["fingerprint"] == other.fingerprint.to_dict()
    assert list(found["metrics"]) == ["psnr", "psnr_of_mean_mse"]


def test_held_out_and_limited(photos: Path) -> None:
    keys = ["a.png", "b.png", "c/d.png", "c/e.png", "f.png"]
    held = [keys[index] for index in held_out(keys, 3)[1]]
    for options, expected in (
        (["--hold-out", "3"], held),
        (["--hold-out", "3", "--limit", "2"], held[:2]),
        (["--limit", "1"], keys[:1]),
    ):
        found = report(tokenizer(), "--data", photos, "--metrics", "psnr", *options)
        assert found["counts"] == {"pictures": len(expected)}
        digest = hashlib.sha256("\0".join(expected).encode()).hexdigest()
        assert found["provenance"]["samples"]["keys_sha256"] == digest
        assert found["provenance"]["samples"]["of"] == 5


def test_a_run_stands_for_its_tokenizer(photos: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "settings.yaml").write_text("name: run\n")
    options = "--data", photos, "--metrics", "psnr"
    assert vqtok("eval", run, *options) == (
        2,
        b"",
        f"vqtok: the run {str(run)!r} has no tokenizer yet; it gets one when training ends\n",
    )
    shutil.copytree(tokenizer(), run / "tokenizer")
    assert report(run, *options) == report(tokenizer(), *options)


def test_a_bad_picture_among_many_is_skipped(photos: Path) -> None:
    (photos / "bad.png").write_bytes(b"no picture")
    done = vqtok("eval", tokenizer(), "--data", photos, "--metrics", "psnr", "--json")
    assert done.status == 1
    named, summary = done.err.splitlines()
    assert named.startswith("vqtok: skipped: the sample 'bad.png' ")
    assert summary == "vqtok: skipped 1 of 6 pictures"
    found = json.loads(done.out)
    assert found["counts"] == {"pictures": 5}
    samples = found["provenance"]["samples"]
    assert (samples["chosen"], samples["skipped"]) == (6, 1)
    assert samples["skipped_by_error"] == {"ImageError": 1}


def test_only_bad_pictures_give_no_report(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"no picture")
    file = tmp_path / "report.json"
    done = vqtok("eval", tokenizer(), "--data", tmp_path, "-o", file, "--metrics", "psnr")
    assert (done.status, done.raw, file.exists()) == (1, b"", False)


def test_metrics_by_name_need_their_weights(photos: Path, tmp_path: Path) -> None:
    done = vqtok("eval", tokenizer(), "--data", photos, "--metrics", "psnr,rfid")
    assert (done.status, done.raw) == (2, b"")
    assert done.err.startswith("vqtok: no weights of FID's Inception: ")
    nowhere = tmp_path / "none.pth"
    done = vqtok("eval", tokenizer(), "--data", photos, "--inception", nowhere)
    assert done.err == (
        f"vqtok: no weights of FID's Inception: the path given says {nowhere}, which is not there\n"
    )


def test_weights_by_path_are_in_the_report(photos: Path, tmp_path: Path) -> None:
    file = random_weights(tmp_path, "alexnet")
    options = "--data", photos, "--size", "32", "--metrics", "lpips_alex"
    found = report(tokenizer(), *options, "--lpips-weights", tmp_path)
    assert found["metrics"]["lpips_alex"] > 0
    assert found["provenance"]["weights"]["alexnet"] == {
        "file": file.name,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }


def test_what_cannot_be(photos: Path, tmp_path: Path) -> None:
    data = "--data", str(photos)
    for arguments, message in (
        ([*data, "--metrics", "psnr,mse"], "there is no metric called 'mse'. Known: "),
        ([*data, "--frames", "3"], "--frames and --frame-stride are for a tokenizer of clips\n"),
        ([*data, "--size", "big"], "--size is a number, or HEIGHTxWIDTH such as 256x384; got "),
        ([*data, "--precision", "int8"], "there is no precision called 'int8'. "),
        ([*data, "-o", str(tmp_path / "no" / "r.json")], "--output is a file in a folder that "),
        (["--data", "nowhere"], "there is no file or folder 'nowhere'\n"),
        ([*data, "--hold-out", "5"], "5 of 5 samples are to be held out, which leaves none to "),
    ):
        done = vqtok("eval", tokenizer(), *arguments)
        assert (done.status, done.raw) == (2, b"")
        assert done.err.startswith(f"vqtok: {message}")


# --- clips ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tokenizer for clips of 3 x 16 x 16 pixels."""
    torch.manual_seed(0)
    model = AutoencoderVQTimesformer(
        patch_size=4,
        latent_channels=16,
        depth=1,
        heads=2,
        mlp_dim=16,
        sample_size=16,
        sample_frames=3,
        num_vq_embeddings=64,
        vq_embed_dim=4,
        quantizer_args={"start": "kaiming"},
    ).eval()
    folder = tmp_path_factory.mktemp("video")
    model.save_pretrained(folder)
    Preprocess(policy="center", size=16, stride=4).save(folder)
    return folder


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Two folders of eight frames."""
    folder = tmp_path / "clips"
    for name in ("one", "two"):
        (folder / name).mkdir(parents=True)
        for number in range(8):
            pixels = tiny.picture(20, 24, seed=number + len(name) * (name == "two"))
            Image.fromarray(pixels).save(folder / name / f"{number:03d}.png")
    return folder


def test_clips_are_measured_in_their_middle(video: Path, clips: Path) -> None:
    options = "--data", clips, "--kind", "clips", "--metrics", "psnr,bits_per_pixel"
    found = report(video, *options, "--frame-stride", "2")
    assert found["counts"] == {"clips": 2, "frames": 6}
    assert found["metrics"]["bits_per_pixel"] == 6 / 16
    assert found["provenance"]["clips"] == {"frames": 3, "stride": 2, "from": "the middle"}
    for name in ("one", "two"):  # of 8 frames, 1, 3 and 5 are the middle ones
        for number in (0, 2, 4, 6, 7):
            Image.new("RGB", (24, 20)).save(clips / name / f"{number:03d}.png")
    assert report(video, *options, "--frame-stride", "2") == found


def test_a_clip_that_is_too_short_is_skipped(video: Path, clips: Path) -> None:
    for number in range(6):
        (clips / "two" / f"{number:03d}.png").unlink()
    options = "--data", clips, "--kind", "clips", "--metrics", "psnr"
    done = vqtok("eval", video, *options, "--frames", "4")
    assert done.status == 1
    assert done.err == (
        "vqtok: skipped: the sample 'two' has 2 frames; 4 of them, 1 apart, take 4\n"
        "vqtok: skipped 1 of 2 pictures\n"
    )
    assert done.out.splitlines()[0].split() == ["clips", "1"]


def test_a_tokenizer_of_clips_takes_no_pictures(video: Path, photos: Path) -> None:
    done = vqtok("eval", video, "--data", photos)
    assert done == (
        2,
        b"",
        "vqtok: the tokenizer takes clips, and the data are pictures; folders of frames are clips "
        "with --kind clips\n",
    )


def test_a_tokenizer_of_pictures_takes_no_clips(clips: Path) -> None:
    done = vqtok("eval", tokenizer(), "--data", clips, "--kind", "clips")
    assert done == (2, b"", "vqtok: the tokenizer takes pictures, and the data are clips\n")
