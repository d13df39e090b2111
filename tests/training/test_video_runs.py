"""Clips from files to a tokenizer, what it is measured to be, and back to training."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import look, vqtok
from metric_weights import VARIABLES, random_weights
from source_files import Pixels, picture, png, write, write_video
from toys import toy

from vqtok import VisualTokenizer, fingerprint
from vqtok.autoencoders import AutoencoderVQTimesformer
from vqtok.autoencoders.loading import load_model
from vqtok.errors import ConfigError
from vqtok.preprocess import Preprocess
from vqtok.training import checkpoints
from vqtok.training.loop import Run, train
from vqtok.training.presets import load_settings, to_yaml
from vqtok.training.settings import Settings

pytestmark = pytest.mark.filterwarnings("ignore:.*dataloader:UserWarning")
PRESETS = ["timesformer_bair", "timesformer_ucf101", "video_cnn3d", "video_timesformer"]
CLIPS, LENGTH = 6, 9


def moving(number: int) -> Pixels:
    """(T, 40, 48, 3): a view that moves a pixel a frame."""
    wide = np.kron(picture(number, 5, 8), np.ones((8, 8, 1), np.uint8))
    return np.stack([wide[:, n : n + 48] for n in range(LENGTH)])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    for number in range(CLIPS):
        write_video(folder / f"{number}.mp4", moving(number), "mpeg4")
    return folder


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    for number in range(CLIPS):
        for n, pixels in enumerate(moving(number)):
            write(folder / f"clip{number}" / f"{n:03}.png", png(pixels))
    return folder


def small(place: Path, preset: str = "video_timesformer", **changes: Any) -> Settings:
    """A toy of a preset on files, or on folders of frames."""
    kind = "clips" if place.name.startswith("frames") else None
    data = {"path": str(place), "kind": kind, "hold_out": 2, **changes.pop("data", {})}
    return toy(load_settings(preset).settings, data=data, **changes)


def lines(run: Path, kind: str) -> list[dict[str, Any]]:
    every = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in every if line["kind"] == kind]


@pytest.fixture(scope="module")
def run(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with everything that the preset has, but for LPIPS."""
    output = tmp_path_factory.mktemp("runs") / "run"
    train(small(files), output)
    return output


