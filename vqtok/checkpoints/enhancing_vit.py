"""ViT-VQGAN of enhancing-transformers: `vitvqgan-imagenet-small` and `-base`.

A Lightning checkpoint: tensors lie under `state_dict`, those of the loss among them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vqtok.architectures.positions import plane
from vqtok.checkpoints import FAMILIES, Family, Foreign, Plan
from vqtok.checkpoints.keys import asked, need, renamed
from vqtok.checkpoints.recipes import BY_GRADIENT, CODES, untold
from vqtok.checkpoints.told import assumed, flag, number, section, whole
from vqtok.errors import ConfigError, LoadError
from vqtok.preprocess import Preprocess

__all__ = ["Trunk", "plan", "recognises"]

MARKS = (
    "encoder.to_patch_embedding.0.weight",
    "decoder.to_pixel.1.weight",
    "pre_quant.weight",
    "quantizer.embedding.weight",
)
LOSS, JUDGE = "loss.", "loss.discriminator."
BETA = 0.25  # by default
DIM_HEAD = 64  # the source's default, which none of its settings files changes
# Room for files of half precision; a grid of another shape is far off.
SAME_POSITIONS = 1e-2

RESIDUAL_TABLE = "quantize.stages.0.embedding.weight"
_SIDE = r"(encoder|decoder)\.transformer\."
_BLOCK = _SIDE + r"layers\.(\d+)\."
RULES = (
    (_BLOCK + r"0\.norm\.(weight|bias)", r"\1.trunk.blocks.\2.attention_norm.\3"),
    (_BLOCK + r"0\.fn\.to_qkv\.(weight)", r"\1.trunk.blocks.\2.attention.qkv.\3"),
    (_BLOCK + r"0\.fn\.to_out\.(weight|bias)", r"\1.trunk.blocks.\2.attention.out.\3"),
    (_BLOCK + r"1\.norm\.(weight|bias)", r"\1.trunk.blocks.\2.mlp_norm.\3"),
    (_BLOCK + r"1\.fn\.net\.([02])\.(weight|bias)", r"\1.trunk.blocks.\2.mlp.\3.\4"),
    (_SIDE + r"norm\.(weight|bias)", r"\1.trunk.norm.\2"),
    (r"encoder\.to_patch_embedding\.0\.(weight|bias)", r"encoder.from_patch.\1"),
    (r"decoder\.to_pixel\.1\.(weight|bias)", r"decoder.to_patch.\1"),
    (r"pre_quant\.(weight|bias)", r"quant_conv.\1"),
    (r"post_quant\.(weight|bias)", r"post_quant_conv.\1"),
    (r"quantizer\.embedding\.weight", CODES),
)
POSITIONS = {"encoder": "encoder.en_pos_embedding", "decoder": "decoder.de_pos_embedding"}


class Trunk(NamedTuple):
    """The sizes of one of the two transformers."""

    channels: int
    depth: int
    heads: int
    mlp_dim: int
    dim_head: int


def recognises(tensors: Mapping[str, Tensor]) -> bool:
    """See `Family`."""
    return all(key in tensors for key in MARKS)


def plan(foreign: Foreign) -> Plan:
    """See `Family`."""
    tensors, dropped = _without_loss(foreign.tensors)
    need(tensors, [*MARKS, *POSITIONS.values(), "post_quant.weight"], foreign.origin)
    said = foreign.settings
    sides = {side: _trunk(tensors, side, said, foreign.origin) for side in POSITIONS}
    patch = _patch(tensors, foreign.origin)
    grids = {side: _grid(tensors[key], foreign.origin) for side, key in POSITIONS.items()}
    if grids["encoder"] != grids["decoder"]:
        raise LoadError(f"the encoder and the decoder in {foreign.origin} have unlike positions")
    for key in POSITIONS.values():
        dropped[key] = "positions are computed"
        del tensors[key]
    weights = renamed(tensors, RULES, foreign.origin)
    notes = _add_identities(weights, sides)
    for name in ("quant_conv.weight", "post_quant_conv.weight"):
        weights[name] = weights[name][:, :, None, None]
    quantizer, more = _quantizer(said, foreign.origin)
    if quantizer["quantizer"] == "residual":
        weights[RESIDUAL_TABLE] = weights.pop(CODES)
    height, width = (cells * patch for cells in grids["encoder"])
    preprocess, cropped = _pictures(height, width, patch)
    return Plan(
        architecture="vit",
        settings={**_networks(tensors, sides, patch, max(height, width)), **quantizer},
        weights=weights,
        preprocess=preprocess,
        dropped=dropped,
        notes=(*cropped, *notes, *more),
    )


def _pictures(height: int, width: int, patch: int) -> tuple[Preprocess, tuple[str, ...]]:
    """How the source brings pictures to that size, and notes."""
    if height != width:
        size = height, width
        return Preprocess(policy="stretch", size=size, stride=patch, resize="pillow-bilinear"), ()
    return Preprocess.preset("torchvision", height, patch), (
        "The source squeezes what it validates on to a square; here pictures are resized by their "
        "short side and cut, as in its training, in the middle. policy='stretch' is the former.",
    )


def _without_loss(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A Lightning file's tensors -> the model's, and why the others are not needed."""
    kept = {key: tensor for key, tensor in tensors.items() if not key.startswith(LOSS)}
    judge = "a StyleGAN discriminator with a minibatch deviation, which training has not"
    return kept, {
        key: judge if key.startswith(JUDGE) else "a part of the loss"
        for key in tensors
        if key not in kept
    }


