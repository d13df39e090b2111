"""The probe tells honest rounding from another arithmetic and from another model."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from vqtok import probe
from vqtok.errors import LoadError, MismatchError
from vqtok.tokenizer import VisualTokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    probe.write(tmp_path, tiny.model())
    return tmp_path


def test_the_model_that_wrote_it_is_exact(folder: Path) -> None:
    result = probe.check(folder, tiny.model())
    assert (result.verdict, result.near_ties) == ("exact", 0)
    assert result.ids_equal == result.tokens > 100
    assert str(result).startswith("exact: ")


def test_an_optimizer_step_away_is_refused(folder: Path) -> None:
    model = tiny.model()
    with torch.no_grad():
        for weight in model.encoder.parameters():
            weight.mul_(1.003)
    assert probe.check(folder, model).verdict == "refused"


def test_another_codebook_is_refused(folder: Path) -> None:
    model = tiny.model()
    weight = model.quantize.embedding.weight
    weight.data = weight.data.roll(1, 0)
    assert probe.check(folder, model).verdict == "refused"


def test_other_precisions_report_their_agreement(folder: Path) -> None:
    result = probe.check(folder, tiny.model(), "bf16")
    assert result.verdict == "exact"  # the stored latents still get their ids
    assert result.latent_error > probe.LATENT_BOUND
    assert result.ids_equal < result.tokens


def test_near_ties_are_counted(folder: Path) -> None:
    """A stored id that is off by less than the tie bound is forgiven, and said."""
    stored = load_file(probe.file_of(folder))
    model = tiny.model()
    own, other = model.quantize.embedding.weight.data[:2]
    model.quantize.embedding.weight.data[2:] += 100
    # Between the first two codes, a hair on the side of the first; stored as the second's.
    stored["latents"][0, :, 0, 0] = (own + other) / 2 + (own - other) * 1e-8
    ids = model.quantize.encode(stored["latents"])
    ids[0, 0, 0] = 1 - ids[0, 0, 0]
    save_file({**stored, "ids": ids}, probe.file_of(folder))
    moved, beyond = probe._moved(model, stored["latents"], ids)
    assert (int(moved.sum()), beyond) == (1, False)


def test_missing_probe_is_unchecked(tmp_path: Path) -> None:
    result = probe.check(tmp_path, tiny.model())
    assert str(result) == "unchecked: the folder holds no probe of these weights"


def test_probe_of_another_model(folder: Path) -> None:
    with pytest.raises(MismatchError) as error:
        probe.check(folder, tiny.model(latent_channels=8))
    shape = tuple(load_file(probe.file_of(folder))["latents"].shape)
    assert str(error.value) == (
        f"{probe.file_of(folder)} belongs to another model: its latents have the shape {shape}, "
        f"this model's {(shape[0], 8, *shape[2:])}"
    )


def test_damaged_probe(folder: Path) -> None:
    (probe.file_of(folder)).write_bytes(b"no")
    with pytest.raises(LoadError) as error:
        probe.check(folder, tiny.model())
    assert str(error.value).startswith(f"{probe.file_of(folder)} is not a readable probe: ")


def test_foreign_schema(folder: Path) -> None:
    save_file(load_file(probe.file_of(folder)), probe.file_of(folder))
    with pytest.raises(LoadError) as error:
        probe.check(folder, tiny.model())
    assert str(error.value) == (
        f"{probe.file_of(folder)} has the schema None; this version reads 'vqtok-probe/1'"
    )


def test_a_model_that_gives_nan_is_refused(folder: Path) -> None:
    model = tiny.model()
    with torch.no_grad():
        model.quant_conv.bias.fill_(torch.nan)
    for precision in ("ieee32", "tf32"):
        assert probe.check(folder, model, precision).verdict == "refused"


def test_pixels_resized_otherwise_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = probe._pixels(tiny.model())
    monkeypatch.setattr(probe, "_pixels", lambda model: here ^ 1)
    result = probe.check(folder, tiny.model())
    assert (result.verdict, result.pixels_equal) == ("refused", False)
    assert str(result).endswith(", pixels resized otherwise")


def test_half_precision_weights_are_probed_as_they_load(tmp_path: Path) -> None:
    probe.write(tmp_path, tiny.model().half())
    result = probe.check(tmp_path, tiny.model().half().float())
    assert (result.verdict, result.latent_error < 1e-5) == ("exact", True)


def test_each_variant_has_its_probe(folder: Path) -> None:
    half = tiny.model().half().float()
    probe.write(folder, half, "fp16")
    assert probe.check(folder, tiny.model()).verdict == "exact"
    assert probe.check(folder, half, variant="fp16").verdict == "exact"
    assert probe.check(folder, half).verdict == "refused"
    assert probe.check(folder, half, variant="bf16").verdict == "unchecked"


def test_probe_of_other_codes(folder: Path) -> None:
    args = {"num_quantizers": 2, "start": "kaiming"}
    with pytest.raises(MismatchError) as error:
        probe.check(folder, tiny.model(quantizer="residual", quantizer_args=args))
    shape = tuple(load_file(probe.file_of(folder))["ids"].shape)
    assert str(error.value) == (
        f"{probe.file_of(folder)} belongs to another model: its ids have the shape {shape}, this "
        f"model's {(*shape, 2)}"
    )


def test_at_the_start_a_loaded_model_is_compared_with_its_folder(tmp_path: Path) -> None:
    tiny.tokenizer().save_pretrained(tmp_path, variant="fp16")
    tok = VisualTokenizer.from_pretrained(tmp_path, variant="fp16")
    assert probe.check_at_start(tok.model, "ieee32", "fp16").verdict == "exact"
    assert probe.check_at_start(tok.model, "ieee32").verdict == "unchecked"
    assert probe.check_at_start(tiny.model(), "ieee32").verdict == "unchecked"
    with torch.no_grad():
        tok.model.encoder.conv_in.bias += 1
    result = probe.check(tmp_path, tok.model, "ieee32", "fp16")
    with pytest.raises(MismatchError) as error:
        probe.check_at_start(tok.model, "ieee32", "fp16")
    assert str(error.value) == (
        f"the tokenizer in '{tmp_path}' does not compute here what it did where it was saved: "
        f"{result}"
    )
