"""BSQ-ViT: pictures of 128 and 256 pixels by transformers, codes of 18 or 36 bits.

The tensors lie under `state_dict`, with `module.` in front of each, and their running means under
`ema_state_dict`, with `module.module.`; the source takes the means where it finds them, and so do
we. A StyleGAN discriminator beside them, under `state_dict_discriminator`, is none that training
has. The YAML has the model under `model.params` and the weights of its losses under `loss.params`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from vqtok.checkpoints import FAMILIES, Family, Foreign, Plan
from vqtok.checkpoints.keys import asked, need, renamed
from vqtok.checkpoints.taming_layout import levels_of
from vqtok.checkpoints.told import (
    assumed,
    check_told,
    choice,
    entropy_settings,
    flag,
    number,
    section,
    whole,
)
from vqtok.errors import ConfigError, LoadError
from vqtok.preprocess import Preprocess

__all__ = ["plan", "recognises"]

BASIS, GROUP_BASIS = "quantize.basis", "quantize.group_basis"
FIRST = "encoder.transformer.resblocks.0."
POSITIONS = "encoder.positional_embedding"
OF_CLIPS = "encoder.temporal_positional_embedding"
MARKS = (BASIS, "quant_embed.weight", "post_quant_embed.weight", POSITIONS)
SIZES = ("encoder.conv1.weight", "decoder.conv_out.weight", f"{FIRST}mlp.c_fc.weight")
DIM_HEAD = 64  # of all that were published
# Bits that one id stands for at most: more are two ids or more, or tables by id grow too large.
BITS = 20
FLOAT_BITS = 24  # of whole numbers that float32 has each of
# What matters of the settings of all that were published.
PUBLISHED = {
    "codebook_weight": 0.1,
    "codebook_rampup_steps": 2000,
    "beta": 0.0,
    "zeta": 1.0,
    "gamma0": 1.0,
    "gamma": 1.0,
    "inv_temperature": 1.0,
}
RAMP = (
    "The source weighs the entropy loss more in the first steps of its training "
    "(codebook_rampup_multiplier); here its weight is that of later on."
)

_SIDE = r"(encoder|decoder)\."
_BLOCK = _SIDE + r"transformer\.resblocks\.(\d+)\."
_KIND = r"\.(weight|bias)"
RULES = (
    (_BLOCK + r"ln_1" + _KIND, r"\1.trunk.blocks.\2.attention_norm.\3"),
    (_BLOCK + r"attn\.in_proj_(weight|bias)", r"\1.trunk.blocks.\2.attention.qkv.\3"),
    (_BLOCK + r"attn\.out_proj" + _KIND, r"\1.trunk.blocks.\2.attention.out.\3"),
    (_BLOCK + r"ln_2" + _KIND, r"\1.trunk.blocks.\2.mlp_norm.\3"),
    (_BLOCK + r"mlp\.c_fc" + _KIND, r"\1.trunk.blocks.\2.mlp.0.\3"),
    (_BLOCK + r"mlp\.c_proj" + _KIND, r"\1.trunk.blocks.\2.mlp.2.\3"),
    (_SIDE + r"ln_pre" + _KIND, r"\1.trunk.norm_in.\2"),
    (_SIDE + r"ln_post" + _KIND, r"\1.trunk.norm.\2"),
    (_SIDE + r"positional_embedding", r"\1.trunk.positions"),
    (r"encoder\.conv1\.weight", r"encoder.from_patch.weight"),
    (r"decoder\.ffn\.0" + _KIND, r"decoder.output.\1"),
    (r"decoder\.conv_out" + _KIND, r"decoder.to_patch.\1"),
    (r"quant_embed" + _KIND, r"quant_conv.\1"),
    (r"post_quant_embed" + _KIND, r"post_quant_conv.\1"),
)


def recognises(tensors: Mapping[str, Tensor]) -> bool:
    """See `Family`. The model of clips is recognised, too, and refused by its plan."""
    return all(key in tensors for key in MARKS)


def plan(foreign: Foreign) -> Plan:
    """See `Family`."""
    tensors, origin = dict(foreign.tensors), foreign.origin
    told = {**section(foreign.settings, "vitconfig"), **foreign.settings}
    if OF_CLIPS in tensors:
        raise LoadError(
            f"{origin} is BSQ-ViT's model of clips, whose attention vqtok does not have; it reads "
            "those of pictures"
        )
    need(tensors, [*MARKS, *SIZES, "encoder.ln_pre.weight", "decoder.ffn.0.weight"], origin)
    bits = len(tensors.pop(BASIS))
    group = tensors.pop(GROUP_BASIS, None)
    _check_kind(told, origin)
    settings, assumptions = _networks(tensors, told, origin)
    _check_told(told, settings, bits, group, origin)
    quantizer, notes = _quantizer(told, bits, 1 if group is None else len(group))
    pixels, ranged = _pixels(told)
    return Plan(
        architecture="bsq_vit",
        settings={**settings, **quantizer, "vq_embed_dim": bits, **pixels},
        weights=_shaped(renamed(tensors, RULES, origin), settings, origin),
        preprocess=_preprocess(told, settings),
        dropped={
            key: "places of bits, which are computed"
            for key in (BASIS, GROUP_BASIS)
            if key in foreign.tensors
        },
        notes=(
            "The source knows pictures of one size alone; positions in others are interpolated.",
            *assumptions,
            *ranged,
            *notes,
        ),
    )


def _check_kind(told: Mapping[str, Any], origin: str) -> None:
    """Raises where settings say that it is none of the models that vqtok has networks for."""
    for name in ("l2_norm", "post_q_l2_norm"):
        if not flag(told, name, True):
            raise ConfigError(
                f"the settings of {origin} say {name}={told[name]}; vqtok reads models whose "
                "vectors and codes lie on the sphere"
            )
    for said in (told, section(told, "dvitconfig")):
        mask = said.get("mask_type")
        if str(mask).lower() != "none":
            raise ConfigError(
                f"the settings of {origin} say mask_type {mask!r}; vqtok reads models whose "
                "patches attend to all others (mask_type none)"
            )


def _check_told(
    told: Mapping[str, Any],
    settings: Mapping[str, Any],
    bits: int,
    group: Tensor | None,
    origin: str,
) -> None:
    """Raises where settings are those of another checkpoint."""
    shown = {
        "embed_dim": bits,
        **({} if group is None else {"embed_group_size": len(group)}),
        "image_size": settings["sample_size"],
        "patch_size": settings["patch_size"],
        "width": settings["latent_channels"],
        "layers": settings["depth"],
    }
    for name, value in shown.items():
        if isinstance(told.get(name), int):  # a size may be two numbers as well
            check_told(told, name, value, origin)


def _pixels(told: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The range that the networks see pixels in, and a note where nothing tells it."""
    data = section(told, "data")
    if not flag(data, "zero_mean", True):
        return {"pixel_mean": (0.0,) * 3, "pixel_std": (1.0,) * 3}, ()
    if "zero_mean" in data:
        return {}, ()
    return {}, (
        "Nothing tells the range of pixels (data.zero_mean): [-1, 1] is taken, that of all that "
        "were published.",
    )


