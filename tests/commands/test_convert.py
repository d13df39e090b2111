from __future__ import annotations

import json
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
from vqtok.commands.convert import settings_from
from vqtok.zoo import bundled

TAMED = {"norm_num_groups": 32, "block_out_channels": (32, 32, 64), "latent_channels": 8}


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
        "trained with as config, or size itself. On the command line: vqtok convert FILE DIR --set "
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
        (["photo-tiny", "gone/made"], "there is no folder gone for made"),
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
            ["photo-tiny", "made", "--set", "x=1"],
            "settings is for checkpoints of other projects; 'photo-tiny' is no file or folder with "
            "one, and no org/name with filename",
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
