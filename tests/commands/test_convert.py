from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import yaml
from checkpoints import toy_family
from commandline import tokenizer, vqtok
from safetensors.torch import load_file

from vqtok import AutoencoderVQ, VisualTokenizer
from vqtok.commands import convert as module
from vqtok.commands.setup import settings_from
from vqtok.conversions import Source
from vqtok.zoo import bundled
from vqtok.zoo.aliases import Alias

TAMED = {"norm_num_groups": 32, "block_out_channels": (32, 32, 64), "latent_channels": 8}

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VQTOK_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    toy_family.register(monkeypatch)
    return tmp_path


@pytest.fixture
def ours(here: Path) -> Path:
    """A tokenizer that taming-transformers can express."""
    tiny.tokenizer(**TAMED, mid_block_add_attention=True).save_pretrained(here / "ours")
    return here / "ours"


def mistake(*arguments: str | Path) -> str:
    done = vqtok("convert", *arguments)
    assert (done.status, done.raw) == (2, b"")
    return done.err.removeprefix("vqtok: ").removesuffix("\n")


def test_a_checkpoint_becomes_a_folder(here: Path) -> None:
    toy_family.file(here / "a.ckpt")
    done = vqtok("convert", "a.ckpt", "made")
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[:3] == [
        "source        a.ckpt",
        "family        toy: a toy",
        "licence       a toy's licence",
    ]
    assert lines[-2:] == ["note          Toys are small.", "written       made"]
    assert VisualTokenizer.from_pretrained("made").settings.size == 16
    assert json.loads((here / "made/conversion.json").read_text())["family"] == "toy"
    assert not (here / "cache").exists()
    assert {entry.name for entry in here.iterdir()} == {"a.ckpt", "made"}


def test_settings_on_the_command_line(here: Path) -> None:
    toy_family.file(here / "a.ckpt")
    (here / "own.yaml").write_text("size: 24")
    options = ["--family", "toy", "--config", "own.yaml"]
    assert vqtok("convert", "a.ckpt", "made", *options).status == 0
    assert VisualTokenizer.from_pretrained("made").settings.size == 24
    done = vqtok("convert", "a.ckpt", "made", *options, "--set", "size=32", "--overwrite")
    assert done.status == 0
    assert VisualTokenizer.from_pretrained("made").settings.size == 32


def test_a_file_of_a_folder(here: Path) -> None:
    (here / "theirs").mkdir()
    toy_family.file(here / "theirs/a.ckpt")
    toy_family.file(here / "theirs/b.ckpt", 1)
    assert vqtok("convert", "theirs", "made", "--filename", "b.ckpt").status == 0
    report = json.loads((here / "made/conversion.json").read_text())
    assert report["source"]["file"] == "b.ckpt"


def test_nested_settings() -> None:
    assert settings_from(["a=1", "b.c=[1, 2]", "b.d=x"]) == {"a": 1, "b": {"c": [1, 2], "d": "x"}}
    assert settings_from([]) == {}


