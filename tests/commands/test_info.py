from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from autoencoders.toys import toy
from checkpoints import toy_family
from commandline import picture, pictures, residual, tokenizer, vqtok
from safetensors.torch import load_file, save_file

from vqtok import AutoencoderVQ, AutoencoderVQTimesformer, VisualTokenizer
from vqtok.autoencoders.loading import load_model
from vqtok.checkpoints.vector_quantize_pytorch import to_vector_quantize_pytorch
from vqtok.commands import codebooks
from vqtok.commands.info import describe
from vqtok.obtain import obtain
from vqtok.preprocess import Preprocess, preprocess
from vqtok.zoo import bundled, samples
from vqtok.zoo.aliases import aliases


def facts(*arguments: str | Path) -> dict[str, Any]:
    done = vqtok("info", *arguments, "--json")
    assert (done.status, done.err) == (0, "")
    found: dict[str, Any] = json.loads(done.out)
    return found


def test_what_is_said() -> None:
    tok = VisualTokenizer.from_pretrained(tokenizer())
    found = facts(tokenizer())
    behaviour = found.pop("behaviour_here")
    assert found == {
        "tokenizer": str(tokenizer()),
        "folder": str(tokenizer()),
        "family": "vqtok",
        "parameters": sum(p.numel() for p in tok.model.parameters()),
        "stride": 4,
        "pixels": [16, 16],
        "grid": [4, 4],
        "codes": 64,
        "dimensions": 4,
        "codes_per_token": 1,
        "bits_per_pixel": 6 / 16,
        "compression": 64,
        "quantizer": "vector",
        "estimator": "rotation",
        "preprocessing": {
            "policy": "center",
            "size": 16,
            "stride": 4,
            "resize": "torch-u8-bicubic",
        },
        "vocabulary": {"ids": tok.vocab_size, "first_code": 0, "order": "raster"},
        "fingerprint": tok.fingerprint.to_dict(),
    }
    assert (behaviour["verdict"], behaviour["ids_equal"]) == ("exact", behaviour["tokens"])


def test_a_stock_folder(tmp_path: Path) -> None:
    """One name for the family, in a folder and alone; our own keep theirs."""
    own = load_model(bundled()["photo-tiny"])
    own.to_diffusers().save_pretrained(tmp_path / "stock")
    known = {
        "family": "diffusers_vq",
        "licence": "that of the repository it comes from",
    }
    table = vqtok("info", tmp_path / "stock").out.splitlines()
    lines = {line[:17].strip(): line[17:] for line in table}
    assert lines["behaviour here"] == "unchecked"
    found = facts(tmp_path / "stock")
    stride, size = found["stride"], " x ".join(map(str, found["pixels"]))
    assert lines["pixels"] == (f"any multiple of {stride} a side; for example {size}")
    assert lines["grid"] == f"for those {' x '.join(map(str, found['grid']))}"
    assert {name: found[name] for name in known} == known
    assert found["what"] == "diffusers VQModel"
    assert facts(tmp_path / "stock", "--family", "diffusers_vq") == found
    file = shutil.copyfile(
        tmp_path / "stock/diffusion_pytorch_model.safetensors", tmp_path / "a.safetensors"
    )
    alone = facts(file, "--set", "norm_num_groups=8", "--family", "diffusers_vq")
    assert {name: alone[name] for name in known} == known
    assert facts("photo-tiny")["family"] == "vqtok"


def codebook(tmp_path: Path) -> Path:
    """A codebook of vector-quantize-pytorch, within a larger model."""
    made = AutoencoderVQ.from_pretrained(bundled()["photo-tiny"]).quantize
    tensors = to_vector_quantize_pytorch(made)
    torch.save({f"vq.{key}": tensor for key, tensor in tensors.items()}, tmp_path / "model.pt")
    torch.save(tensors, tmp_path / "codes.pt")
    return tmp_path / "codes.pt"


def test_a_lone_codebook(tmp_path: Path) -> None:
    file = codebook(tmp_path)
    assert facts(file) == codebooks.describe(file)
    inner = tmp_path / "model.pt"
    assert facts(inner, "--set", "prefix=vq.") == codebooks.describe(inner, prefix="vq.")
    assert facts(inner, "--set", "prefix=vq.")["fingerprint"] == facts(file)["fingerprint"]
    shown = vqtok("info", file)
    assert shown.status == 0 and "vector_quantize_pytorch" in shown.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--frames", "3"],
            "--precision, --pictures and --frames are for tokenizers; {file} is a codebook without "
            "networks",
        ),
        (
            ["--set", "head=3"],
            "{file} is a codebook without networks, of which --set tells prefix and heads alone; "
            "got head",
        ),
    ],
)
def test_options_that_a_codebook_has_not(tmp_path: Path, options: Any, message: str) -> None:
    file = codebook(tmp_path)
    assert vqtok("info", file, *options) == (2, b"", f"vqtok: {message.format(file=file)}\n")


