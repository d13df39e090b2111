"""`vqtok train`: from options to the loop, and what a dry run says. The loop has its own tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
from commandline import Result, pictures, vqtok
from toys import toy

from vqtok.training.presets import load_settings, parse_choice, presets, to_yaml
from vqtok.training.settings import BROUGHT, Settings

NETWORKS = [name for name in presets() if name != "finetune"]


class Loop:
    """Takes the place of the loop, and notes how it was called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, stops: bool = False) -> None:
        self.stops = stops
        self.called: list[tuple[Settings, Path, bool]] = []
        stand_in = SimpleNamespace(train=self.train)
        monkeypatch.setitem(sys.modules, "vqtok.training.loop", stand_in)

    def train(self, settings: Settings, output: Path, resume: bool) -> Path:
        self.called.append((settings, output, resume))
        return output if self.stops else output / "tokenizer"


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    return Loop(monkeypatch)


def settings(config: str, *sets: str, **options: Any) -> Settings:
    return load_settings(config, [parse_choice(text) for text in sets], **options).settings


def test_a_run(loop: Loop) -> None:
    done = vqtok("train", "--config", "smoke", "--set", "steps=3", "-o", "runs/x")
    assert done == Result(0, b"runs/x/tokenizer\n", "")
    assert loop.called == [(settings("smoke", "steps=3"), Path("runs/x"), False)]


def test_its_folder_has_its_name(loop: Loop) -> None:
    assert vqtok("train", "-c", "smoke", "--set", "name=mine").out == "runs/mine/tokenizer\n"


def test_a_run_that_was_asked_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    Loop(monkeypatch, stops=True)
    assert vqtok("train", "--config", "smoke") == Result(1, b"", "")


def test_as_repo(loop: Loop) -> None:
    vqtok("train", "--config", "vqgan_ldm_f8", "--as", "repo")
    assert loop.called[0][0] == settings("vqgan_ldm_f8", variant="repo")


def test_what_a_choice_drops_is_said(loop: Loop) -> None:
    done = vqtok("train", "--config", "cifar10", "--set", "estimator=ste", "--as", "repo")
    assert done.err == (
        "vqtok: the preset cifar10 follows no released code: --as repo changes nothing\n"
    )
    done = vqtok("train", "--config", "vqvae_euclid_8192", "--set", "estimator=ste")
    assert done.err == (
        "vqtok: --set estimator=ste: the settings of the estimator 'rotation' are dropped: "
        "estimator_args.strict\n"
    )


def test_one_of_several_processes_speaks(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    assert vqtok("train", "--config", "cifar10", "--as", "repo") == Result(0, b"", "")


def test_going_on_from_a_tokenizer(loop: Loop) -> None:
    arguments = ("--from", "photo-tiny", "--freeze", "encoder, codebook", "--on-collapse", "stop")
    assert vqtok("train", *arguments).err == ""
    (found, output, resume) = loop.called[0]
    sets = ("init=photo-tiny", "freeze=[encoder, codebook]", "on_collapse=stop")
    assert found == settings("finetune", *sets)
    assert (output, resume) == (Path("runs/finetune"), False)


def test_going_on_from_a_tokenizer_by_another_recipe(loop: Loop) -> None:
    done = vqtok("train", "--config", "ldm_f8", "--from", "photo-tiny")
    assert loop.called[0][0] == settings("ldm_f8", "init=photo-tiny")
    assert done.err == (
        "vqtok: --from photo-tiny: it has its own, so these are dropped: architecture, network, "
        "quantizer, codebook\n"
    )


def test_resuming(loop: Loop, tmp_path: Path) -> None:
    begun = settings("cifar10", "seed=3")
    (tmp_path / "settings.yaml").write_text(to_yaml(begun), encoding="utf-8")
    assert vqtok("train", "--resume", tmp_path).err == ""
    assert vqtok("train", "--resume", tmp_path, "--set", "steps=99").err == ""
    longer = begun.model_copy(update={"steps": 99})
    assert loop.called == [(begun, tmp_path, True), (longer, tmp_path, True)]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            [],
            "there is nothing to train yet: --config names a preset (--list shows them) or a YAML "
            "file, --from a tokenizer to go on from, --resume a run",
        ),
        (["--config", "smoke", "--as", "both"], "--as is paper or repo; got 'both'"),
        (
            ["--config", "smoke", "--on-collapse", "cry"],
            "--on-collapse cry: on_collapse is 'warn' or 'stop'; got 'cry'",
        ),
        (
            ["--from", "photo-tiny", "--freeze", "tail"],
            "--freeze tail: freeze is a list of 'encoder', 'codebook' or 'decoder'; got ['tail']",
        ),
        (
            ["--config", "smoke", "--set", "steps=0", "--set", "data.size=0"],
            "--set data.size=0: data.size is a whole number of at least 1; got 0. "
            "--set steps=0: steps is a whole number of at least 1; got 0.",
        ),
        (
            ["--config", "smoke", "--set", "steps"],
            "--set takes KEY=VALUE, such as optimizer.lr=1e-4; got 'steps'",
        ),
        (["--resume", "nowhere"], "nowhere is no run: it holds no settings.yaml"),
        (
            ["--resume", "x", "--config", "smoke", "--as", "repo", "--from", "y", "-o", "z"],
            "--resume goes on in the run's own folder with its own settings; leave out --config, "
            "--as, --from, --output (--set still changes single ones)",
        ),
    ],
)
def test_mistakes(loop: Loop, arguments: list[str], expected: str) -> None:
    assert vqtok("train", *arguments) == Result(2, b"", f"vqtok: {expected}\n")
    assert loop.called == []


