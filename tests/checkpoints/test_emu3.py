from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from checkpoints.built import agree, built, same_ids
from checkpoints.samples.emu3 import clips, oracle, sample
from safetensors.torch import save_file

from vqtok import VisualTokenizer
from vqtok.autoencoders.streaming import decode_stream, encode_stream
from vqtok.checkpoints import FAMILIES, Foreign, Plan
from vqtok.checkpoints.building import build
from vqtok.checkpoints.emu3 import plan, recognises
from vqtok.errors import ConfigError, LoadError
from vqtok.preprocess import Preprocess

# transformers' words -> BAAI's, written apart from the family's own rules.
ORIGINAL = [
    ("down_block.down.", "down."),
    ("up_block.up.", "up."),
    ("middle_block.attn_norm", "mid.attn_1.norm"),
    ("middle_block.", "mid."),
    ("q_proj", "q"),
    ("k_proj", "k"),
    ("v_proj", "v"),
    ("out_proj", "proj_out"),
]


def planned() -> Plan:
    tensors, said = sample()
    return plan(Foreign(tensors, said, "emu3"))


@torch.no_grad()
def test_it_computes_what_transformers_does() -> None:
    model, theirs = built(planned()), oracle()
    # The same numbers in the range that the networks take.
    x = model.pixels.outward(clips())
    hidden = theirs.encoder(clips().transpose(1, 2))
    latents = theirs.quant_conv(hidden.transpose(1, 2))
    assert agree(model.encode(x).latents, latents)
    codes = model.quantize.encode(model.encode(x).latents)
    expected = theirs.encode(clips().transpose(1, 2), torch.tensor([[8, 12]] * 2)).image_tokens
    assert same_ids(
        codes, torch.stack([part[:, :4, :6] for part in map(torch.as_tensor, expected)])
    )
    decoded = model.pixels.inward(model.decode(model.quantize.decode(codes)).sample)
    assert agree(decoded, theirs.decode(codes).transpose(1, 2))


@torch.no_grad()
def test_a_picture_is_repeated_as_emu3_does_it() -> None:
    plan_ = planned()
    model, theirs = built(plan_), oracle()
    picture = torch.randint(0, 256, (8, 12, 3), dtype=torch.uint8)
    tok = VisualTokenizer.from_model(model, plan_.preprocess.changed(stride=2))
    (codes,) = tok.encode_codes(picture.numpy())
    x = model.pixels.inward(picture.permute(2, 0, 1)[None] / 127.5 - 1)
    expected = theirs.encode(x, torch.tensor([[8, 12]])).image_tokens[0]
    assert torch.equal(codes[0], expected)
    assert len(tok.decode_codes(tok.encode_clip(picture.numpy()))[0]) == 1


@torch.no_grad()
def test_a_stream_gives_what_the_whole_does() -> None:
    model = built(planned())
    x = clips().repeat(1, 1, 2, 1, 1) * 0.5
    whole = model.encode_codes(x)
    for sizes in ([16], [1, 3, 5, 7], [4, 4, 8]):
        found = torch.cat(list(encode_stream(model, x.split(sizes, 2))), 1)
        assert torch.equal(found, whole)
    pixels = torch.cat(list(decode_stream(model, whole.split([1, 3], 1))), 2)
    assert torch.equal(pixels, model.decode_codes(whole))
    with torch.enable_grad():  # in one piece
        in_one = model.encode(x).latents
    assert agree(in_one.detach(), model.encode(x).latents)


@torch.no_grad()
def test_baai_s_names(tmp_path: Path) -> None:
    tensors, _ = sample()
    theirs = {}
    for key, tensor in tensors.items():
        if ".attn_norms." in key:
            block, number, rest = (
                key.replace("_block", "").split(".attn_norms.")[0],
                *key.split(".attn_norms.")[1].split(".", 1),
            )
            level = block.split(".")[-1]
            part = "down" if "down" in block else "up"
            key = f"{block.split('.')[0]}.{part}.{level}.attn.{number}.norm.{rest}"
        for old, new in ORIGINAL:
            key = key.replace(old, new)
        is_matrix = key.rsplit(".", 2)[-2] in ("q", "k", "v", "proj_out") and tensor.ndim == 2
        theirs[key] = tensor[..., None, None] if is_matrix else tensor
    assert "encoder.mid.attn_1.q.weight" in theirs and "decoder.up.1.attn.0.norm.conv_y.weight" in (
        theirs
    )
    save_file({k: t.contiguous() for k, t in theirs.items()}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "Emu3VisionVQ"}')
    processor = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.1, 0.2, 0.3], "min_pixels": 1}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    found = build(tmp_path)
    assert found.family == "emu3"
    assert found.model.config.pixel_mean == (0.4, 0.5, 0.6)
    assert found.model.config.pixel_std == (0.1, 0.2, 0.3)
    assert found.report.licence == "Apache-2.0"
    one = plan(Foreign(theirs, {}, "theirs"))
    for key, tensor in planned().weights.items():
        assert torch.equal(one.weights[key], tensor)
    codes = found.model.encode_codes(clips())
    assert found.model.encode_codes(found.model.decode_codes(codes)).shape == codes.shape