def test_what_becomes_of_a_clip(tmp_path: Path) -> None:
    VisualTokenizer.from_model(toy("cnn3d")).save_pretrained(tmp_path)
    assert facts(tmp_path, "--frames", "36")["clip"] == (
        "36 frames: padded to 37 by repeating the last, 19 tokens of frames; decode gives frames "
        "0..35"
    )
    assert vqtok("info", tokenizer(), "--frames", "36") == (
        2,
        b"",
        "vqtok: this tokenizer takes pictures, not clips\n",
    )


def test_several_codes_a_token() -> None:
    found = facts(residual(), "--precision", "bf16")
    assert (found["codes_per_token"], found["bits_per_pixel"]) == (2, 2 * 6 / 16)
    assert found["ids_equal_to_ieee32"]["bf16"]["tokens"] == 16 * len(samples())


def test_the_table_says_the_same() -> None:
    tok = VisualTokenizer.from_pretrained(tokenizer())
    done = vqtok("info", tokenizer(), "--precision", "ieee32")
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == f"tokenizer            {tokenizer()}"
    assert "bits per pixel       0.375" in lines
    assert "preprocessing        policy  center" in lines
    assert "                     size    16" in lines
    assert f"                     codebook    {tok.fingerprint.codebook}" in lines
    assert lines[-1] == (
        f"ids equal to ieee32  ieee32  share 1.0, tokens {16 * len(samples())}, differ 0"
    )


@pytest.mark.parametrize("form", ["file", "folder"])
def test_what_was_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setenv("VQTOK_CACHE", str(tmp_path / "cache"))
    toy_family.register(monkeypatch)
    file = toy_family.file(tmp_path / "a_b.ckpt")
    found = facts(file if form == "file" else obtain(file).path)
    assert found["family"] == "toy"
    digest = sha256(file.read_bytes()).hexdigest()
    assert found["converted_from"] == {
        "what": "a toy",
        "file": "a_b.ckpt",
        "sha256": {"a_b.ckpt": digest},
    }
    assert found["licence"] == "a toy's licence"
    assert found["notes"] == ["Toys are small."]
    assert (found["pixels"], found["grid"], found["compression"]) == ([16, 16], [4, 4], 64)
    lines = vqtok("info", file).out.splitlines()
    assert "family           toy" in lines
    assert "converted from   what    a toy" in lines
    assert f"                 sha256  a_b.ckpt {digest}" in lines
    assert "notes            Toys are small." in lines
    assert "grid             4 x 4" in lines


def test_pictures_of_any_size() -> None:
    """The sizes are then those of the smallest picture that every layer sees in full."""
    tok = VisualTokenizer.from_pretrained(tokenizer()).with_preprocess(policy="native")
    found = describe(tok)
    assert (found["pixels"], found["grid"]) == ((32, 32), (8, 8))
    assert found["bits_per_pixel"] == 6 / 16


def test_a_model_of_clips(tmp_path: Path) -> None:
    model = AutoencoderVQTimesformer(
        sample_size=16,
        sample_frames=2,
        patch_size=4,
        latent_channels=8,
        depth=1,
        heads=2,
        mlp_dim=16,
        num_vq_embeddings=32,
        quantizer_args={"start": "kaiming"},
    )
    rule = Preprocess(policy="center", size=16, stride=4)
    VisualTokenizer.from_model(model, rule).save_pretrained(tmp_path)
    found = facts(tmp_path)
    assert (found["stride"], found["pixels"]) == ([1, 4, 4], [2, 16, 16])
    assert (found["grid"], found["bits_per_pixel"]) == ([2, 4, 4], round(5 / 16, 4))
    done = vqtok("info", tmp_path, "--precision", "all")
    assert (done.status, done.err) == (
        2,
        "vqtok: --precision compares the ids of pictures; this is a tokenizer of clips\n",
    )


def test_the_list_of_names() -> None:
    done = vqtok("info", "--list")
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == "photo-tiny  in the package"
    assert lines[1].split() == ["NAME", "FAMILY", "LICENCE", "SEEN", "WHERE"]
    named = [line for line in lines if line.startswith("llamagen-vq16 ")]
    assert " ".join(named[0].split()) == (
        "llamagen-vq16 llamagen MIT no FoundationVision/LlamaGen vq_ds16_c2i.pt"
    )
    assert lines[-1] == "SEEN no: nobody has loaded the published file with this package yet."
    assert len(lines) == len(aliases()) + 3


