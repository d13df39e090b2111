"""Open-MAGVIT2 of TencentARC's SEED-Voken: pictures of 128 and 256 pixels, 2^14 or 2^18 codes.

A Lightning checkpoint: the tensors lie under `state_dict`, with their running means under
`model_ema.` and the loss networks under `loss.`. The YAML has everything under `model.init_args`.

The published figures are those of the running means: evaluation and reconstruction load all keys
and run under `ema_scope` where the YAML says use_ema, as all of theirs do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from vqtok.checkpoints import FAMILIES, Family, Foreign, Plan, patchgan
from vqtok.checkpoints.keys import need, renamed
from vqtok.checkpoints.taming_layout import GROUPS, levels_of
from vqtok.checkpoints.taming_parts import inner
from vqtok.checkpoints.wrappers import ema_weights
from vqtok.errors import ConfigError, LoadError
from vqtok.preprocess import Preprocess

__all__ = ["ENTROPIES", "entropy_settings", "plan", "recognises"]

STYLE = "decoder.adaptive.0.gamma.weight"
PICTURES, CLIPS = "encoder.conv_in.weight", "encoder.conv_in.conv_1.weight"
ENDS = (PICTURES, "encoder.conv_out.weight", "decoder.conv_in.weight", "decoder.conv_out.weight")
AVERAGES = "model_ema."
LOSS = "loss."
DISCRIMINATOR = "loss.discriminator."
ENTROPIES = ("sample_minimization_weight", "batch_maximization_weight")
USUAL_SIZE = 256
INVERSE_TEMPERATURE = 100.0  # no setting changes it

_KIND = r"\.(?P<kind>weight|bias)"
# Where the axis of the code's dimensions lies.
_OUT = ("encoder.conv_out.weight", "encoder.conv_out.bias")
_IN = re.compile(r"decoder\.(conv_in|up_blocks\.\d+\.adaptive\.(gamma|beta))\.weight")


def recognises(tensors: Mapping[str, Tensor]) -> bool:
    """See `Family`. The model of clips is recognised, too, and refused by its plan."""
    return STYLE in tensors and (PICTURES in tensors or CLIPS in tensors)


def plan(foreign: Foreign) -> Plan:
    """See `Family`."""
    origin, told = foreign.origin, foreign.settings
    if CLIPS in foreign.tensors:
        raise LoadError(
            f"{origin} is Open-MAGVIT2's model of clips, whose networks vqtok does not have; it "
            "reads those of pictures"
        )
    tensors = ema_weights(foreign.tensors, origin)
    own = {key: t for key, t in tensors.items() if not key.startswith(LOSS)}
    need(own, [*ENDS, STYLE], origin)
    settings, size = _networks(own, origin), _trained_size(told)
    discriminator = _discriminator(tensors)
    kept = (DISCRIMINATOR,) if discriminator else ()
    beside = [key for key in foreign.tensors if key.startswith((LOSS, AVERAGES))]
    return Plan(
        architecture="magvit2",
        settings={
            **settings,
            **_quantizer(told, settings["latent_channels"]),
            "sample_size": size or USUAL_SIZE,
        },
        weights=_by_our_bits(renamed(own, _rules(own), origin)),
        preprocess=Preprocess(
            policy="center",
            size=size or USUAL_SIZE,
            stride=_stride(settings),
            resize="pillow-bicubic",
        ),
        dropped={key: _reason(key) for key in beside if not key.startswith(kept)},
        discriminator=discriminator,
        notes=tuple(_notes(averaged=len(tensors) < len(foreign.tensors), sized=size is not None)),
    )


def _discriminator(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Under our names; {} where it is none that training has."""
    return patchgan.weights(
        {
            key.removeprefix(DISCRIMINATOR): tensor
            for key, tensor in tensors.items()
            if key.startswith(DISCRIMINATOR)
        }
    )


def _notes(*, averaged: bool, sized: bool) -> Iterator[str]:
    if averaged:
        yield "Weights are the running means (model_ema), with which the source evaluates."
    yield (
        "The source's first dimension is the lowest bit of an id, and ours the highest: ids are "
        "the source's, and dimensions of latents are in the opposite order."
    )
    yield (
        "In training the mean code's entropy is that of each bit by itself, an upper bound on the "
        "joint one of the source."
    )
    yield "It resized by Pillow's bilinear filter; here it is Pillow's bicubic."
    if not sized:
        yield (
            f"Nothing tells the side of the pictures it was trained on: {USUAL_SIZE} is taken, "
            "which only the default crop depends on."
        )


def _trained_size(settings: Mapping[str, Any]) -> int | None:
    """The side of the pictures that it was trained on, where the YAML describes its data.

    No shape tells it, and `resolution` is 128 in all of them.
    """
    found: Any = settings
    for name in ("data", "init_args", "train", "params", "config"):
        found = inner(found, name)
    return found["size"] if isinstance(found.get("size"), int) else None


