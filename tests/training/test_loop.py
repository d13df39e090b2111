from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_run
import tiny
import torch
from toys import toy

from vqtok import VisualTokenizer
from vqtok.errors import CollapseError, ConfigError, InputError, LoadError
from vqtok.training import checkpoints
from vqtok.training.loop import Run, train
from vqtok.training.presets import load_settings, presets
from vqtok.training.settings import Settings

STARTED = {**small_run.BASE["codebook"], "start": "kaiming"}
pytestmark = pytest.mark.filterwarnings("ignore:.*dataloader:UserWarning")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run.pictures(tmp_path_factory.mktemp("pictures") / "pictures.npy")


def lines(run: Path, kind: str) -> list[dict[str, Any]]:
    every = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in every if line["kind"] == kind]


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of everything but what other tests look at."""
    output = tmp_path_factory.mktemp("runs") / "run"
    settings = small_run.settings(data, discriminator=small_run.DISCRIMINATOR, average=0.9)
    assert train(settings, output) == output / "tokenizer"
    return output


def test_a_run_leaves_what_it_promises(run: Path) -> None:
    assert sorted(path.name for path in run.iterdir()) == [
        "checkpoints",
        "metrics.jsonl",
        "pictures",
        "settings.yaml",
        "tokenizer",
        "usage",
    ]
    for folder in ("pictures", "usage"):
        names = sorted(path.name for path in (run / folder).iterdir())
        assert names == ["step-00000006.png", "step-00000012.png"]
    train_lines = lines(run, "train")
    assert [line["step"] for line in train_lines] == [4, 8, 12]
    assert {"l1", "commit", "loss", "usage", "perplexity", "angle", "lr", "img_per_s"} <= set(
        train_lines[-1]
    )
    assert [line["step"] for line in lines(run, "validation")] == [6, 12]


def test_its_settings_load_as_a_configuration(run: Path, data: Path) -> None:
    settings = small_run.settings(data, discriminator=small_run.DISCRIMINATOR, average=0.9)
    found = load_settings(run / "settings.yaml", []).settings
    assert found.model_copy(update={"network": settings.network}) == settings
    assert found.network == {**settings.network, "sample_size": 16}


def test_its_tokenizer_loads(run: Path) -> None:
    tok = VisualTokenizer.from_pretrained(run / "tokenizer")
    assert tok.encode_codes([tiny.picture()])[0].shape == (4, 4)
    config = tok.model.config
    assert config.scaling_factor != 1.0
    pixels = np.load(small_run.pictures(run.parent / "again.npy"))
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        z = (tok.model.encode(x).latents - config.shift_factor) * config.scaling_factor
    assert abs(float(z.mean())) < 0.5
    assert 0.5 < float(z.std()) < 2


def test_it_holds_the_averaged_weights(run: Path) -> None:
    tok = VisualTokenizer.from_pretrained(run / "tokenizer")
    state = checkpoints.read(checkpoints.newest(run / "checkpoints"))["run"]
    weight = tok.model.decoder.conv_out.weight.detach()
    torch.testing.assert_close(weight, state["average"]["means"]["decoder.conv_out.weight"])
    assert not torch.equal(weight, state["model"]["decoder.conv_out.weight"])


def test_a_second_run_does_not_write_over_it(run: Path, data: Path) -> None:
    with pytest.raises(ConfigError) as error:
        train(small_run.settings(data), run)
    assert str(error.value) == (
        f"{run} holds a run already: go on with it by --resume {run}, or name another folder by "
        "--output"
    )


def test_a_finished_run_has_nothing_to_resume(run: Path, data: Path) -> None:
    settings = small_run.settings(data, discriminator=small_run.DISCRIMINATOR, average=0.9)
    with pytest.raises(ConfigError) as error:
        train(settings, run, resume=True)
    assert str(error.value) == (
        f"{run} is trained to its end, 12 steps; for more, resume with --set steps=24"
    )


def test_nothing_to_resume(data: Path, tmp_path: Path) -> None:
    with pytest.raises(LoadError) as error:
        train(small_run.settings(data), tmp_path, resume=True)
    assert str(error.value) == f"{tmp_path / 'checkpoints'} holds no checkpoint to go on from"


def test_no_data(tmp_path: Path) -> None:
    settings = small_run.settings("x")
    nowhere = settings.data.model_copy(update={"path": None})
    with pytest.raises(ConfigError) as error:
        train(settings.model_copy(update={"data": nowhere}), tmp_path)
    assert str(error.value) == ("data.path is not set: where the pictures or clips are that train")


def test_a_run_that_is_asked_to_stop_can_go_on(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    settings = small_run.settings(data, save_every=100)
    train(settings, whole)
    run = Run(settings, stopped)
    micro_step = run.step.run

    def asking(step: int, batches: Any) -> Any:
        if step == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return micro_step(step, batches)

    run.step.run = asking  # type: ignore[method-assign]
    assert run.go() == stopped
    assert f"stopped after 7 of 12 steps, as asked; go on with --resume {stopped}" in (
        capsys.readouterr().err
    )
    assert train(settings, stopped, resume=True) == stopped / "tokenizer"
    names = [f"{part}/checkpoints/step-00000012.pt" for part in ("whole", "stopped")]
    one, other = (checkpoints.read(tmp_path / name)["run"]["model"] for name in names)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_that_died_before_its_first_checkpoint_begins_anew(
    data: Path, tmp_path: Path
) -> None:
    settings = small_run.settings(data)
    (tmp_path / "metrics.jsonl").write_text('{"step": 3, "kind": "train", "loss": 1.0}\n{"st')
    train(settings, tmp_path)
    assert [line["step"] for line in lines(tmp_path, "train")] == [4, 8, 12]


def test_nan_stops_a_run_that_is_to_stop(data: Path, tmp_path: Path) -> None:
    settings = small_run.settings(data, on_collapse="stop", codebook=STARTED)
    run = Run(settings, tmp_path)
    with torch.no_grad():
        run.step.model.decoder.conv_out.weight.fill_(float("nan"))
    with pytest.raises(CollapseError) as error:
        run.go()
    assert str(error.value).startswith("stopped at step 4: Among the losses l1 is nan")


def test_a_decoder_alone_keeps_ids_valid(data: Path, tmp_path: Path) -> None:
    old = tiny.tokenizer()
    old.save_pretrained(tmp_path / "old")
    settings = Settings.model_validate(
        {
            "init": str(tmp_path / "old"),
            "freeze": ["encoder", "codebook"],
            # Another size than the tokenizer's own, which stays.
            "data": {"path": str(data), "size": 12, "hold_out": 4, "workers": 0},
            "batch_size": 8,
            "steps": 3,
            "average": 0.5,
            "discriminator": {**small_run.DISCRIMINATOR, "start": 1},
        }
    )
    new = VisualTokenizer.from_pretrained(train(settings, tmp_path / "run"))
    assert old.fingerprint.differences(new.fingerprint) == ["decoder"]
    codes = old.encode_images([tiny.picture()])[0]
    assert new.fingerprint.can_decode(codes)
    before, after = old.decode_codes(codes, "np")[0], new.decode_codes(codes, "np")[0]
    assert not np.array_equal(before, after)


def test_a_stock_checkpoint_is_fine_tuned(data: Path, tmp_path: Path) -> None:
    tiny.model().to_diffusers().save_pretrained(tmp_path / "stock")
    settings = Settings.model_validate(
        {
            "init": str(tmp_path / "stock"),
            "estimator": "rotation",
            "estimator_args": {"max_angle": 60.0},
            "data": {"path": str(data), "size": 16, "hold_out": 4, "workers": 0},
            "batch_size": 8,
            "steps": 2,
        }
    )
    new = VisualTokenizer.from_pretrained(train(settings, tmp_path / "run"))
    assert new.model.config.estimator == "rotation"
    assert new.model.config.estimator_args == {"max_angle": 60.0}


def test_the_best_checkpoint_is_there(run: Path) -> None:
    state = checkpoints.read(checkpoints.newest(run / "checkpoints"))
    scores = {line["step"]: line["psnr"] for line in lines(run, "validation")}
    assert state["best"]["step"] == max(scores, key=scores.__getitem__)
    assert state["best"]["step"] in dict(checkpoints.listed(run / "checkpoints"))


def test_the_best_is_not_pruned(data: Path, tmp_path: Path) -> None:
    run = Run(small_run.settings(data, keep=1, save_every=2, codebook=STARTED), tmp_path)
    scores = iter([30.0, 20.0])
    look = run.validator.run

    def scored() -> Any:
        found = look()
        assert found is not None
        return found._replace(figures={**found.figures, "psnr": next(scores)})

    run.validator.run = scored  # type: ignore[method-assign]
    run.go()
    assert [step for step, _ in checkpoints.listed(tmp_path / "checkpoints")] == [6, 12]


def test_a_run_that_died_before_its_tokenizer_makes_it(data: Path, tmp_path: Path) -> None:
    settings = small_run.settings(data, codebook=STARTED)
    made = train(settings, tmp_path)
    shutil.rmtree(made)
    assert train(settings, tmp_path, resume=True) == made
    assert VisualTokenizer.from_pretrained(made).codebook_size == 32


def test_what_cannot_change_when_a_run_is_resumed(data: Path, tmp_path: Path) -> None:
    train(small_run.settings(data, codebook=STARTED), tmp_path)
    changes: dict[str, dict[str, Any]] = {
        "the run was begun without average, which cannot change when it is resumed": {
            "average": 0.9
        },
        "the run was begun without discriminator, which cannot change when it is resumed": {
            "discriminator": small_run.DISCRIMINATOR
        },
        "the checkpoint is that of another model; architecture, network, quantizer and codebook "
        "cannot change when a run is resumed: ": {"codebook": {**STARTED, "size": 16}},
    }
    for message, change in changes.items():
        given = {"codebook": STARTED, **change, "steps": 24}
        with pytest.raises(ConfigError) as error:
            train(small_run.settings(data, **given), tmp_path, resume=True)
        assert str(error.value).startswith(message)


def test_an_optimizers_numbers_can_change(data: Path, tmp_path: Path) -> None:
    train(small_run.settings(data, codebook=STARTED), tmp_path)
    optimizer = {"lr": 1e-4, "betas": [0.8, 0.95], "eps": 1e-5, "weight_decay": 0.1}
    changed = small_run.settings(data, codebook=STARTED, optimizer=optimizer, steps=24)
    (group,) = Run(changed, tmp_path, resume=True).step.optimizer.param_groups
    assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.8, 0.95), 1e-5, 0.1)


def test_nan_that_is_only_warned_of_lets_the_run_go_on(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(small_run.settings(data, codebook=STARTED), tmp_path)
    with torch.no_grad():
        run.step.model.decoder.conv_out.weight.fill_(float("nan"))
    with pytest.raises(InputError, match="this model is no tokenizer yet"):
        run.go()
    assert "warning: Among the losses l1 is nan" in capsys.readouterr().err
    assert [line["step"] for line in lines(tmp_path, "train")] == [4, 8, 12]
    assert lines(tmp_path, "validation") == []


def test_a_run_that_ends_before_its_codes_start(data: Path, tmp_path: Path) -> None:
    codebook = {**small_run.BASE["codebook"], "kmeans_iters": 20}
    with pytest.raises(ConfigError) as error:
        train(small_run.settings(data, codebook=codebook), tmp_path)
    assert str(error.value) == (
        "steps=12 ends before the codebook has started, which takes 20 steps "
        "(codebook.kmeans_iters, codebook.quantize_after)"
    )


def test_validation_needs_samples(data: Path, tmp_path: Path) -> None:
    settings = small_run.settings(data, data={"validation": str(data), "hold_out": 0})
    with pytest.raises(ConfigError) as error:
        train(settings, tmp_path)
    assert str(error.value) == (
        "data.validation names samples to validate on, and data.hold_out=0 takes none of them; "
        "leave one of the two out"
    )


CLIPS = ("timesformer_bair", "timesformer_ucf101", "video_cnn3d", "video_timesformer")
IMAGES = sorted(name for name in presets() if name != "finetune" and name not in CLIPS)


@pytest.mark.parametrize("variant", ["paper", "repo"])
@pytest.mark.parametrize("name", IMAGES)
def test_every_preset_takes_two_steps(
    name: str, variant: Any, toy_pictures: Path, tmp_path: Path
) -> None:
    settings = load_settings(name, [], variant=variant).settings
    small = toy(settings, data={"path": str(toy_pictures), "validation": None})
    made = train(small, tmp_path / "run")
    assert (made / "config.json").is_file()
    values = [line["loss"] for line in lines(tmp_path / "run", "train")]
    assert len(values) == 2
    assert all(np.isfinite(values))


@pytest.fixture(scope="module")
def toy_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("toys") / "pictures.npy"
    return small_run.pictures(place, count=8, side=40)
