"""Runs that go on from a tokenizer, of every kind that there is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_run
import tiny
import torch
from commandline import vqtok
from source_files import picture, png, write

from vqtok import VisualTokenizer, fingerprint
from vqtok.autoencoders import AUTOENCODERS, AutoencoderBase
from vqtok.autoencoders.loading import load_model
from vqtok.preprocess import Preprocess
from vqtok.training.loop import train
from vqtok.training.settings import Settings

pytestmark = pytest.mark.filterwarnings("ignore:.*dataloader:UserWarning")

SMALL: dict[str, dict[str, Any]] = {
    "cnn3d": {
        "block_out_channels": [8, 8, 8],
        "temporal_downsample": [False, True],
        "layers_per_block": 0,
        "latent_channels": 8,
        "sample_frames": 3,
    },
    "conv_residual": {"channels": 8, "residual_channels": 4, "residual_layers": 1},
    "vit": {"patch_size": 4, "latent_channels": 8, "depth": 1, "heads": 2, "mlp_dim": 16},
    "timesformer": {
        "patch_size": 4,
        "latent_channels": 8,
        "depth": 1,
        "heads": 2,
        "mlp_dim": 16,
        "sample_frames": 2,
    },
}
SMALL["vit"]["dim_head"] = 4
PARTS = ["encoder", "codebook", "decoder"]
RULE = Preprocess(policy="center", size=16, stride=4)
JUDGE: dict[str, Any] = {"args": {"channels": 8, "layers": 1}, "start": 0, "adaptive": True}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run.pictures(tmp_path_factory.mktemp("pictures") / "pictures.npy", count=16)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    for number in range(4 * 3):
        write(folder / f"{number // 3}" / f"{number}.png", png(picture(number, 20, 20)))
    return folder


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """A tokenizer for 16 x 16 pictures, in a folder."""
    tiny.tokenizer().save_pretrained(tmp_path / "start")
    return tmp_path / "start"


def made(start: Path, place: Path, output: Path, **changes: Any) -> Path:
    """The tokenizer after three steps that move what they train."""
    given: dict[str, Any] = {
        "init": str(start),
        "batch_size": 4,
        "steps": 3,
        "optimizer": {"lr": 1e-2},
        **changes,
    }
    own = {"path": str(place), "size": 16, "hold_out": 2, "workers": 0, **given.pop("data", {})}
    return train(Settings.model_validate({**given, "data": own}), output)


def changed(before: Path, after: Path) -> list[str]:
    """The parts that have other weights, whatever else a tokenizer has."""
    prints = [fingerprint.of_folder(folder, RULE) for folder in (before, after)]
    return prints[0].differences(prints[1])


# --- what stays ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("update", "freeze"),
    [
        ("ema", []),
        ("ema", ["codebook"]),
        ("ema", ["encoder"]),
        ("ema", ["decoder"]),
        ("ema", ["codebook", "decoder"]),
        ("gradient", ["codebook"]),
        ("gradient", ["encoder", "decoder"]),
    ],
)
def test_frozen_parts_stay_and_others_learn(
    update: str, freeze: list[str], data: Path, tmp_path: Path
) -> None:
    start = tmp_path / "start"
    book = {"codebook_update": update, "start": "kaiming"}
    tiny.tokenizer(quantizer_args=book).save_pretrained(start)
    after = made(start, data, tmp_path / "run", freeze=freeze)
    assert changed(start, after) == [part for part in PARTS if part not in freeze]


@pytest.mark.parametrize("judge", [None, JUDGE])
def test_the_decoder_alone(judge: dict[str, Any] | None, data: Path, tmp_path: Path) -> None:
    """Ids of the old tokenizer are the new one's, and the print says so."""
    old = tiny.tokenizer()
    old.save_pretrained(tmp_path / "start")
    after = made(
        tmp_path / "start",
        data,
        tmp_path / "run",
        freeze=["encoder", "codebook"],
        discriminator=judge,
        average=0.5,
    )
    new = VisualTokenizer.from_pretrained(after)
    shown = tiny.picture()
    assert np.array_equal(old.encode_codes([shown])[0], new.encode_codes([shown])[0])
    assert old.fingerprint.differences(new.fingerprint) == ["decoder"]
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-2])
    assert ("gan" in line) == (judge is not None)


def test_the_command_on_photo_tiny(tmp_path: Path) -> None:
    """Trained at another size, it still makes the same ids of a picture."""
    out = tmp_path / "run"
    sets = ["steps=2", "loss.lpips=0", "data.size=32", "batch_size=2", "data.workers=0"]
    sets += ["data.path=<samples>", "discriminator=null"]
    options = [word for text in sets for word in ("--set", text)]
    done = vqtok(
        "train", "--from", "photo-tiny", "--freeze", "encoder,codebook", *options, "-o", out
    )
    assert (done.status, done.out) == (0, f"{out / 'tokenizer'}\n"), done.err
    old = VisualTokenizer.from_pretrained("photo-tiny")
    new = VisualTokenizer.from_pretrained(out / "tokenizer")
    assert old.fingerprint.differences(new.fingerprint) == ["decoder"]
    text = (out / "tokenizer" / "README.md").read_text()
    assert "| start | went on from `photo-tiny`; frozen: encoder, codebook |" in text