@pytest.mark.parametrize("name", ["made.ckpt", "made.safetensors"])
def test_ours_as_taming_has_it_and_back(ours: Path, here: Path, name: str) -> None:
    done = vqtok("convert", ours, name, "--to", "taming")
    assert (done.status, done.out, done.err) == (0, f"written {name}\n", "")
    if name.endswith(".ckpt"):
        found = torch.load(here / name, weights_only=True)["state_dict"]
    else:
        found = load_file(here / name)
    assert "decoder.up.0.block.0.conv1.weight" in found
    params = yaml.safe_load((here / "made.yaml").read_text())["model"]["params"]
    assert params["ddconfig"] == {
        "double_z": False,
        "z_channels": 8,
        "resolution": 32,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 32,
        "ch_mult": [1, 1, 2],
        "num_res_blocks": 1,
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    assert (params["n_embed"], params["embed_dim"]) == (64, 8)
    assert vqtok("convert", name, "back", "--family", "taming").status == 0
    before, after = (VisualTokenizer.from_pretrained(folder) for folder in (ours, "back"))
    assert before.fingerprint.differences(after.fingerprint) == ["preprocess"]


def test_without_attention_it_is_latent_diffusions(here: Path) -> None:
    tiny.tokenizer(**TAMED).save_pretrained(here / "ours")
    assert vqtok("convert", "ours", "made.pt", "--to", "taming").status == 0
    made = yaml.safe_load((here / "made.yaml").read_text())["model"]
    assert made["params"]["ddconfig"]["attn_type"] == "none"
    assert made["target"] == "taming.models.vqgan.VQModel"


def test_ours_as_diffusers_has_it(here: Path) -> None:
    from diffusers import VQModel

    assert vqtok("convert", "photo-tiny", "stock", "--to", "diffusers").status == 0
    stock = VQModel.from_pretrained(here / "stock")
    own = AutoencoderVQ.from_pretrained(bundled()["photo-tiny"])
    assert torch.equal(stock.quantize.embedding.weight, own.quantize.embedding.weight)
    assert vqtok("convert", "stock", "back").status == 0
    assert json.loads((here / "back/config.json").read_text())["_class_name"] == "AutoencoderVQ"


def test_theirs_as_diffusers_has_it(here: Path) -> None:
    toy_family.file(here / "a.ckpt")
    done = vqtok("convert", "a.ckpt", "stock", "--to", "diffusers")
    assert (done.status, done.out.splitlines()[-1]) == (0, "written       stock")
    assert json.loads((here / "stock/config.json").read_text())["_class_name"] == "VQModel"


def test_a_run(here: Path) -> None:
    (here / "run").mkdir()
    (here / "run/settings.yaml").write_text("")
    tiny.tokenizer().save_pretrained(here / "run/tokenizer")
    assert vqtok("convert", "run", "made").status == 0
    found = VisualTokenizer.from_pretrained("made").fingerprint
    assert found == VisualTokenizer.from_pretrained("run/tokenizer").fingerprint


def test_ours_keeps_what_is_known_of_it(here: Path) -> None:
    toy_family.file(here / "a.ckpt")
    assert vqtok("convert", "a.ckpt", "made").status == 0
    kept = "conversion.json", "discriminator.safetensors", "README.md"
    before = [(here / "made" / name).read_bytes() for name in kept]
    assert vqtok("convert", "made", "other").status == 0
    assert vqtok("convert", "made", "made", "--overwrite").status == 0
    for folder in ("made", "other"):
        assert [(here / folder / name).read_bytes() for name in kept] == before


@pytest.mark.parametrize("source", ["a.ckpt", "made"])
def test_a_discriminator_that_has_no_place(here: Path, source: str) -> None:
    toy_family.file(here / "a.ckpt")
    assert vqtok("convert", "a.ckpt", "made").status == 0
    done = vqtok("convert", source, "stock", "--to", "diffusers")
    assert done.out.splitlines()[-2:] == [
        "left out      the kept discriminator: the form of diffusers has no place for it",
        "written       stock",
    ]


def test_folders_above_are_made(here: Path) -> None:
    toy_family.file(here / "a.ckpt")
    assert vqtok("convert", "a.ckpt", "in/side/made").status == 0
    assert VisualTokenizer.from_pretrained("in/side/made").settings.size == 16
    assert vqtok("convert", "a.ckpt", "other/made", "--set", "x=1").status == 2
    assert not (here / "other").exists()
    assert mistake("photo-tiny", "a.ckpt/in/made") == (
        f"{here / 'a.ckpt'} is a file, so there can be no a.ckpt/in/made"
    )


def test_what_takes_long_is_said_at_a_terminal(here: Path) -> None:
    toy_family.file(here / "a.ckpt")
    done = vqtok("convert", "a.ckpt", "made", terminals=("stderr",))
    assert (done.status, done.err) == (0, "\r\x1b[Kvqtok: converting a.ckpt into made\n")


def test_convert_reads_the_file_always(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy_family.file(here / "a.ckpt")
    monkeypatch.setattr("vqtok.conversions.remembered", None)
    assert vqtok("convert", "a.ckpt", "made").status == 0


# --- mistakes -------------------------------------------------------------------------------------


def test_outputs_that_are_there(here: Path, ours: Path) -> None:
    toy_family.file(here / "a.ckpt")
    assert mistake("a.ckpt", "ours") == "ours is there already; --overwrite replaces it"
    (here / "mine").mkdir()
    (here / "mine/notes.txt").write_text("precious")
    assert mistake("a.ckpt", "mine", "--overwrite") == (
        "mine is no tokenizer's folder, so it is not replaced; name another"
    )
    assert mistake("a.ckpt", ".", "--overwrite").endswith(
        "is no tokenizer's folder, so it is not replaced; name another"
    )
    assert (here / "mine/notes.txt").read_text() == "precious"
    (here / "file.ckpt").write_text("")
    assert mistake(ours, "file.ckpt", "--to", "taming") == (
        "file.ckpt is there already; --overwrite replaces it"
    )
    assert vqtok("convert", ours, "file.ckpt", "--to", "taming", "--overwrite").status == 0
    (here / "file.ckpt").unlink()
    assert mistake(ours, "file.ckpt", "--to", "taming") == (
        "file.yaml is there already; --overwrite replaces it"
    )
    (here / "empty").mkdir()
    assert vqtok("convert", "a.ckpt", "empty").status == 0
    (here / "dir.ckpt").mkdir()
    (here / "dir.ckpt/x").write_text("")
    assert mistake(ours, "dir.ckpt", "--to", "taming", "--overwrite") == (
        "dir.ckpt is a folder; name a file"
    )


def test_what_was_there_stays_after_a_failure(here: Path, ours: Path) -> None:
    toy_family.file(here / "a.ckpt", size=None)
    assert mistake("a.ckpt", "ours", "--overwrite") == (
        "a.ckpt does not tell size, the side of its pictures: pass the YAML or JSON that it was "
        "trained with as config, or size itself. On the command line: --set size=VALUE; in Python: "
        "config={'size': VALUE}. To train from it, convert it first: vqtok convert FILE DIR --set "
        "size=VALUE"
    )
    VisualTokenizer.from_pretrained(ours)
    assert {entry.name for entry in here.iterdir()} == {"a.ckpt", "ours"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["photo-tiny", "made", "--to", "tamming"],
            "there is no form called 'tamming'. Did you mean 'taming'? Known: diffusers, taming, "
            "vqtok.",
        ),
        (
            ["photo-tiny", "made", "--to", "taming"],
            "taming's form is one file: name one that ends with .safetensors, .ckpt, .pt, .pth; "
            "got 'made'",
        ),
        (["ours", "gone/made.pt", "--to", "taming"], "there is no folder gone for made.pt"),
        (
            ["photo-tiny", "made.pt", "--to", "taming"],
            "taming-transformers' VQGAN cannot express this model: norms have 8 groups, not 32 "
            "(norm_num_groups)",
        ),
        (
            ["photo-tiny", "made", "--set", "x"],
            "--set takes KEY=VALUE, such as optimizer.lr=1e-4; got 'x'",
        ),
        (
            ["photo-tiny", "made", "--set", "x=1", "--set", "x.y=2"],
            "--set x.y=2: x is 1, by another --set",
        ),
        (
            ["photo-tiny", "made", "--set", "x=1"],
            "--set (config=) is for checkpoints of other projects; 'photo-tiny' is a tokenizer "
            "already",
        ),
        (["gone", "made"], None),
    ],
)
def test_mistakes(arguments: Any, message: str | None) -> None:
    said = mistake(*arguments)
    assert said == message if message else said.startswith("there is no tokenizer called 'gone'")


