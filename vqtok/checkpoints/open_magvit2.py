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

from vqtok.checkpoints import FAMILIES, Family, Foreign, Plan
from vqtok.checkpoints.ddconfig import check_sizes, hyperparameters
from vqtok.checkpoints.extras import AVERAGED, sorted_extras
from vqtok.checkpoints.keys import need, renamed
from vqtok.checkpoints.taming_layout import GROUPS, levels_of, stride_of
from vqtok.checkpoints.told import assumed, check_told, entropy_settings, number, section, whole
from vqtok.checkpoints.wrappers import EMA, ema_weights
from vqtok.errors import LoadError
from vqtok.preprocess import Preprocess

__all__ = ["plan", "recognises"]

STYLE = "decoder.adaptive.0.gamma.weight"
PICTURES, CLIPS = "encoder.conv_in.weight", "encoder.conv_in.conv_1.weight"
ENDS = (PICTURES, "encoder.conv_out.weight", "decoder.conv_in.weight", "decoder.conv_out.weight")
LOSS = "loss."
USUAL_SIZE = 256
# What matters of the settings of all that were published.
PUBLISHED = {
    "codebook_weight": 0.1,
    "commit_weight": 0.25,
    "sample_minimization_weight": 1.0,
    "batch_maximization_weight": 1.0,
}
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
    origin, told = foreign.origin, hyperparameters(foreign.settings)
    if CLIPS in foreign.tensors:
        raise LoadError(
            f"{origin} is Open-MAGVIT2's model of clips, whose networks vqtok does not have; it "
            "reads those of pictures"
        )
    tensors = ema_weights(foreign.tensors, origin)
    own = {key: t for key, t in tensors.items() if not key.startswith(LOSS)}
    need(own, [*ENDS, STYLE], origin)
    settings, size = _networks(own, origin), _trained_size(told)
    bits = settings["latent_channels"]
    check_sizes(told, {**settings, "vq_embed_dim": bits}, origin)
    quantizer, assumptions = _quantizer(told, bits, origin)
    beside = {key: t for key, t in foreign.tensors.items() if key.startswith((LOSS, EMA))}
    discriminator, dropped = sorted_extras(beside)
    notes = _notes(averaged=len(tensors) < len(foreign.tensors), sized=size is not None)
    return Plan(
        architecture="magvit2",
        settings={**settings, **quantizer, "sample_size": size or USUAL_SIZE},
        weights=_by_our_bits(renamed(own, _rules(own), origin)),
        preprocess=Preprocess.preset("torchvision", size or USUAL_SIZE, stride_of(settings)),
        dropped=dropped,
        discriminator=discriminator,
        notes=(*notes, *assumptions),
    )


def _notes(*, averaged: bool, sized: bool) -> Iterator[str]:
    if averaged:
        yield AVERAGED
    yield (
        "The source's first dimension is the lowest bit of an id, and ours the highest: ids are "
        "the source's, and dimensions of latents are in the opposite order."
    )
    yield (
        "In training the mean code's entropy is that of each bit by itself, an upper bound on the "
        "joint one of the source."
    )
    if not sized:
        yield (
            f"Nothing tells the side of the pictures it was trained on: {USUAL_SIZE} is taken, "
            "which only the default crop depends on."
        )


def _trained_size(settings: Mapping[str, Any]) -> int | None:
    """The side of the pictures that it was trained on, where the YAML describes its data.

    No shape tells it, and `resolution` is 128 in all of them.
    """
    data = section(settings, "data", "init_args", "train", "params", "config")
    return whole(data, "size", USUAL_SIZE) if "size" in data else None


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


def _quantizer(
    told: Mapping[str, Any], bits: int, origin: str
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """How the source trains it; where nothing tells, as the published ones were. And notes."""
    check_told(told, "n_embed", 1 << bits, origin)
    loss = section(told, "lossconfig", "params")
    said, notes = ({**told, **loss}, ()) if loss else assumed(told, PUBLISHED)
    entropy = number(said, "codebook_weight", 1.0, least=0)
    return {
        "num_vq_embeddings": 1 << bits,
        "quantizer": "lfq",
        "quantizer_args": {
            "commitment_weight": number(said, "commit_weight", 0.25, least=0),
            **entropy_settings(
                said, entropy, "sample_minimization_weight", "batch_maximization_weight"
            ),
            "inv_temperature": INVERSE_TEMPERATURE,
        },
        "estimator": "ste",
    }, notes


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


FAMILIES.register("open_magvit2")(
    Family(
        title="Open-MAGVIT2 of SEED-Voken",
        licence="Apache-2.0, code and published weights",
        recognises=recognises,
        plan=plan,
    )
)