# --- from what -----------------------------------------------------------------------------------


def test_a_stock_model(data: Path, tmp_path: Path) -> None:
    stock = tmp_path / "stock"
    tiny.model().to_diffusers().save_pretrained(stock)
    after = made(stock, data, tmp_path / "run", freeze=["encoder", "codebook"])
    assert changed(stock, after) == ["decoder"]
    text = (after / "README.md").read_text()
    assert "| start | went on from `stock`; frozen: encoder, codebook |" in text
    assert changed(stock, made(stock, data, tmp_path / "free")) == PARTS


@pytest.mark.parametrize("architecture", list(SMALL))
def test_every_architecture(architecture: str, data: Path, clips: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model: AutoencoderBase = AUTOENCODERS[architecture](
        **SMALL[architecture],
        sample_size=16,
        num_vq_embeddings=16,
        vq_embed_dim=4,
        quantizer_args={"start": "kaiming"},
    )
    start = tmp_path / "start"
    model.save_pretrained(start)
    is_video = model.is_video
    views = {"frames": 3, "kind": "clips"} if is_video else {}
    after = made(start, clips if is_video else data, tmp_path / "run", data=views)
    assert changed(start, after) == PARTS
    one, other = model.config, load_model(after).config
    own = ("_", "scaling_factor", "shift_factor")
    for name in one:
        assert name.startswith(own) or one[name] == other[name], name
    assert f"went on from `{start.name}`" in (after / "README.md").read_text()
    # And from what came of it.
    again = made(after, clips if is_video else data, tmp_path / "again", data=views, steps=1)
    assert type(load_model(again)) is type(model)


def test_another_estimator(start: Path, data: Path, tmp_path: Path) -> None:
    after = made(
        start, data, tmp_path / "run", estimator="rotation", estimator_args={"strict": True}
    )
    config = load_model(after).config
    assert (config.estimator, config.estimator_args) == ("rotation", {"strict": True})
    back = made(after, data, tmp_path / "back", estimator="ste")
    config = load_model(back).config
    assert (config.estimator, config.estimator_args) == ("ste", {})


def test_a_run_that_went_on_is_resumed(start: Path, data: Path, tmp_path: Path) -> None:
    """Without what it began with, it would have other weights."""
    given = {"steps": 4, "save_every": 2, "freeze": ["codebook"]}
    whole = made(start, data, tmp_path / "whole", **given)
    made(start, data, tmp_path / "parts", **given)
    for late in (tmp_path / "parts" / "checkpoints").glob("*04.pt"):
        late.unlink()
    done = vqtok("train", "--resume", tmp_path / "parts")
    assert done.status == 0, done.err
    prints = [
        fingerprint.of_folder(folder, RULE) for folder in (whole, tmp_path / "parts" / "tokenizer")
    ]
    assert prints[0] == prints[1]


# --- what does not go together -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--freeze", "encoder,decoder"],
            "with decoder and encoder frozen no weight is left to train: this codebook has none "
            "that an optimizer moves",
        ),
        (
            ["--set", "architecture=vit"],
            "--set architecture=vit: architecture is that of the tokenizer which init names, and "
            "stays; leave it out",
        ),
        (
            ["--set", "codebook.size=99"],
            "--set codebook.size=99: codebook is that of the tokenizer which init names, and "
            "stays; leave it out",
        ),
        (
            ["--set", "data.frames=4"],
            "AutoencoderVQ takes pictures, and data.frames=4 is for clips; architectures of clips "
            "are cnn3d, emu3, timesformer",
        ),
        (
            ["--set", "data.size=30"],
            "the network does not take what data.size says: the sides of a picture are multiples "
            "of 4 x 4; got 30 x 30",
        ),
        (
            ["--freeze", "encoder,codebook,decoder"],
            "encoder, codebook and decoder are all frozen: nothing is left to train",
        ),
        (
            ["--freeze", "encodr"],
            "--freeze encodr: freeze is a list of 'encoder', 'codebook' or 'decoder'; got "
            "['encodr']",
        ),
    ],
)
def test_messages(
    options: list[str], message: str, start: Path, data: Path, tmp_path: Path
) -> None:
    sets = ["loss.lpips=0", f"data.path={data}", "data.size=16", "data.workers=0"]
    given = [word for text in sets for word in ("--set", text)]
    if options[1] == "data.frames=4":
        given += ["--set", "data.kind=clips"]
        given[given.index(f"data.path={data}")] = f"data.path={_frames(tmp_path)}"
    done = vqtok("train", "--from", start, *given, *options, "-o", tmp_path / "run")
    assert (done.status, done.err.splitlines()[-1]) == (2, f"vqtok: {message}")
    assert not (tmp_path / "run").exists()


def _frames(folder: Path) -> Path:
    for number in range(8):
        write(folder / "frames" / f"{number // 4}" / f"{number}.png", png(picture(number)))
    return folder / "frames"
