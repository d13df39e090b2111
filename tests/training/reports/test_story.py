"""What a card tells of a training, in full where it is short."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vqtok.training.reports.story import Facts, base_name, placeless, tell
from vqtok.training.settings import Alignment, Data, Discriminator, Loss, Optimizer, Settings

FULL = Settings(
    name="mine",
    quantizer="vector",
    codebook={"decay": 0.9},
    estimator_args={"max_angle": 120},
    data=Data(path="/home/u/photos/", validation=["a/b/c", "/d/e.tar"], size=64, scale=1.5, pad=4),
    loss=Loss(pixel={"l1": 1, "l2": 0.5}, lpips=1.0, lpips_weights="/w/vgg16.pth", entropy=0.1),
    discriminator=Discriminator(adaptive=True, start=1000, lecam=0.001),
    optimizer=Optimizer(schedule="cosine", warm_up=100, weight_decay=0.01),
    steps=2500,
    average=0.999,
    discrepancies=["the batch of the paper is 256; see /home/u/notes.md"],
)
FACTS = Facts(
    command=[
        "vqtok",
        "train",
        "--config",
        "/home/u/my files/a.yaml",
        "--set",
        "data.path=/x/photos",
    ],
    pictures=16_000,
    held_out=100,
    precision="bf16",
    processes=2,
    hardware="2 x NVIDIA H200",
    seconds=5000.0,
    validation={"psnr": 22.123, "usage": 0.9, "count": 1200, "rfid": None, "rfvd": None},
    reasons={"rfid": "no weights at /home/u/w/inception.pth, nor in '/tmp/x'"},
    warnings=["Half of /home/u is gone."],
)


def sections(settings: Settings, facts: Facts, curve: Any = (), **more: Any) -> dict[str, str]:
    """The text of each section by its title."""
    told = tell(settings, facts, curve, "On latents.", **more)
    parts = told.removeprefix("## ").split("\n\n## ")
    return dict(part.split("\n\n", 1) for part in parts)


def rows(table: str) -> dict[str, str]:
    """A table of two columns, without its head."""
    lines = [line.strip("| ").split(" | ", 1) for line in table.splitlines()[2:]]
    return {line[0]: line[1] for line in lines}


def test_how_it_was_trained() -> None:
    assert rows(sections(FULL, FACTS)["How it was trained"]) == {
        "data": "`photos`, 16,000 pictures trained on and 100 others validated on",
        "what the network saw": "random crops of 64 x 64 pixels after 4 mirrored pixels on each "
        "side from pictures whose short side was brought to that times 1.5 (bicubic), half of them "
        "mirrored",
        "network": "architecture `cnn`",
        "codes": "quantizer `vector` (decay 0.9); estimator `rotation` (max_angle 120)",
        "loss": "1 l1 + 0.5 l2 + 1 LPIPS (vgg) + 0.1 entropy + the quantizer's own",
        "discriminator": "`patchgan`, hinge loss, weight 0.1, adaptive, from step 1,000, LeCAM "
        "0.001",
        "training": "2,500 steps of 32 (5 epochs), seed 0",
        "optimizer": "adamw, rate 0.0001 (cosine to 0 of it, 100 steps of warm-up), betas 0.9 and "
        "0.99, weight decay 0.01, gradients clipped to a norm of 1",
        "weights": "running mean, decay 0.999",
        "precision": "bf16; the codes' search in float32",
        "hardware": "2 x NVIDIA H200, 2 processes, 1h 23m",
        "command": "`vqtok train --config a.yaml --set data.path=photos`",
    }


def test_what_is_not_known_is_not_told() -> None:
    told = sections(Settings(), Facts())
    assert rows(told["How it was trained"]) == {
        "data": "not stated",
        "what the network saw": "random crops of 256 x 256 pixels from pictures whose short side "
        "was brought to that (bicubic), half of them mirrored",
        "network": "architecture `cnn`",
        "codes": "quantizer `vector`; estimator `rotation`",
        "loss": "1 l1 + the quantizer's own",
        "discriminator": "none",
        "training": "100,000 steps of 32, seed 0",
        "optimizer": "adamw, rate 0.0001 (constant), betas 0.9 and 0.99, gradients clipped to a "
        "norm of 1",
        "precision": "auto; the codes' search in float32",
    }
    assert told["How good it is"] == "Not measured."
    assert told["Latents"] == "On latents."
    assert list(told)[-1] == "Known limits"
    assert "Where it differs from what it is named after" not in told


def test_clips() -> None:
    settings = Settings(
        architecture="timesformer",
        data=Data(path="/v", frames=16, stride=2, resize="none", flip=False, crop="center"),
        loss=Loss(pixel={}, align=Alignment(teacher="a.b:c", weight=0.2)),
    )
    told = sections(settings, Facts(pictures=40_000_000, held_out=0, validation={"psnr": 20.0}))
    table = rows(told["How it was trained"])
    assert table["data"] == "`v`, 40,000,000 clips trained on"
    assert table["what the network saw"] == (
        "16 frames that are 2 apart, center crops of 256 x 256 pixels"
    )
    assert table["loss"] == "0.2 alignment with `a.b:c` + the quantizer's own"
    assert told["How good it is"].startswith(
        "On clips that it was trained on, 256 x 256 centre crops.\n\n"
    )
    assert told["Known limits"].splitlines()[2:] == [
        "- No perceptual loss and no discriminator took part: fine texture comes out blurred.",
        "- It has not seen each clip of its data once.",
        "- Nothing was held out: how well it does on new clips is not known.",
        "- It was trained on cut-outs of clips in their own size; as a tokenizer it brings them to "
        "its size first.",
    ]


def test_a_model_that_was_there_before() -> None:
    settings = Settings(init="/home/u/base", freeze=["encoder", "codebook"])
    told = sections(settings, Facts())
    table = rows(told["How it was trained"])
    assert table["start"] == "went on from `base`; frozen: encoder, codebook"
    assert not table.keys() & {"network", "codes"}
    assert "init=base\n" in told["Settings"]
    assert "start" in rows(sections(Settings(init="org/name"), Facts())["How it was trained"])


def test_settings_that_are_not_the_default() -> None:
    block = sections(FULL, FACTS)["Settings"]
    lines = block.split("```")[1].strip().splitlines()
    assert block.startswith("Those that are not the default:\n\n```\n")
    assert {"data.path=photos", 'data.validation=["c", "e.tar"]'} <= set(lines)
    assert {"loss.lpips_weights=vgg16.pth", "discriminator.adaptive=true"} <= set(lines)
    assert not [line for line in lines if line.startswith(("discrepancies", "batch_size"))]


def test_no_place_of_this_machine_is_named() -> None:
    curve = [{"step": 1, "psnr": 1.0}]
    told = tell(FULL, FACTS, curve, "", ["A limit."])
    for place in ("/home", "/tmp", "/w/", "/d/", "/x/", "a/b", "my files"):
        assert place not in told


def test_how_good_it_is() -> None:
    curve = [{"step": 100 * n, "psnr": 10.0 + n, "ssim_uniform7": 0.5} for n in range(25)]
    curve[3] = {"step": 300, "psnr": None, "usage": 0.25}
    assert sections(FULL, FACTS, curve)["How good it is"] == (
        "On 100 pictures that it was not trained on, 64 x 64 centre crops.\n\n"
        "| figure |  |\n| --- | --- |\n"
        "| `psnr` | 22.12 |\n| `usage` | 0.9000 |\n| `count` | 1,200 |\n"
        "| `rfid` | not measured: no weights at inception.pth, nor in 'x' |\n"
        "| `rfvd` | not measured |\n\n"
        "How it came there:\n\n"
        "| step | `psnr` | `ssim_uniform7` | `usage` |\n| --- | --- | --- | --- |\n"
        "| 0 | 10.00 | 0.5000 | not measured |\n"
        "| 300 | not measured | not measured | 0.2500 |\n"
        + "".join(
            f"| {step:,} | {10 + step / 100:.2f} | 0.5000 | not measured |\n"
            for step in (500, 800, 1100, 1300, 1600, 1900, 2100, 2400)
        ).rstrip()
    )


def test_one_validation_is_no_curve() -> None:
    told = sections(FULL, FACTS, [{"step": 100, "psnr": 10.0}])["How good it is"]
    assert "How it came there" not in told


def test_limits() -> None:
    told = sections(FULL, FACTS, limits=["A limit."])["Known limits"].splitlines()
    assert told == [
        "- It was trained once, with one seed: differences to another run that are as small as "
        "those between two seeds mean nothing.",
        "- It knows what its data show, at 64 x 64 pixels; other subjects and sizes were not "
        "measured.",
        "- The run warned: Half of u is gone.",
        "- A limit.",
    ]


def test_discrepancies_stand_by_themselves() -> None:
    told = sections(FULL, FACTS)["Where it differs from what it is named after"]
    assert told == "- the batch of the paper is 256; see notes.md"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("/home/u/photos", "photos"),
        ("/home/u/photos/", "photos"),
        ("/data", "data"),
        ("~/x", "x"),
        ("./x", "x"),
        ("../../x.yaml", "x.yaml"),
        ("C:\\Users\\u\\x.png", "x.png"),
        ("a/b/c", "c"),
        ("data.path=/x/my photos", "data.path=my photos"),
        ("--config=/x/a.yaml", "--config=a.yaml"),
        ("org/name", "org/name"),
        ("init=org/name", "init=org/name"),
        ("photo-tiny", "photo-tiny"),
        (".", "."),
        ("", ""),
        ("--set", "--set"),
    ],
)
def test_base_names(text: str, name: str) -> None:
    assert base_name(text) == name


def test_a_folder_here_is_no_name_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert base_name("org/name") == "name"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("12 img/s and 1/2", "12 img/s and 1/2"),
        ("see https://host/a/b", "see https://host/a/b"),
        ("at '/a/b/c.pth', or (~/d/e)", "at 'c.pth', or (e)"),
        ("x=/a/b; y", "x=b; y"),
    ],
)
def test_words_without_places(text: str, said: str) -> None:
    assert placeless(text) == said


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("runs/clips", "runs/clips"),
        ("clips", "clips"),
        ("/home/u/runs/clips", "clips"),
        ("../runs/clips", "clips"),
        ("~/runs/clips", "clips"),
    ],
)
def test_where_a_run_went(given: str, shown: str) -> None:
    """Below the place where the command was typed as it was given; above that nothing is told."""
    for option in ("--output", "-o"):
        command = ["vqtok", "train", "--config", "/a/b.yaml", option, given, "--resume"]
        found = rows(sections(FULL, {**FACTS, "command": command})["How it was trained"])
        assert found["command"] == f"`vqtok train --config b.yaml {option} {shown} --resume`"
