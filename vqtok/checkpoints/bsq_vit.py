"""BSQ-ViT: pictures of 128 and 256 pixels by transformers, codes of 18 or 36 bits.

The tensors lie under `state_dict`, with `module.` in front of each, and their running means under
`ema_state_dict`, with `module.module.`; the source takes the means where it finds them, and so do
we. A StyleGAN discriminator beside them, under `state_dict_discriminator`, is none that training
has. The YAML has the model under `model.params` and the weights of its losses under `loss.params`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vqtok.checkpoints import FAMILIES, Family, Foreign, Plan
from vqtok.checkpoints.keys import asked, need, renamed
from vqtok.checkpoints.open_magvit2 import entropy_settings
from vqtok.checkpoints.taming_layout import levels_of
from vqtok.checkpoints.taming_parts import inner
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
    tensors, origin, told = dict(foreign.tensors), foreign.origin, foreign.settings
    if OF_CLIPS in tensors:
        raise LoadError(
            f"{origin} is BSQ-ViT's model of clips, whose attention vqtok does not have; it reads "
            "those of pictures"
        )
    need(tensors, [*MARKS, *SIZES, "encoder.ln_pre.weight", "decoder.ffn.0.weight"], origin)
    bits = len(tensors.pop(BASIS))
    group = tensors.pop(GROUP_BASIS, None)
    _check_sphere(told, origin)
    notes: list[str] = []
    settings = _networks(tensors, told, origin, notes)
    quantizer = _quantizer(told, bits, 1 if group is None else len(group), notes)
    size = settings["sample_size"]
    return Plan(
        architecture="bsq_vit",
        settings={**settings, **quantizer, "vq_embed_dim": bits},
        weights=_shaped(renamed(tensors, RULES, origin), settings, origin),
        preprocess=Preprocess(
            policy="center", size=size, stride=settings["patch_size"], resize="pillow-lanczos"
        ),
        dropped={
            key: "places of bits, which are computed"
            for key in (BASIS, GROUP_BASIS)
            if key in foreign.tensors
        },
        notes=(
            "The source knows pictures of one size alone; positions in others are interpolated.",
            *notes,
        ),
    )


def _check_sphere(told: Mapping[str, Any], origin: str) -> None:
    """Raises where settings say that vectors or codes do not lie on the sphere."""
    for name in ("l2_norm", "post_q_l2_norm"):
        if not told.get(name, True):
            raise ConfigError(
                f"the settings of {origin} say {name}={told[name]}; vqtok reads models whose "
                "vectors and codes lie on the sphere"
            )


def _networks(
    tensors: Mapping[str, Tensor], told: Mapping[str, Any], origin: str, notes: list[str]
) -> dict[str, Any]:
    """Settings of our networks, by shapes, but for the heads."""
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
    given = {**inner(told, "vitconfig"), **told}
    if "heads" not in given and width % DIM_HEAD:
        asked(given, "heads", "into how many attention is cut", origin)
    if "heads" not in given:
        notes.append(f"Nothing tells the heads of attention: {DIM_HEAD} dimensions each are taken.")
    return {
        "in_channels": 3,
        "out_channels": 3,
        "patch_size": patch,
        "latent_channels": width,
        "depth": levels_of(tensors, "encoder.transformer.resblocks."),
        "heads": int(given.get("heads", width // DIM_HEAD)),
        "mlp_dim": len(mlp),
        "output_dim": conv_out.shape[1],
        "sample_size": side * patch,
    }


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


def _quantizer(told: Mapping[str, Any], bits: int, group: int, notes: list[str]) -> dict[str, Any]:
    """How the source trains it; where nothing tells, as the published ones were."""
    loss = inner(inner(told, "loss"), "params")
    weight = float(loss.get("codebook_weight", 0.1))
    inverse = float(told.get("inv_temperature", 1.0))
    entropy = weight * float(told.get("zeta", 1.0)) / inverse
    ids = next(n for n in range(1, bits + 1) if bits % n == 0 and bits // n <= BITS)
    if ids > 1:
        notes.append(
            f"A code of {bits} bits is {ids} ids of {bits // ids}, the first of them the highest "
            "bits of the source's one."
        )
    if loss.get("codebook_rampup_steps", 2000):
        notes.append(
            "The source weighs the entropy loss more in the first steps of its training "
            "(codebook_rampup_multiplier); here its weight is that of later on."
        )
    return {
        "num_vq_embeddings": 1 << (bits // ids),
        "quantizer": "bsq",
        "quantizer_args": {
            "group_size": group,
            # The source adds up over bits, and takes no mean.
            "commitment_weight": weight * float(told.get("beta", 0.0)) * bits,
            **entropy_settings(told, entropy, "gamma0", "gamma"),
            "inv_temperature": inverse,
        },
        "estimator": "ste",
    }


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