def _networks(tensors: Mapping[str, Tensor], origin: str) -> dict[str, Any]:
    """Settings of our networks, by shapes."""
    levels = levels_of(tensors, "encoder.down.")
    firsts = [f"encoder.down.{level}.block.0.conv1.weight" for level in range(levels)]
    need(tensors, firsts, origin)
    widths = tuple(tensors[key].shape[0] for key in firsts)
    conv_in, conv_out = tensors[PICTURES], tensors["encoder.conv_out.weight"]
    if not levels or conv_in.shape[0] != widths[0]:
        raise LoadError(
            f"the first convolution in {origin} is {conv_in.shape[0]} wide and the blocks after it "
            f"{widths[0] if widths else 'lack'}; they are equally wide where ch_mult begins with 1"
        )
    return {
        "in_channels": conv_in.shape[1],
        "out_channels": tensors["decoder.conv_out.weight"].shape[0],
        "block_out_channels": widths,
        "layers_per_block": levels_of(tensors, "encoder.down.0.block."),
        "latent_channels": conv_out.shape[0],
        "norm_num_groups": GROUPS,
    }


def _quantizer(told: Mapping[str, Any], bits: int) -> dict[str, Any]:
    """How the source trains it; where nothing tells, as the published ones were."""
    loss = inner(inner(told, "lossconfig"), "params")
    entropy = float(loss.get("codebook_weight", 0.1))
    return {
        "num_vq_embeddings": 1 << bits,
        "quantizer": "lfq",
        "quantizer_args": {
            "commitment_weight": float(loss.get("commit_weight", 0.25)),
            **entropy_settings(told, entropy, *ENTROPIES),
            "inv_temperature": INVERSE_TEMPERATURE,
        },
        "estimator": "ste",
    }


def entropy_settings(
    told: Mapping[str, Any], weight: float, sure_name: str, even_name: str
) -> dict[str, float]:
    """Our weights of an entropy loss, from the source's of the loss and of its two halves."""
    sure, even = float(told.get(sure_name, 1.0)), float(told.get(even_name, 1.0))
    if sure <= 0:
        raise ConfigError(f"{sure_name} is positive; the settings of the checkpoint say {sure}")
    return {"entropy_loss_weight": weight * sure, "diversity_gamma": even / sure}


def _rules(tensors: Mapping[str, Tensor]) -> list[tuple[str, str]]:
    """Their names, and ours. They count the decoder's levels by resolution, we as they run."""
    levels = levels_of(tensors, "decoder.up.")
    places = [
        (r"(?P<place>(?:encoder|decoder)\.mid_block\.\d+)", r"\g<place>"),
        (
            r"encoder\.down\.(?P<at>\d+)\.block\.(?P<n>\d+)",
            r"encoder.down_blocks.\g<at>.resnets.\g<n>",
        ),
    ]
    rules = [
        (
            r"(?P<end>(?:encoder|decoder)\.(?:conv_in|norm_out|conv_out))" + _KIND,
            r"\g<end>.\g<kind>",
        ),
        (
            r"encoder\.down\.(?P<at>\d+)\.downsample" + _KIND,
            r"encoder.down_blocks.\g<at>.downsample.\g<kind>",
        ),
    ]
    for level in range(levels):
        ours = f"decoder.up_blocks.{levels - 1 - level}"
        places.append((rf"decoder\.up\.{level}\.block\.(?P<n>\d+)", rf"{ours}.resnets.\g<n>"))
        rules.append(
            (rf"decoder\.up\.{level}\.upsample\.conv1" + _KIND, rf"{ours}.upsample.\g<kind>")
        )
        rules.append(
            (
                rf"decoder\.adaptive\.{level}\.(?P<what>gamma|beta)" + _KIND,
                rf"{ours}.adaptive.\g<what>.\g<kind>",
            )
        )
    parts = {
        r"\.(?P<part>norm[12])\.(?P<kind>weight|bias)": r".\g<part>.\g<kind>",
        r"\.(?P<part>conv[12])\.weight": r".\g<part>.weight",
        r"\.nin_shortcut\.weight": r".conv_shortcut.weight",
    }
    return rules + [
        (place + part, to + ours) for place, to in places for part, ours in parts.items()
    ]


def _by_our_bits(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under our names, with the dimensions of codes in the opposite order."""
    turned = dict(weights)
    for key, tensor in weights.items():
        if key in _OUT:
            turned[key] = tensor.flip(0)
        elif _IN.fullmatch(key):
            turned[key] = tensor.flip(1)
    return turned


def _stride(settings: Mapping[str, Any]) -> int:
    return int(2 ** (len(settings["block_out_channels"]) - 1))


def _reason(key: str) -> str:
    if key.startswith(AVERAGES):
        return "taken in place of the weight that it is the running mean of"
    if key.startswith(DISCRIMINATOR):
        return "a discriminator of a kind that training has not"
    return "of the loss"


FAMILIES.register("open_magvit2")(
    Family(
        title="Open-MAGVIT2 of SEED-Voken",
        licence="Apache-2.0, code and published weights",
        recognises=recognises,
        plan=plan,
    )
)