def _preprocess(told: Mapping[str, Any], settings: Mapping[str, Any]) -> Preprocess:
    """As the source evaluates; the published ones are measured with Lanczos' filter."""
    evaluation = section(told, "evaluation")
    usual = "bilinear" if evaluation else "lanczos"
    resize = choice(evaluation, "interpolation", usual, ("bilinear", "lanczos"))
    return Preprocess(
        policy="torchvision",
        size=settings["sample_size"],
        stride=settings["patch_size"],
        resize=f"pillow-{resize}",
    )


def _networks(
    tensors: Mapping[str, Tensor], told: Mapping[str, Any], origin: str
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Settings of our networks, by shapes, but for the heads; and notes."""
    conv_in, conv_out, mlp = (tensors[key] for key in SIZES)
    width, patch = conv_in.shape[0], math.isqrt(conv_in.shape[1] // 3)
    side = math.isqrt(len(tensors[POSITIONS]))
    if conv_in.shape[1] != 3 * patch**2 or len(tensors[POSITIONS]) != side**2:
        raise LoadError(f"the pictures or patches in {origin} are not squares of 3 channels")
    if conv_out.shape[0] != conv_in.shape[1]:
        raise LoadError(
            f"the decoder in {origin} puts out {conv_out.shape[0]} numbers a patch of "
            f"{conv_in.shape[1]}: those of a distribution (logit_laplace), which vqtok has not"
        )
    _check_equal(tensors, origin)
    heads, notes = _heads(told, width, origin)
    return {
        "in_channels": 3,
        "out_channels": 3,
        "patch_size": patch,
        "latent_channels": width,
        "depth": levels_of(tensors, "encoder.transformer.resblocks."),
        "heads": heads,
        "mlp_dim": len(mlp),
        "output_dim": conv_out.shape[1],
        "sample_size": side * patch,
    }, notes


def _heads(told: Mapping[str, Any], width: int, origin: str) -> tuple[int, tuple[str, ...]]:
    """Into how many attention is cut, which no shape tells, and a note where nothing does."""
    if "heads" not in told and width % DIM_HEAD:
        asked(told, "heads", "into how many attention is cut", origin)
    heads = whole(told, "heads", width // DIM_HEAD)
    if width % heads:
        raise ConfigError(
            f"the attention in {origin} is {width} wide, which is no multiple of heads={heads}"
        )
    back = section(told, "dvitconfig").get("heads", heads)
    if back != heads:
        raise ConfigError(
            f"the settings of {origin} say heads={heads} of the encoder and {back} of the decoder "
            "(dvitconfig); vqtok reads models whose two transformers are alike"
        )
    if "heads" in told:
        return heads, ()
    return heads, (f"Nothing tells the heads of attention: {DIM_HEAD} dimensions each are taken.",)


def _check_equal(tensors: Mapping[str, Tensor], origin: str) -> None:
    """Raises where the two transformers are not of equal sizes."""
    parts: dict[str, dict[str, tuple[int, ...]]] = {}
    for side in ("encoder", "decoder"):
        start = f"{side}.transformer."
        parts[side] = {
            key.removeprefix(start): tuple(t.shape)
            for key, t in tensors.items()
            if key.startswith(start)
        }
    if parts["encoder"] != parts["decoder"]:
        raise LoadError(
            f"the transformers of the encoder and the decoder in {origin} are not of equal sizes "
            "(dvitconfig), as those that vqtok has are"
        )


def _quantizer(
    told: Mapping[str, Any], bits: int, group: int
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """How the source trains it; where nothing tells, as the published ones were. And notes."""
    loss = section(told, "loss", "params")
    said, notes = ({**told, **loss}, ()) if loss else assumed(told, PUBLISHED)
    weight = number(said, "codebook_weight", 1.0, least=0)
    inverse = number(said, "inv_temperature", 1.0, above=0)
    entropy = weight * number(said, "zeta", 1.0, least=0) / inverse
    ids = next(n for n in range(1, bits + 1) if bits % n == 0 and bits // n <= BITS)
    ramp = number(said, "codebook_rampup_steps", 0, least=0)
    return {
        "num_vq_embeddings": 1 << (bits // ids),
        "quantizer": "bsq",
        "quantizer_args": {
            "group_size": group,
            # The source adds up over bits, and takes no mean.
            "commitment_weight": weight * number(said, "beta", 0.0, least=0) * bits,
            **entropy_settings(said, entropy, "gamma0", "gamma"),
            "inv_temperature": inverse,
        },
        "estimator": "ste",
    }, (*_of_ids(bits, ids), *notes, *([RAMP] if ramp else []))


def _of_ids(bits: int, ids: int) -> Iterator[str]:
    """Notes on how a code's bits become ids."""
    if ids > 1:
        yield (
            f"A code of {bits} bits is {ids} ids of {bits // ids}, the first of them the highest "
            "bits of the source's one."
        )
    if bits > FLOAT_BITS:
        yield (
            "The source adds up its id in float32, which rounds those above 2^24: it does not tell "
            "all bits of a code, and ids here do."
        )


def _shaped(
    weights: Mapping[str, Tensor], settings: Mapping[str, Any], origin: str
) -> dict[str, Tensor]:
    """Weights under our names, in our shapes: matrices of patches and tokens are kernels here."""
    patch = settings["patch_size"]
    side = settings["sample_size"] // patch
    found = dict(weights)
    for part in ("encoder", "decoder"):
        key = f"{part}.trunk.positions"
        if key in found:
            if len(found[key]) != side**2:
                raise LoadError(
                    f"the encoder and the decoder in {origin} have unlike numbers of positions"
                )
            found[key] = found[key].T.unflatten(1, (side, side))
    found["encoder.from_patch.weight"] = found["encoder.from_patch.weight"].unflatten(
        1, (3, patch, patch)
    )
    for key in ("quant_conv.weight", "post_quant_conv.weight"):
        found[key] = found[key][:, :, None, None]
    return found


FAMILIES.register("bsq_vit")(
    Family(
        title="BSQ-ViT",
        licence="MIT, code; of the published weights nothing is said",
        recognises=recognises,
        plan=plan,
    )
)