def _trunk(
    tensors: Mapping[str, Tensor], side: str, settings: Mapping[str, Any], origin: str
) -> Trunk:
    layers = re.compile(rf"{side}\.transformer\.layers\.(\d+)\..*")
    numbers = {match[1] for key in tensors if (match := layers.fullmatch(key))}
    first = f"{side}.transformer.layers.0."
    names = [first + "0.fn.to_qkv.weight", first + "1.fn.net.0.weight"]
    need(tensors, names, origin)
    qkv, mlp = (tensors[name] for name in names)
    wide = len(qkv) // 3
    said = {**settings, **section(settings, side)}
    if wide % DIM_HEAD and "heads" not in said:
        asked(said, "heads", f"into how many the attention of the {side} is cut", origin)
    heads = whole(said, "heads", wide // DIM_HEAD)
    if wide % heads:
        raise ConfigError(
            f"the attention of the {side} in {origin} is {wide} wide, which is no multiple of "
            f"heads={heads}"
        )
    return Trunk(qkv.shape[1], len(numbers), heads, len(mlp), wide // heads)


def _patch(tensors: Mapping[str, Tensor], origin: str) -> int:
    """The side of a patch, which is a square, and the same in the encoder and the decoder."""
    sides = {*tensors[MARKS[0]].shape[2:], *tensors[MARKS[1]].shape[2:]}
    if len(sides) > 1:
        raise LoadError(f"the patches in {origin} are not squares of one size; got {sorted(sides)}")
    return int(sides.pop())


def _grid(table: Tensor, origin: str) -> tuple[int, int]:
    """Positions (1, h * w, D) as the source stores them -> h, w; they tell it, being computed."""
    table = table[0].float()
    count, dim = table.shape
    for width in (side for side in range(1, count + 1) if count % side == 0 and dim % 4 == 0):
        height = count // width
        ours = plane(height, width, max(height, width), dim, torch.device("cpu"))
        if (ours - table).abs().max() <= SAME_POSITIONS:
            return height, width
    raise LoadError(f"the positions in {origin} are not the sines and cosines that ViT-VQGAN has")


def _networks(
    tensors: Mapping[str, Tensor], sides: Mapping[str, Trunk], patch: int, sample_size: int
) -> dict[str, Any]:
    """Settings of our networks; the decoder's own only where they differ, as by default."""
    there, back = sides["encoder"], sides["decoder"]
    if there.dim_head != back.dim_head:
        raise ConfigError(
            "heads of attention are equally wide in the encoder and the decoder; got "
            f"{there.dim_head} and {back.dim_head}"
        )
    channels = tensors[MARKS[0]].shape[1]
    size, width = tensors["quantizer.embedding.weight"].shape
    own = {
        f"decoder_{name}": getattr(back, name)
        for name in ("channels", "depth", "heads", "mlp_dim")
        if getattr(back, name) != getattr(there, name)
    }
    return {
        "in_channels": channels,
        "out_channels": tensors[MARKS[1]].shape[1],
        "patch_size": patch,
        "latent_channels": there.channels,
        "depth": there.depth,
        "heads": there.heads,
        "mlp_dim": there.mlp_dim,
        **own,
        "dim_head": there.dim_head,
        "sample_size": sample_size,
        "num_vq_embeddings": size,
        "vq_embed_dim": width,
        "pixel_mean": (0.0,) * channels,
        "pixel_std": (1.0,) * channels,
    }


def _quantizer(settings: Mapping[str, Any], origin: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Settings of our quantizer, and notes. Keys and shapes are the same for all of theirs."""
    said = {**settings, **section(settings, "quantizer")}
    by_direction = flag(said, "use_norm", True)
    residual = flag(said, "use_residual", False)
    weight = number(said, "beta", BETA, least=0)
    args = {**BY_GRADIENT, "start": "normal", "commitment_weight": weight}
    if residual and by_direction:
        raise ConfigError(
            f"{origin} quantizes what is left over by direction (use_residual with use_norm), "
            "which no quantizer of vqtok does"
        )
    if residual:
        what = "how many codes a token has"
        asked(said, "num_quantizers", what, origin)
        args["num_quantizers"] = whole(said, "num_quantizers", 1)
        args["shared_codebook"] = True
    elif by_direction:
        args["use_cosine_sim"] = True
    name = "residual" if residual else "vector"
    found = {"quantizer": name, "quantizer_args": args, "estimator": "ste"}
    return found, _notes(said, by_direction)


def _notes(said: Mapping[str, Any], by_direction: bool) -> tuple[str, ...]:
    notes = [*untold(said, {"use_norm": True, "use_residual": False})]
    gumbel = str(said.get("target", "")).endswith("Gumbel")
    if not gumbel:
        notes += assumed(said, {"beta": BETA})[1]
    if by_direction:
        notes.append(
            "Codes and latents are compared by direction. In training the gradient goes through "
            "the normalisation of latents; the source takes it past that."
        )
    if gumbel:
        notes.append(
            "The source draws ids at random (Gumbel), even when it evaluates; here the likeliest "
            "is taken, and training goes on with nearest codes."
        )
    return tuple(notes)


def _add_identities(weights: dict[str, Tensor], sides: Mapping[str, Trunk]) -> tuple[str, ...]:
    """One head as wide as the tokens has no projection behind it there, and has one here."""
    lone = {s: t for s, t in sides.items() if t.heads == 1 and t.dim_head == t.channels}
    for side, trunk in lone.items():
        for layer in range(trunk.depth):
            name = f"{side}.trunk.blocks.{layer}.attention.out."
            weights.setdefault(name + "weight", torch.eye(trunk.channels))
            weights.setdefault(name + "bias", torch.zeros(trunk.channels))
    why = "Attention of one head has no projection behind it there; here that is the identity."
    return (why,) if lone else ()


FAMILIES.register("enhancing_vit")(
    Family(
        title="ViT-VQGAN of enhancing-transformers",
        licence="MIT, code and published weights",
        recognises=recognises,
        plan=plan,
    )
)