def test_the_list() -> None:
    done = vqtok("train", "--list")
    lines = done.out.splitlines()
    assert [line.split()[0] for line in lines] == sorted(presets())
    assert (
        "smoke               a minute on two cores, to see that everything runs; trains on four "
        "photographs"
    ) in lines
    assert (done.status, done.err) == (0, "")


def test_the_module_is_the_same_command() -> None:
    command = [sys.executable, "-m", "vqtok.training", "--list"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, vqtok("train", "--list").out, "")


# --- dry runs ------------------------------------------------------------------------------------


def config(tmp_path: Path, wanted: Settings) -> Path:
    path = tmp_path / "my.yaml"
    path.write_text(to_yaml(wanted), encoding="utf-8")
    return path


def comments(done: Result) -> list[str]:
    return [line[2:] for line in done.out.splitlines() if line.startswith("# ")]


def photos(tmp_path: Path) -> str:
    """A folder of three pictures, which are also the frames of one clip."""
    (tmp_path / "clip").mkdir()
    pictures(tmp_path / "clip", "0.png", "1.png", "2.png")
    return str(tmp_path)


@pytest.mark.parametrize(
    ("name", "variant"),
    [(name, "paper") for name in NETWORKS]
    + [("vqvae_cosine_1024", "repo"), ("vqgan_ldm_f8", "repo"), ("vitvqgan_small", "repo")],
)
def test_a_dry_run_of_each_preset(name: str, variant: Any, tmp_path: Path) -> None:
    place = {"path": photos(tmp_path)}
    if settings(name).data.frames > 1:
        place["kind"] = "clips"
    small = toy(settings(name, variant=variant), data=place)
    done = vqtok("train", "--config", config(tmp_path, small), "--dry-run")
    assert (done.status, done.err) == (0, "")
    (tmp_path / "again.yaml").write_bytes(done.raw)
    assert load_settings(tmp_path / "again.yaml").settings == small
    heads = [line.partition(":")[0] for line in comments(done)]
    judge = ["discriminator"] if small.discriminator else []
    assert heads == ["model", "trained", "tokens", "a step", "gradient", *judge, "run"]


def test_what_a_dry_run_says(tmp_path: Path) -> None:
    done = vqtok("train", "--config", "smoke", "--dry-run")
    assert comments(done) == [
        "model: cnn, 0.41 M parameters (encoder 0.15 M, codebook 0.00 M, decoder 0.26 M)",
        "trained: encoder, decoder, codebook (by running means)",
        "tokens: 8 x 8 for 32 x 32 pixels, 128 codes of 8 dimensions, 0.438 bits a pixel",
        "a step: 16 pictures in 1 part, 1,024 tokens, 8 a code",
        "gradient: rotation",
        "discriminator: patchgan, 0.04 M parameters, counts from step 50",
        "run: 200 steps, 3,200 samples: each of 4 is seen 800 times",
    ]
    assert done.status == 0


def test_a_dry_run_of_a_decoder_alone(tmp_path: Path) -> None:
    sets = ("--set", "loss.lpips=0", "--set", f"data.path={photos(tmp_path)}")
    arguments = ("--from", "photo-tiny", "--freeze", "encoder,codebook", *sets, "--dry-run")
    done = vqtok("train", *arguments)
    assert comments(done)[:4] == [
        "model: photo-tiny, 1.66 M parameters (encoder 0.61 M, codebook 0.01 M, decoder 1.04 M)",
        "architecture: cnn, as the source",
        "trained: decoder",
        "stays as it is: encoder, codebook",
    ]
    assert done.status == 0