@pytest.mark.parametrize(
    ("preset", "kind"),
    [*((preset, "files") for preset in PRESETS), ("video_timesformer", "frames")],
)
def test_every_preset_takes_two_steps(
    preset: str, kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """As in the paper; no code was released, so `--as repo` is the same."""
    values = load_settings(preset).settings
    assert load_settings(preset, variant="repo").settings == values
    made = train(small(request.getfixturevalue(kind), preset), tmp_path)
    steps = lines(tmp_path, "train")
    assert [line["step"] for line in steps] == [1, 2]
    assert all(np.isfinite(line["loss"]) for line in steps)
    assert "gan" in steps[1]
    model = load_model(made)
    assert model.config.sample_frames == (5 if preset == "video_cnn3d" else 4)
    assert model.config.estimator in ("rotation", None)  # the latter is the former


def test_a_run_leaves_a_model_of_clips(run: Path, files: Path) -> None:
    made = run / "tokenizer"
    model = VisualTokenizer.from_pretrained(made).model
    assert isinstance(model, AutoencoderVQTimesformer)
    clips = torch.from_numpy(moving(0)[None, :4, :32, :32]).permute(0, 4, 1, 2, 3)
    codes = model.encode_codes(clips)
    assert codes.shape == (1, 4, 4, 4)
    assert model.decode_codes(codes).shape == (1, 3, 4, 32, 32)
    assert model.config.scaling_factor != 1
    rule = Preprocess.load(made)
    assert (rule.policy, rule.sides, rule.stride) == ("center", (32, 32), 8)
    text = (made / "README.md").read_text()
    assert fingerprint.of_folder(made, rule).decoder in text
    seen = "4 frames, random crops of 32 x 32 pixels from frames whose short side"
    for words in ("video-tokenizer", seen, f"`{files.name}`, 4 clips trained on and 2 others"):
        assert words in text


def test_its_pictures_show_frames_in_a_row(run: Path) -> None:
    """Two clips of four frames: originals, reconstructions and codes, 128 pixels a frame."""
    height, width, _ = look(run / "pictures" / "step-00000002.png").shape
    assert 3 <= height / 128 < 4
    assert 8 <= width / 128 < 9
    assert (run / "usage" / "step-00000002.png").is_file()


def test_its_rates_are_of_clips(files: Path, tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(to_yaml(small(files, steps=1)))
    done = vqtok("train", "--config", config, "-o", tmp_path / "run")
    assert (done.status, done.out) == (0, f"{tmp_path / 'run' / 'tokenizer'}\n")
    assert "clip/s" in done.err


def test_a_dry_run_counts_tokens_of_clips(files: Path, tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(to_yaml(small(files)))
    done = vqtok("train", "--config", config, "--dry-run")
    assert done.status == 0
    for line in (
        "# tokens: 4 x 4 x 4 for 4 x 32 x 32 pixels, 32 codes of 4 dimensions, 0.0781 bits a pixel",
        "# a step: 4 clips in 1 part, 256 tokens, 8 a code",
        "# run: 2 steps, 8 samples: each of 4 is seen 2.0 times",
    ):
        assert line in done.out.splitlines()


def test_a_resumed_run_is_one_that_never_stopped(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = small(files, steps=4, save_every=2, accumulate=2, average=0.9)
    train(settings, tmp_path / "whole")
    first = Run(settings, tmp_path / "parts")
    after = first._after
    monkeypatch.setattr(first, "_after", lambda done, out: after(done, out) or done == 3)
    first.go()
    train(settings, tmp_path / "parts", resume=True)
    one, other = (
        torch.utils._pytree.tree_flatten_with_path(
            checkpoints.read(checkpoints.newest(tmp_path / name / "checkpoints"))["run"]
        )[0]
        for name in ("whole", "parts")
    )
    assert len(one) > 100
    for (name, a), (_, b) in zip(one, other, strict=True):
        same = torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
        assert same, name


@pytest.mark.parametrize("name", ["patchgan", "patchgan3d"])
def test_a_discriminator_by_name(name: str, files: Path, tmp_path: Path) -> None:
    """That for pictures sees frames."""
    judge = {"name": name, "args": {"channels": 8, "layers": 1}, "start": 0, "adaptive": True}
    train(small(files, discriminator=judge, average=0.5), tmp_path)
    assert {"gan", "gan_weight", "disc"} <= set(lines(tmp_path, "train")[-1])


# --- vqtok eval -----------------------------------------------------------------------------------


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """None on this machine."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "none"))


@pytest.mark.usefixtures("no_weights")
def test_eval_without_weights(run: Path, files: Path, frames: Path) -> None:
    for data in (["--data", files], ["--data", frames, "--kind", "clips"]):
        done = vqtok("eval", run, *data, "--json")
        assert (done.status, done.err) == (0, "")
        found = json.loads(done.out)
        assert found["metrics"]["rfvd"] is None
        assert found["reasons"]["rfvd"].startswith("no weights of I3D (the network of FVD): ")
        assert found["metrics"]["psnr"] > 0
        assert found["counts"] == {"clips": CLIPS, "frames": CLIPS * 4}
        expected = {"frames": 4, "stride": 1, "from": "the middle"}
        assert found["provenance"]["clips"] == expected


@pytest.mark.usefixtures("no_weights")
def test_eval_with_weights(run: Path, files: Path, tmp_path: Path) -> None:
    weights = random_weights(tmp_path, "i3d")
    done = vqtok(
        "eval", run, "--data", files, "--i3d", weights, "--limit", "2", "--frames", "9", "--json"
    )
    assert done.status == 0, done.err
    found = json.loads(done.out)
    assert found["metrics"]["rfvd"] > 0
    assert found["names"]["rfvd"] == "rFVD-2, 9 frames"
    assert set(found["provenance"]["weights"]) == {"i3d"}


def test_the_held_out_clips_are_those_of_the_run(run: Path, files: Path) -> None:
    done = vqtok("eval", run, "--data", files, "--hold-out", "2", "--metrics", "psnr", "--json")
    (last,) = lines(run, "validation")
    found = json.loads(done.out)
    assert found["metrics"]["psnr"] == pytest.approx(last["psnr"], rel=1e-3)


# --- what does not go together -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "changed", "message"),
    [
        (
            "video_timesformer",
            {"frames": 1},
            "AutoencoderVQTimesformer takes clips: data.frames says of how many frames, and is 1, "
            "for pictures",
        ),
        (
            "cifar10",
            {"frames": 4},
            "AutoencoderVQConvResidual takes pictures, and data.frames=4 is for clips; "
            "architectures of clips are cnn3d, emu3, timesformer",
        ),
        (
            "video_timesformer",
            {"size": 36},
            "the network does not take what data.size and data.frames say: the sides of a clip "
            "are multiples of 1 x 8 x 8; got 4 x 36 x 36",
        ),
        (
            "video_cnn3d",
            {"frames": 4},
            "the network does not take what data.size and data.frames say: the sides of a clip "
            "are 1 + a multiple of 4 frames, and multiples of 8 x 8; got 4 x 32 x 32",
        ),
        (
            "video_cnn3d",
            {"frames": 1},
            "AutoencoderVQCausal3D takes clips: data.frames says of how many frames, and is 1, "
            "for pictures",
        ),
        (
            "video_timesformer",
            {"kind": "folder"},
            "data.frames=4 needs clips, but the source holds pictures; where these are the frames "
            "of clips, a folder each, data.kind=clips says so",
        ),
    ],
)
def test_pixels_that_the_network_does_not_take(
    preset: str, changed: dict[str, Any], message: str, frames: Path, tmp_path: Path
) -> None:
    settings = small(frames, preset, data=changed)
    with pytest.raises(ConfigError) as error:
        train(settings, tmp_path / "run")
    assert str(error.value) == message
    config = tmp_path / "mine.yaml"
    config.write_text(to_yaml(settings))
    done = vqtok("train", "--config", config, "--dry-run")
    assert (done.status, done.out.splitlines()[-1]) == (1, f"# missing: {message}")


def test_pictures_to_validate_clips_on(files: Path, frames: Path, tmp_path: Path) -> None:
    """Said before the first step, not when validation is due."""
    settings = small(files, data={"validation": str(frames)})
    with pytest.raises(ConfigError, match=r"^data\.frames=4 needs clips, but the source holds"):
        train(settings, tmp_path)


def test_clips_that_are_too_short(files: Path, tmp_path: Path) -> None:
    """A window of 4 frames 3 apart takes 10 of the 9."""
    config = tmp_path / "mine.yaml"
    config.write_text(to_yaml(small(files, data={"stride": 3})))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        done = vqtok("train", "--config", config, "-o", tmp_path / "run")
    assert done.status == 2
    assert "is left out: the clip has 9 frames; 4 of them, 3 apart" in done.err
    assert "100 samples in a row could not be read; the last is" in done.err
