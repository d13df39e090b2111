"""What holds for the autoencoder of every architecture."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from autoencoders.toys import TOYS, pixels, signed, toy
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import vqtok
from vqtok import VisualTokenizer, fingerprint, probe
from vqtok.architectures import ARCHITECTURES
from vqtok.autoencoders import AUTOENCODERS, AutoencoderBase
from vqtok.autoencoders.loading import class_of, load_model
from vqtok.clip_codec import TorchClipCodec
from vqtok.codec import TorchCodec
from vqtok.errors import CodesError, ConfigError, ImageError, UnknownNameError
from vqtok.preprocess import Preprocess

every = pytest.mark.parametrize("name", TOYS)
SETTINGS = Preprocess(policy="center", size=32, stride=4)


def message(kind: type[Exception], call: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(kind) as error:
        call(*args, **kwargs)
    return str(error.value)


def test_every_architecture_has_an_autoencoder_and_is_tested() -> None:
    assert list(AUTOENCODERS) == list(ARCHITECTURES) == sorted(TOYS)
    names = {AUTOENCODERS[name].__name__ for name in AUTOENCODERS}
    assert all(name.startswith("AutoencoderVQ") for name in names)  # as `vqtok.contents` knows them
    assert names < set(vqtok.__all__)  # diffusers looks for a pipeline's parts in the package
    assert message(UnknownNameError, lambda: AUTOENCODERS["vitt"]) == (
        "there is no architecture called 'vitt'. Did you mean 'vit'? Known: "
        f"{', '.join(sorted(TOYS))}."
    )


@every
@torch.no_grad()
def test_pixels_to_codes_and_back(name: str) -> None:
    ours = toy(name)
    eight = pixels(ours)
    x = signed(eight)
    latents = ours.encode(x).latents
    codes = ours.encode_codes(eight)
    assert codes.shape == (2, *latents.shape[2:]) and codes.dtype == torch.int64
    assert len(codes.unique()) > 5
    assert ours.size_of(tuple(codes.shape[1:])) == x.shape[2:]
    assert torch.equal(codes, ours.encode_codes(x))
    assert torch.equal(codes, ours.quantize.encode(latents))
    out = ours(x)
    assert torch.equal(out.latents, latents) and torch.equal(out.quantized.codes, codes)
    assert torch.equal(out.commit_loss, ours.quantize.total_loss(out.quantized.losses))
    assert torch.equal(out.sample, ours.decode(latents).sample)
    assert torch.equal(out.sample.clamp(-1, 1), ours.decode_codes(codes))
    assert out.sample.shape == x.shape
    plain = ours.decode(latents, force_not_quantize=True).sample
    assert torch.allclose(plain, ours.decode(latents * 1.0, force_not_quantize=True).sample)
    assert not torch.equal(plain, out.sample)


@every
@pytest.mark.parametrize("tokens", [1, 11])
def test_other_sizes(name: str, tokens: int) -> None:
    ours = toy(name)
    x = pixels(ours, tokens)
    codes = ours.encode_codes(x)
    assert ours.decode_codes(codes).shape == x.shape


@every
def test_items_of_a_batch_do_not_see_each_other(name: str) -> None:
    ours = toy(name)
    x = pixels(ours)
    assert torch.equal(ours.encode_codes(x)[1:], ours.encode_codes(x[1:]))


@every
def test_ratios(name: str) -> None:
    ours = toy(name)
    assert ours.spatial_compression_ratio == ours.stride[-1] == ours.stride[-2]
    # Pipelines take what has a temporal ratio for a model of clips.
    assert hasattr(ours, "temporal_compression_ratio") == (len(ours.stride) == 3)


# --- gradients --------------------------------------------------------------------------------


def gradients(ours: AutoencoderBase) -> dict[str, Tensor]:
    ours.zero_grad()
    out = ours(signed(pixels(ours)))
    (out.sample.square().mean() + out.commit_loss).backward()
    return {name: weight.grad.clone() for name, weight in trained(ours).items()}


def trained(ours: AutoencoderBase) -> dict[str, nn.Parameter]:
    return {name: weight for name, weight in ours.named_parameters() if weight.requires_grad}


@every
def test_a_training_forward_changes_nothing_but_gradients(name: str) -> None:
    ours = toy(name).train()
    before = {key: value.clone() for key, value in ours.state_dict().items()}
    grads = gradients(ours)
    assert all(torch.equal(before[key], value) for key, value in ours.state_dict().items())
    assert all(grad.isfinite().all() and grad.abs().sum() > 0 for grad in grads.values())


@every
def test_gradient_checkpointing(name: str) -> None:
    ours = toy(name).train()
    seen: Counter[str] = Counter()
    for part in ("encoder", "decoder"):
        for module in ours.get_submodule(part).modules():
            module.register_forward_pre_hook(lambda *_, part=part: seen.update([part]))
    plain = gradients(ours)
    once = dict(seen)
    calls: list[object] = []

    def noted(block: Any, *args: Any) -> Any:
        calls.append(block)
        return checkpoint(block, *args, use_reentrant=False)

    ours.enable_gradient_checkpointing(noted)
    assert ours.is_gradient_checkpointing
    again = gradients(ours)
    assert len(calls) >= 2
    # Some of either network are run again in the backward pass.
    assert all(seen[part] > 2 * once[part] for part in once) and len(once) == 2
    assert all(torch.equal(plain[key], again[key]) for key in plain)


@every
def test_the_last_layer_is_what_makes_the_pixels(name: str) -> None:
    ours = toy(name).train()
    last = ours.last_layer
    assert isinstance(last, nn.Parameter)
    assert any(last is weight for weight in ours.decoder.parameters())
    out = ours(signed(pixels(ours)))
    (grad,) = torch.autograd.grad(out.sample.square().mean(), last, retain_graph=True)
    assert grad.shape == last.shape and grad.abs().sum() > 0
    with torch.no_grad():
        last.zero_()
        flat = ours(signed(pixels(ours))).sample
    # Without it all that is left is the bias: the same for all tokens.
    step = [slice(None, None, s) for s in ours.stride]
    grid = flat[(..., *step)]
    assert torch.allclose(grid, grid[(..., *[slice(0, 1)] * len(step))].expand_as(grid))


# --- what cannot be -----------------------------------------------------------------------------


@every
def test_pixels_that_cannot_be(name: str) -> None:
    ours = toy(name)
    x = pixels(ours)
    what, axes = ("picture", "H, W") if len(ours.stride) == 2 else ("clip", "T, H, W")
    assert message(ImageError, ours.encode_codes, x[0]) == (
        f"pixels have the shape (B, 3, {axes}); got {tuple(x.shape[1:])}"
    )
    assert message(ImageError, ours.encode_codes, x[:0]) == (
        f"there is no {what} in a batch of the shape {(0, *x.shape[1:])}"
    )
    sides = [*x.shape[2:-1], x.shape[-1] - 1]
    rule = "" if name == "titok" else "multiples of "
    stride = ours.stride
    if ours.causal:
        rule, stride = f"1 + a multiple of {stride[0]} frames, and multiples of ", stride[1:]
    assert message(ImageError, ours.encode_codes, x[..., 1:]) == (
        f"the sides of a {what} are {rule}{' x '.join(map(str, stride))}; got "
        f"{' x '.join(map(str, sides))} (vqtok.preprocess crops or pads to fit)"
    )


@every
def test_codes_that_cannot_be(name: str) -> None:
    ours = toy(name)
    codes = ours.encode_codes(pixels(ours))
    axes = {1: "L", 2: "h, w", 3: "t, h, w"}[ours.code_axes]
    assert message(CodesError, ours.decode_codes, codes[0]) == (
        f"codes of this model have the shape (B, {axes}), with at least one token; got "
        f"{tuple(codes.shape[1:])}"
    )


# --- folders ------------------------------------------------------------------------------------


def equal(one: AutoencoderBase, other: AutoencoderBase) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)


@every
def test_saved_and_loaded(name: str, tmp_path: Path, diffusers_log: list[str]) -> None:
    ours = toy(name)
    ours.save_pretrained(tmp_path)
    again = load_model(tmp_path)
    assert type(again) is type(ours) and not again.training
    assert equal(again, ours) and again.to_json_string() == ours.to_json_string()
    x = pixels(ours)
    codes = ours.encode_codes(x)
    assert torch.equal(again.encode_codes(x), codes)
    assert torch.equal(again.decode_codes(codes), ours.decode_codes(codes))
    assert diffusers_log == []


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_leaves_the_codebook_alone(
    name: str, tmp_path: Path, dtype: torch.dtype
) -> None:
    ours = toy(name)
    ours.save_pretrained(tmp_path)
    half = type(ours).from_pretrained(tmp_path, torch_dtype=dtype)
    assert half.dtype == half.last_layer.dtype == dtype
    assert half.quantize.embedding.weight.dtype == torch.float32
    assert torch.equal(half.quantize.embedding.weight, ours.quantize.embedding.weight)
    x = pixels(ours)
    codes = half.encode_codes(x)
    assert (codes == ours.encode_codes(x)).float().mean() > 0.8
    assert half(signed(x).to(dtype)).sample.dtype == dtype
    assert half.decode_codes(codes).dtype == torch.float32


@every
def test_another_class_does_not_take_its_settings(name: str, tmp_path: Path) -> None:
    ours = toy(name)
    ours.save_pretrained(tmp_path)
    other = AUTOENCODERS["vit" if name == "cnn" else "cnn"]
    assert message(ConfigError, other.from_pretrained, tmp_path) == (
        f"these are the settings of {type(ours).__name__}, not of {other.__name__}"
    )


@pytest.mark.parametrize("name", ["conv_residual", "vit"])
def test_what_diffusers_has_no_class_for(name: str) -> None:
    assert message(ConfigError, toy(name).to_diffusers) == (
        f"diffusers has no class for this {AUTOENCODERS[name].__name__}; save_pretrained writes a "
        "folder that vqtok and transformers read"
    )


def test_the_class_of_settings() -> None:
    assert class_of({"_class_name": "VQModel"}) is AUTOENCODERS["cnn"]
    assert class_of({}) is AUTOENCODERS["cnn"]
    assert class_of({"_class_name": "AutoencoderVQViT"}) is AUTOENCODERS["vit"]
    assert message(ConfigError, class_of, {"_class_name": "AutoencoderKL"}) == (
        "these are the settings of 'AutoencoderKL', which is no autoencoder of this package. "
        f"Known: {', '.join(sorted(AUTOENCODERS[name].__name__ for name in TOYS))}, VQModel."
    )


# --- fingerprints and tokenizers ----------------------------------------------------------------

BOTH, ENCODER, DECODER = {"encoder", "decoder"}, {"encoder"}, {"decoder"}
RANGE = {"pixel_mean": (0.0, 0.0, 0.0), "pixel_std": (1.0, 1.0, 1.0)}
# Settings that leave all weights their shapes.
CHANGES: list[tuple[str, dict[str, Any], set[str]]] = [
    ("bsq_vit", {"scaling_factor": 0.5}, set()),
    ("bsq_vit", RANGE, BOTH),
    ("bsq_vit", {"heads": 4}, BOTH),
    ("cnn", {"sample_size": 64, "scaling_factor": 0.5}, set()),
    ("cnn", RANGE, BOTH),
    ("cnn3d", {"sample_frames": 9, "sample_size": 64, "scaling_factor": 0.5}, set()),
    ("cnn3d", RANGE, BOTH),
    ("conv_residual", {"sample_size": 64, "scaling_factor": 0.5}, set()),
    ("conv_residual", {"output": "linear"}, BOTH),
    ("magvit2", {"sample_size": 64, "scaling_factor": 0.5}, set()),
    ("magvit2", RANGE, BOTH),
    ("magvit2", {"norm_num_groups": 8}, BOTH),
    ("maskgit", {"sample_size": 64, "scaling_factor": 0.5}, set()),
    ("maskgit", RANGE, BOTH),
    ("maskgit", {"norm_num_groups": 8}, BOTH),
    ("titok", {"scaling_factor": 0.5}, set()),
    ("titok", RANGE, BOTH),
    ("titok", {"heads": 4}, BOTH),
    ("titok", {"decoder_heads": 4}, DECODER),
    ("titok", {"norm_num_groups": 2}, DECODER),
    ("vit", {"scaling_factor": 0.5, "shift_factor": 0.1}, set()),
    ("vit", RANGE, BOTH),
    ("vit", {"heads": 4, "dim_head": 4, "decoder_heads": 6}, BOTH),
    ("vit", {"sample_size": 64}, BOTH),
    ("timesformer", RANGE, BOTH),
    ("timesformer", {"heads": 4}, BOTH),
    ("timesformer", {"sample_size": 64}, BOTH),
    ("timesformer", {"sample_frames": 8}, BOTH),
]


@pytest.mark.parametrize(("name", "changes", "parts"), CHANGES)
def test_the_print_moves_with_what_changes_ids_or_pixels(
    name: str, changes: dict[str, Any], parts: set[str]
) -> None:
    base = toy(name)
    other = AUTOENCODERS[name].from_config(base.config, **changes).eval()
    other.load_state_dict(base.state_dict())
    prints = [fingerprint.of_model(one, SETTINGS) for one in (base, other)]
    assert set(prints[0].differences(prints[1])) == parts


@every
def test_one_changed_weight_moves_its_part(name: str) -> None:
    ours = toy(name)
    before = fingerprint.of_model(ours, SETTINGS)
    for weight, part in (
        (next(ours.encoder.parameters()), "encoder"),
        *((weight, "encoder") for weight in [*ours.quant_conv.parameters()][:1]),
        (ours.quantize.embedding.weight, "codebook"),
        (ours.last_layer, "decoder"),
    ):
        with torch.no_grad():
            weight.view(-1)[0].add_(1e-3)
        after = fingerprint.of_model(ours, SETTINGS)
        assert before.differences(after) == [part]
        before = after


@every
def test_a_folder_has_the_print_of_its_model(name: str, tmp_path: Path) -> None:
    ours = toy(name)
    ours.save_pretrained(tmp_path, max_shard_size="10KB")
    assert fingerprint.of_folder(tmp_path, SETTINGS) == fingerprint.of_model(ours, SETTINGS)


@every
def test_the_architecture_is_part_of_the_print(name: str) -> None:
    kind = AUTOENCODERS[name]
    said = {"architecture": name} if name != "cnn" else {}  # whose prints are older
    whole = fingerprint._defaults(kind)
    assert fingerprint._settings(kind, whole, kind.ENCODER_SETTINGS) == said
    assert fingerprint._settings(kind, whole, kind.DECODER_SETTINGS) == said


@every
def test_a_probe(name: str, tmp_path: Path) -> None:
    ours = toy(name)
    probe.write(tmp_path, ours)
    result = probe.check(tmp_path, ours)
    assert (result.verdict, result.near_ties) == ("exact", 0) and result.tokens >= 64
    assert probe.check(tmp_path, toy(name, seed=1)).verdict == "refused"


def codec_of(model: AutoencoderBase) -> TorchCodec:
    kind = TorchClipCodec if model.is_video else TorchCodec
    return kind(model, fingerprint.of_model(model, SETTINGS))


@every
def test_a_codec(name: str) -> None:
    ours = toy(name)
    x = pixels(ours)
    codec = codec_of(ours)
    codes = codec.encode(x.movedim(1, -1).numpy())
    assert (codes.ids == ours.encode_codes(x).numpy()).all()
    assert codes.sizes.tolist() == [[*x.shape[2:]]] * 2
    decoded = codec.decode(codes)
    assert decoded.shape == (2, *x.shape[2:], 3)
    wanted = (ours.decode_codes(torch.from_numpy(codes.ids)) + 1) * 127.5
    assert (decoded == wanted.round().movedim(1, -1).numpy()).all()
    assert codec.latents(codes).shape == (2, 4, *codes.grid)


def test_clips_that_a_codec_cannot_take() -> None:
    codec = codec_of(toy("timesformer"))
    assert message(ImageError, codec.encode, pixels(toy("cnn")).numpy()) == (
        "a batch of clips is a uint8 array of the shape (N, T, H, W, 3); got uint8 (2, 3, 16, 20)"
    )


@every
def test_a_tokenizer_and_its_folder(name: str, tmp_path: Path) -> None:
    ours = toy(name)
    tok = VisualTokenizer.from_model(ours, SETTINGS)
    picture = pixels(ours, 9)[0].movedim(0, -1).numpy()
    tok.save_pretrained(tmp_path)
    again = VisualTokenizer.from_pretrained(tmp_path)
    assert type(again.model) is type(ours)
    assert again.fingerprint == tok.fingerprint
    ids = tok.encode(picture)
    assert again.encode(picture) == ids and len(set(ids)) > 5
    one, other = (t.decode(ids, output_type="np") for t in (tok, again))
    assert (one == other).all() and one.shape == (*picture.shape[:-3], 32, 32, 3)
    assert probe.check(tmp_path, again.model).verdict == "exact"


@every
def test_what_is_no_tensor_or_has_another_grid(name: str) -> None:
    ours = toy(name)
    codes = ours.encode_codes(pixels(ours))
    assert message(ImageError, ours.encode_codes, pixels(ours).numpy()) == (
        "pixels are a tensor here; got ndarray"
    )
    assert message(CodesError, ours.decode_codes, codes.tolist()) == (
        "codes are a tensor here; got list"
    )
    if ours.code_axes > 1:
        other = tuple(side + 1 for side in codes.shape[1:])
        assert message(CodesError, ours.decode_codes, codes, grid=other) == (
            f"codes of the shape {tuple(codes.shape)} have no grid of {' x '.join(map(str, other))}"
        )
    axes = "height and width" if len(ours.stride) == 2 else "frames, height and width"
    if ours.only_size is None:
        what = "clip" if ours.is_video else "picture"
        assert message(ImageError, ours.grid_of, (8,)) == f"a {what} has the axes {axes}; got (8,)"