def test_a_dry_run_names_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQTOK_VGG16", str(tmp_path / "nowhere"))
    small = toy(settings("vqgan_ldm_f8"), loss={"lpips": 1.0, "pixel": {"l3": 1.0}})
    done = vqtok("train", "--config", config(tmp_path, small), "--dry-run")
    missing = [line for line in comments(done) if line.startswith("missing: ")]
    assert missing[0] == (
        "missing: data.path is not set: where the pictures or clips are that train"
    )
    assert missing[1].startswith("missing: there is no pixel loss called 'l3'.")
    assert "VQTOK_VGG16" in missing[2]
    assert (len(missing), done.status) == (3, 1)


def test_a_dry_run_of_what_cannot_be_built(tmp_path: Path) -> None:
    place = {"path": photos(tmp_path)}
    wanted = toy(settings("cifar10"), network={"chanels": 4}, data=place)
    done = vqtok("train", "--config", config(tmp_path, wanted), "--dry-run")
    assert comments(done) == [
        "run: 2 steps, 8 samples: each of 3 is seen 2.7 times",
        "missing: the architecture 'conv_residual' has no setting 'chanels'. Did you mean "
        "'channels'? Known: channels, downsamplings, estimator, estimator_args, in_channels, "
        "latent_channels, num_vq_embeddings, out_channels, output, pixel_mean, pixel_std, "
        "quantizer, quantizer_args, residual_channels, residual_layers, sample_size, "
        "scaling_factor, shift_factor, vq_embed_dim.",
    ]
    assert done.status == 1


def test_pixels_that_make_no_tokens(tmp_path: Path) -> None:
    wanted = toy(settings("cifar10"), data={"size": 30})
    done = vqtok("train", "--config", config(tmp_path, wanted), "--dry-run")
    assert comments(done)[1] == (
        "missing: the network does not take what data.size says: the sides of a picture are "
        "multiples of 4 x 4; got 30 x 30"
    )


def test_a_dry_run_says_what_the_source_is(tmp_path: Path) -> None:
    args = {"entropy_loss_weight": 0.2, "commitment_weight": 0.25}
    tiny.tokenizer(
        num_vq_embeddings=16, quantizer="bsq", quantizer_args=args, estimator="ste"
    ).save_pretrained(tmp_path / "bsq")
    choices = ("loss.lpips=0", "data.size=64", f"data.path={photos(tmp_path)}")
    sets = [word for choice in choices for word in ("--set", choice)]
    arguments = ("train", "--from", tmp_path / "bsq", *sets, "--dry-run")
    done = vqtok(*arguments)
    lines = {line.partition(":")[0]: line for line in comments(done)}
    assert done.status == 0 and "gradient" not in lines
    assert lines["architecture"] == "architecture: cnn, as the source"
    assert lines["codebook"] == (
        "codebook: bsq, commitment_weight 0.25, entropy_loss_weight 0.2, gradient ste, as the "
        "source"
    )
    (tmp_path / "again.yaml").write_bytes(done.raw)
    text = (tmp_path / "again.yaml").read_text()
    assert not any(f"\n{name}:" in text for name in BROUGHT)
    wanted = load_settings(tmp_path / "again.yaml").settings
    assert wanted.init == str(tmp_path / "bsq")
    other = comments(vqtok(*arguments, "--set", "estimator=exact"))
    assert (
        "codebook: bsq, commitment_weight 0.25, entropy_loss_weight 0.2, as the source; gradient "
        "exact, as set"
    ) in other


SMALL = (
    "the discriminator patchgan with layers=3 takes pictures of at least 24 pixels a side; got 16; "
    "with fewer layers (discriminator.args.layers) it takes smaller ones; data.size=16"
)


def test_pictures_that_no_discriminator_takes(tmp_path: Path) -> None:
    place = {"path": photos(tmp_path), "size": 16}
    wanted = toy(settings("smoke"), data=place, discriminator={"args": {"layers": 3}})
    named = config(tmp_path, wanted)
    done = vqtok("train", "--config", named, "--dry-run")
    assert (comments(done)[-1], done.status) == (f"missing: {SMALL}", 1)
    done = vqtok("train", "--config", named, "-o", tmp_path / "run")
    assert (done.status, done.err) == (2, f"vqtok: {SMALL}\n")
    assert not (tmp_path / "run").exists()


def test_a_source_that_is_gone_is_missing_once(tmp_path: Path) -> None:
    sets = ("--set", "loss.lpips=0", "--set", f"data.path={photos(tmp_path)}")
    done = vqtok("train", "--from", tmp_path / "gone", *sets, "--dry-run")
    missing = [line for line in comments(done) if line.startswith("missing: ")]
    assert missing == [f"missing: there is no folder {tmp_path / 'gone'}"]