def test_the_list_as_json() -> None:
    found = facts("--list")
    assert found["bundled"] == ["photo-tiny"]
    assert [entry["name"] for entry in found["checkpoints"]] == sorted(aliases())


def test_the_list_is_quick() -> None:
    code = (
        "import sys; from vqtok.cli import app; app(['info', '--list'], standalone_mode=False); "
        "sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_every_precision_is_compared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = picture(tmp_path / "a.png")
    encode = AutoencoderVQ.encode_codes

    def moved(self: AutoencoderVQ, x: torch.Tensor, precision: Any = "ieee32") -> torch.Tensor:
        if precision == "fp16":
            raise RuntimeError("no half here\nand more")
        ids = encode(self, x)
        if precision == "bf16":
            ids[0, 1, 2] = (ids[0, 1, 2] + 1) % 64
            ids[0, 3, 0] = (ids[0, 3, 0] + 1) % 64
        return ids

    tok = VisualTokenizer.from_pretrained(tokenizer())
    pixels = torch.from_numpy(preprocess(file, tok.settings)).permute(2, 0, 1)[None]
    with torch.no_grad():
        latents = tok.model.encode((pixels - 127.5) * (1 / 127.5)).latents
        margins = tok.model.quantize.margin(latents) / latents.square().mean().sqrt()
    low, high = sorted([float(margins[0, 1, 2]), float(margins[0, 3, 0])])
    monkeypatch.setattr(AutoencoderVQ, "encode_codes", moved)
    found = facts(tokenizer(), "--precision", "all", "--pictures", file)["ids_equal_to_ieee32"]
    assert found == {
        "ieee32": {"share": 1.0, "tokens": 16, "differ": 0},
        "tf32": {"share": 1.0, "tokens": 16, "differ": 0},
        "bf16": {
            "share": 14 / 16,
            "tokens": 16,
            "differ": 2,
            "median_margin": pytest.approx(low, rel=0.06),
            "largest_margin": pytest.approx(high, rel=0.06),
        },
        "fp16": {"does_not_run": "no half here"},
    }
    assert low > 0


def test_all_precisions_run_here(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png")
    arguments = ["info", tokenizer(), "--precision", "all", "--pictures", tmp_path, "--json"]
    done = vqtok(*arguments, terminals=("stdout", "stderr"))
    found = json.loads(done.out)["ids_equal_to_ieee32"]
    assert list(found) == ["ieee32", "tf32", "bf16", "fp16"]
    assert all(figures["tokens"] == 32 for figures in found.values())
    assert "compare  [" in done.err and "2/2" in done.err


def test_a_tokenizer_that_misbehaves_has_its_own_status(tmp_path: Path) -> None:
    folder = tmp_path / "tok"
    shutil.copytree(tokenizer(), folder)
    probe = load_file(folder / "probe.safetensors")
    probe["latents"] *= 1.5
    save_file(probe, folder / "probe.safetensors", metadata={"schema": "vqtok-probe/1"})
    done = vqtok("info", folder)
    assert (done.status, done.err) == (1, "")
    assert re.search(r"^behaviour here +verdict +refused$", done.out, re.MULTILINE)


def test_a_variant_has_its_own_probe(tmp_path: Path) -> None:
    VisualTokenizer.from_pretrained(tokenizer()).save_pretrained(tmp_path)
    VisualTokenizer.from_pretrained(tokenizer(1)).save_pretrained(tmp_path, variant="other")
    prints = [facts(tmp_path)["fingerprint"], facts(tokenizer(1))["fingerprint"]]
    other = facts(tmp_path, "--variant", "other")
    assert (other["behaviour_here"]["verdict"], other["fingerprint"]) == ("exact", prints[1])
    assert prints[0] != prints[1]


def test_a_folder_without_a_probe_is_unchecked(tmp_path: Path) -> None:
    folder = tmp_path / "tok"
    shutil.copytree(tokenizer(), folder)
    (folder / "probe.safetensors").unlink()
    assert facts(folder)["behaviour_here"]["verdict"] == "unchecked"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--precision", "some"],
            "there is no precision called 'some'. Known: bf16, fp16, ieee32, tf32.",
        ),
        (["--precision", "all", "--pictures", "gone"], "there is no file or folder 'gone'"),
    ],
)
def test_mistakes(arguments: list[str], message: str) -> None:
    assert vqtok("info", tokenizer(), *arguments) == (2, b"", f"vqtok: {message}\n")
