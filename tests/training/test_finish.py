"""What a run leaves behind: a folder that loads, with scale and shift, and what it says."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from checkpoints import toy_family
from hypothesis import given
from hypothesis import strategies as st

from vqtok import VisualTokenizer, fingerprint
from vqtok.autoencoders import AutoencoderVQ, AutoencoderVQTimesformer
from vqtok.card import fingerprint_table
from vqtok.commands.info import _source
from vqtok.errors import InputError
from vqtok.metrics.pixels import from_uint8
from vqtok.obtain import obtain
from vqtok.preprocess import Preprocess
from vqtok.training.finish import LatentSums, finish
from vqtok.training.reports.metrics import MetricsFile
from vqtok.training.reports.story import Facts
from vqtok.training.settings import Data, Settings

SETTINGS = Settings(name="mine", data=Data(path="/home/u/photos", size=16), steps=300)
FACTS = Facts(pictures=50, held_out=8, validation={"psnr": 20.5})


def pixels(count: int = 8) -> torch.Tensor:
    pictures = np.stack([tiny.picture(16, 16, seed) for seed in range(count)])
    return from_uint8(torch.from_numpy(pictures).permute(0, 3, 1, 2))


def measured(model: Any, x: torch.Tensor) -> LatentSums:
    sums = LatentSums()
    with torch.no_grad():
        for part in x.split(3):
            sums.add(model.encode(part).latents)
    return sums


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=5),
    st.floats(-100, 100),
    st.floats(1e-3, 100),
    st.integers(0, 99),
)
def test_sums_are_those_of_the_whole(
    sizes: list[int], mean: float, scale: float, seed: int
) -> None:
    made = torch.Generator().manual_seed(seed)
    parts = [torch.randn(size, 4, 2, generator=made) * scale + mean for size in sizes]
    whole = torch.cat(parts).double()
    ranks = LatentSums(), LatentSums()
    for number, part in enumerate(parts):
        ranks[number % 2].add(part)
    joint = LatentSums.from_tensors(ranks[0].tensors() + ranks[1].tensors())
    assert joint.tensors().dtype == torch.float64
    assert joint.count == whole.numel()
    assert joint.mean == pytest.approx(float(whole.mean()), rel=1e-9, abs=1e-12)
    assert joint.deviation == pytest.approx(float(whole.std(correction=0)), rel=1e-4)


def test_half_precision_is_summed_in_full() -> None:
    latents = torch.full((1000, 70), 3.0, dtype=torch.bfloat16)
    sums = LatentSums()
    sums.add(latents)
    assert (sums.total, sums.squares) == (210_000.0, 630_000.0)


def test_of_nothing_there_is_no_mean() -> None:
    assert math.isnan(LatentSums().mean) and math.isnan(LatentSums().deviation)


def test_what_it_went_on_from_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQTOK_CACHE", str(tmp_path / "cache"))
    toy_family.register(monkeypatch)
    toy_family.file(tmp_path / "a.ckpt")
    said = (
        "It went on from a toy (family `toy`, `a.ckpt`), whose licence is, as far as it is known: "
        "a toy's licence.\n"
    )
    init = tmp_path / "a.ckpt"
    for run in ("first", "second"):
        model, x = tiny.model(), pixels()
        settings = SETTINGS.model_copy(update={"init": str(init)})
        init = finish(model, settings, tmp_path / run, latents=measured(model, x), facts=FACTS)
        assert said in (init / "README.md").read_text()
        report = json.loads((init / "conversion.json").read_text())
        assert report.keys() == {"schema", "derived_from"}
        assert report["derived_from"]["licence"] == "a toy's licence"
        assert report["derived_from"]["source"]["file"] == "a.ckpt"
    VisualTokenizer.from_pretrained(init).save_pretrained(tmp_path / "copy")
    assert said in (tmp_path / "copy/README.md").read_text()
    found = _source(obtain(tmp_path / "copy"))
    assert (found["family"], found["derived_from"]["family"]) == ("vqtok", "toy")


def test_what_it_went_on_from_is_gone(tmp_path: Path) -> None:
    model, x = tiny.model(), pixels()
    settings = SETTINGS.model_copy(update={"init": str(tmp_path / "gone.ckpt")})
    folder = finish(model, settings, tmp_path, latents=measured(model, x), facts=FACTS)
    assert (
        "What it went on from could not be read again for its licence: there is no file gone.ckpt."
    ) in (folder / "README.md").read_text()
    assert not (folder / "conversion.json").exists()


def test_a_folder_that_loads_with_scale_and_shift(tmp_path: Path) -> None:
    model, x = tiny.model(), pixels()
    folder = finish(model, SETTINGS, tmp_path, latents=measured(model, x), facts=FACTS)
    assert folder == tmp_path / "tokenizer"
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer"]
    tok = VisualTokenizer.from_pretrained(folder)
    assert tok.settings == Preprocess(policy="center", size=16, stride=4)
    # As a trainer of latent diffusion uses them.
    with torch.no_grad():
        z = tok.model.encode(x).latents
        config = tok.model.config
        scaled = (z - config.shift_factor) * config.scaling_factor
        back = scaled / config.scaling_factor + config.shift_factor
    assert float(scaled.mean()) == pytest.approx(0, abs=1e-5)
    assert float(scaled.std(correction=0)) == pytest.approx(1, abs=1e-5)
    assert torch.equal(tok.model.quantize.encode(back), tok.model.quantize.encode(z))


def test_scale_and_shift_change_no_print(tmp_path: Path) -> None:
    settings = Preprocess(policy="center", size=16, stride=4)
    before = fingerprint.of_model(tiny.model(), settings)
    for seed, deviation in enumerate((2.0, 3.0)):
        model, run = tiny.model(), tmp_path / str(seed)
        sums = LatentSums(100, 0.0, 100 * deviation**2)
        folder = finish(model, SETTINGS, run, latents=sums, facts=FACTS)
        config = json.loads((folder / "config.json").read_text())
        assert config["scaling_factor"] == 1 / deviation
        assert config["shift_factor"] == 0.0
        assert VisualTokenizer.from_pretrained(folder).fingerprint == before


def test_the_card_tells_it(tmp_path: Path) -> None:
    model = tiny.model()
    with MetricsFile(tmp_path / "metrics.jsonl") as file:
        for step in (100, 200, 300):
            file.write(step, "train", {"loss": 1.0})
            file.write(step, "validation", {"psnr": 20 + step / 1000})
            file.write(step, "event", {"event": "one_code", "message": f"{step} of all tokens."})
    sums = LatentSums(1000, 500.0, 4250.0)
    folder = finish(model, SETTINGS, tmp_path, latents=sums, facts=FACTS)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: vqtok\n") and "\n# mine\n" in card
    assert "| data | `photos`, 50 pictures trained on and 8 others validated on |\n" in card
    assert "| 100 | 20.10 |\n| 200 | 20.20 |\n| 300 | 20.30 |\n" in card
    assert (
        "What `encode` returns, before quantization, has the mean 0.5 and the standard deviation "
        "2, over 1,000 numbers of the held-out data. The configuration names them as diffusers "
        "does: `(z - shift_factor) * scaling_factor` has mean 0 and deviation 1, and "
        "`decode(z / scaling_factor + shift_factor)` takes such numbers back to pixels, through "
        "the codebook.\n"
    ) in card
    assert fingerprint_table(VisualTokenizer.from_pretrained(folder)) in card
    assert "Not stated yet" not in card
    assert "- The run warned: 300 of all tokens.\n" in card and "100 of all" not in card
    for place in ("/home", str(tmp_path)):
        assert place not in card


def test_another_takes_the_place_of_the_first(tmp_path: Path) -> None:
    for seed in (0, 1):
        model = tiny.model(seed)
        folder = finish(model, SETTINGS, tmp_path, latents=measured(model, pixels()), facts={})
        (folder / "left.over").touch()
        tok = VisualTokenizer.from_pretrained(folder)
        assert tok.fingerprint.encoder in (folder / "README.md").read_text()
        assert model.config.scaling_factor != 1.0
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer"]


def test_a_model_goes_on_training_as_it_did(tmp_path: Path) -> None:
    model = tiny.model().train()
    finish(model, SETTINGS, tmp_path, latents=measured(model, pixels()), facts={})
    assert model.training


def test_a_codebook_that_has_not_started_is_refused(tmp_path: Path) -> None:
    model = tiny.model(quantizer_args={"start": "data"})
    model.quantize.steps.fill_(3)
    sums = measured(model, pixels())
    with pytest.raises(InputError) as error:
        finish(model, SETTINGS, tmp_path, latents=sums, facts=FACTS)
    sentence = (
        "Its codebook has not started: that takes 7 more optimizer steps, and until then the "
        "network was trained without codes."
    )
    assert str(error.value) == f"this model is no tokenizer yet. {sentence}"
    assert not list(tmp_path.iterdir())
    with pytest.warns(UserWarning, match="has not started"):
        folder = finish(model, SETTINGS, tmp_path, latents=sums, facts=FACTS, force=True)
    assert f"- {sentence}\n" in (folder / "README.md").read_text()
    assert AutoencoderVQ.from_pretrained(folder).config.shift_factor == sums.mean


@pytest.mark.parametrize(
    ("sums", "figures"),
    [
        (LatentSums(10, 30.0, 90.0), "over 10 numbers the mean is 3 and the standard deviation 0"),
        (LatentSums(), "over 0 numbers the mean is nan and the standard deviation nan"),
        (
            LatentSums(10, math.nan, math.nan),
            "over 10 numbers the mean is nan and the standard deviation nan",
        ),
        (
            LatentSums(10, 1.0, math.inf),
            "over 10 numbers the mean is 0.1 and the standard deviation inf",
        ),
    ],
)
def test_latents_without_a_spread_are_refused(
    sums: LatentSums, figures: str, tmp_path: Path
) -> None:
    model = tiny.model()
    with pytest.raises(InputError) as error:
        finish(model, SETTINGS, tmp_path, latents=sums, facts=FACTS)
    assert str(error.value) == (
        f"this model is no tokenizer yet. Its latents have no spread to be scaled by: {figures}."
    )
    folder = finish(model, SETTINGS, tmp_path, latents=sums, facts=FACTS, force=True)
    config = VisualTokenizer.from_pretrained(folder).model.config
    assert (config.scaling_factor, config.shift_factor) == (1.0, None)
    card = (folder / "README.md").read_text()
    assert "## Latents\n\nNot measured.\n" in card and figures in card


def test_a_model_of_clips(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = {"depth": 1, "heads": 2, "mlp_dim": 16, "latent_channels": 16, "vq_embed_dim": 4}
    model = AutoencoderVQTimesformer(
        **network, sample_size=16, sample_frames=4, quantizer_args={"start": "kaiming"}
    )
    settings = Settings(
        name="clips",
        architecture="timesformer",
        data=Data(path="v", frames=4, size=16),
    )
    sums = LatentSums(100, 0.0, 400.0)
    folder = finish(model, settings, tmp_path, latents=sums, facts=FACTS)
    again = VisualTokenizer.from_pretrained(folder)
    clip = torch.randint(0, 256, (4, 16, 16, 3), dtype=torch.uint8)
    expected = model.eval().encode_codes(clip.movedim(-1, 0)[None])
    assert torch.equal(again.encode_codes(clip.numpy())[0], expected[0])
    assert again.model.config.scaling_factor == 0.5
    card = (folder / "README.md").read_text()
    assert "- one token for 1 x 2 x 2 pixels; frames are brought to 16 x 16" in card
    assert 'tok(["clip.mp4"], return_tensors="pt")' in card
    found = fingerprint.of_folder(folder, Preprocess.load(folder))
    assert all(value in card for value in list(found.to_dict().values())[1:])


def test_frozen_latents_keep_their_scale(tmp_path: Path) -> None:
    tiny.tokenizer(scaling_factor=0.5, shift_factor=0.25).save_pretrained(tmp_path / "source")
    frozen = {"init": str(tmp_path / "source"), "freeze": ["encoder", "codebook"]}
    model, lines = tiny.model(scaling_factor=0.5, shift_factor=0.25), list[str]()
    sums, settings = LatentSums(1000, 500.0, 4250.0), SETTINGS.model_copy(update=frozen)
    folder = finish(model, settings, tmp_path, latents=sums, facts=FACTS, say=lines.append)
    config = json.loads((folder / "config.json").read_text())
    assert (config["scaling_factor"], config["shift_factor"]) == (0.5, 0.25)
    assert lines == [
        "Encoder and codebook are frozen, so the latents keep the scaling_factor 0.5 and "
        "shift_factor 0.25 of what it went on from."
    ]
    assert (
        "What `encode` returns, before quantization, has the mean 0.5 and the standard deviation "
        f"2, over 1,000 numbers of the held-out data. {lines[0]}\n"
    ) in (folder / "README.md").read_text()


def test_latents_that_are_measured_anew_say_so(tmp_path: Path) -> None:
    tiny.tokenizer(scaling_factor=0.5, shift_factor=0.25).save_pretrained(tmp_path / "source")
    settings = SETTINGS.model_copy(update={"init": str(tmp_path / "source")})
    model, lines = tiny.model(scaling_factor=0.25), list[str]()
    sums = LatentSums(1000, 500.0, 4250.0)
    folder = finish(model, settings, tmp_path, latents=sums, facts=FACTS, say=lines.append)
    assert lines == [
        "The latents are measured anew: scaling_factor 0.5 and shift_factor 0.5; what it went on "
        "from has scaling_factor 0.25 and shift_factor 0, so a model that was trained on its "
        "latents does not fit these."
    ]
    assert f"through the codebook. {lines[0]}\n" in (folder / "README.md").read_text()
    finish(tiny.model(), SETTINGS, tmp_path, latents=sums, facts=FACTS, say=lines.append)
    assert len(lines) == 1