def test_what_is_planned() -> None:
    found = planned()
    assert found.settings["down_block_types"] == ("DownEncoderBlock2D", "AttnDownEncoderBlock2D")
    assert found.settings["up_block_types"] == ("AttnUpDecoderBlock2D", "UpDecoderBlock2D")
    assert (found.settings["temporal_stride"], found.settings["sample_frames"]) == (4, 4)
    assert (found.architecture, found.settings["estimator"]) == ("emu3", "ste")
    assert found.settings["quantizer"] == "vector"
    assert found.settings["quantizer_args"] == {
        "codebook_update": "gradient",
        "commitment_weight": 0.25,
        "dead_codes": "off",
        "start": "uniform",
    }
    assert found.preprocess == Preprocess(
        policy="native", stride=2, resize="pillow-bicubic", max_area=1024**2
    )
    assert found.notes == (
        "A picture is repeated until it fills a token, as Emu3 does it; decoding gives its first "
        "frame.",
        "Norms over time keep the statistics of the file, in training as well.",
        "Emu3 enlarges pictures under 512 x 512 pixels; here they keep their size, and only those "
        "over 1024 x 1024 are shrunk.",
        "Emu3 resizes both sides to multiples of a cell's; here what is over is cut off, half on "
        "each side.",
        "Emu3's training is not published: the commitment weight of .25, the codebook learnt by "
        "gradient and the estimator are assumed. Training alone depends on that.",
    )
    assert all(key.endswith("num_batches_tracked") for key in found.dropped) and found.dropped


def test_pixels_are_in_the_range_of_baai_s_processor_unless_told() -> None:
    made = planned()
    assert not {"pixel_mean", "pixel_std"} & set(made.settings)
    assert torch.equal(built(made).pixels.inward(clips()), clips())
    tensors, said = sample()
    clip = {"image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28]}
    told = plan(Foreign(tensors, {**said, **clip}, "emu3")).settings
    assert told["pixel_mean"] == (0.48, 0.46, 0.41)
    assert told["pixel_std"] == (0.27, 0.26, 0.28)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"image_mean": [0.5] * 3}, "x tells image_mean without image_std; tell both or neither"),
        ({"image_std": [0.5] * 3}, "x tells image_std without image_mean; tell both or neither"),
        (
            {"image_mean": [0.5] * 3, "image_std": [0.5, 0.0, 0.5]},
            "image_std is a list of 3 numbers above 0; the settings of the checkpoint say "
            "[0.5, 0.0, 0.5]",
        ),
    ],
)
def test_half_a_range(told: dict[str, list[float]], message: str) -> None:
    tensors, said = sample()
    with pytest.raises(ConfigError) as error:
        plan(Foreign(tensors, {**said, **told}, "x"))
    assert str(error.value) == message


def test_codes_of_another_shape() -> None:
    tensors, said = sample()
    with pytest.raises(LoadError) as error:
        plan(Foreign({**tensors, "quantize.embedding.weight": torch.zeros(4)}, said, "x"))
    assert str(error.value) == (
        "x holds 'quantize.embedding.weight' of shape (4,); it has 2 axes, each at least 1"
    )


def test_recognised() -> None:
    tensors, _ = sample()
    assert recognises(tensors)
    assert [name for name in FAMILIES if FAMILIES[name].recognises(tensors)] == ["emu3"]


@torch.no_grad()
def test_from_the_whole_model(tmp_path: Path) -> None:
    tensors, said = sample()
    whole = {f"model.vqmodel.{key}": t.contiguous() for key, t in tensors.items()}
    whole["model.text_model.embed_tokens.weight"] = torch.ones(2, 2)
    save_file(whole, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(said))
    found = build(tmp_path)
    assert found.family == "emu3"
    codes = found.model.encode_codes(clips())
    assert codes.shape == (2, 2, 4, 6) and len(codes.unique()) >= 10