def test_commands_take_checkpoints(here: Path) -> None:
    """A verb that takes a tokenizer takes another project's file."""
    from commandline import picture

    file = toy_family.file(here / "a.ckpt")
    picture(here / "a.png")
    done = vqtok("encode", "a.png", "-t", "a.ckpt", "-o", "codes.jsonl")
    assert (done.status, done.err) == (0, "")
    assert vqtok("decode", "codes.jsonl", "-t", file, "-o", "back").status == 0
    assert vqtok("reconstruct", "a.png", "-t", file).status == 0
    assert vqtok("reconstruct", "a.png", "-t", tokenizer()).status == 0


def test_a_stock_folder_converts_as_its_file_does(here: Path) -> None:
    assert vqtok("convert", "photo-tiny", "stock", "--to", "diffusers").status == 0
    done = vqtok("convert", "stock", "made")
    assert (done.status, done.err) == (0, "")
    count, millions = len(load_file(here / "stock" / WEIGHTS)), "1.66 M parameters"
    assert done.out.splitlines() == [
        "source        stock",
        "family        diffusers_vq: diffusers VQModel",
        "licence       that of the repository it comes from",
        f"loaded        {count} tensors, {millions}",
        "missing       quantize.count, quantize.steps: training state, which starts anew",
        "note          settings are those of config.json",
        "written       made",
    ]
    report = json.loads((here / "made/conversion.json").read_text())
    digest = hashlib.sha256((here / "stock" / WEIGHTS).read_bytes()).hexdigest()
    assert report["source"]["sha256"] == {WEIGHTS: digest}
    assert report["source"]["config"] == "config.json"
    said = json.loads(vqtok("info", "made", "--json").out)
    assert (said["family"], said["licence"]) == ("diffusers_vq", report["licence"])
    ours, theirs = (VisualTokenizer.from_pretrained(name) for name in ("made", "stock"))
    assert ours.fingerprint == theirs.fingerprint
    again = vqtok("convert", "made", "copy")
    assert (again.status, again.out) == (0, "written copy\n")
    assert json.loads((here / "copy/conversion.json").read_text()) == report


def test_warnings_are_lines(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alias = Alias("toy-1", "toy", "none", repo="org/name", filename="a.ckpt")
    source = Source(toy_family.file(here / "a.ckpt"), "a.ckpt", alias=alias)
    monkeypatch.setattr(module, "find", lambda asked: source)
    said = (
        "'toy-1' names org/name a.ckpt from its project's documentation; nobody has loaded that "
        "file with this package yet, so look at what it makes"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        done = vqtok("convert", "toy-1", "made")
    assert (done.status, done.err) == (0, f"vqtok: {said}\n")
    assert f"note          {said}\n" in done.out
    assert json.loads((here / "made/conversion.json").read_text())["notes"][-1] == said


def test_a_place_that_cannot_be(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", "/proc/.made.x1y2")

    toy_family.file(here / "a.ckpt")
    monkeypatch.setattr(module.tempfile, "TemporaryDirectory", refuse)
    assert mistake("a.ckpt", "in/made") == "in/made cannot be written: Permission denied"
