"""The names that taming-transformers gives to the weights of its networks, and ours for them.

Latent diffusion, Chameleon, IBQ and others took these names over. Ours are those of diffusers'
blocks, which compute the same: one head of attention over all channels, norms with 32 groups and
an eps of 1e-6, and a padding of the bottom and right edge alone where a convolution halves.

Two things differ beside the names. taming counts the decoder's levels by resolution, and runs them
in reverse; diffusers counts them as they run. And the projections of attention are 1 x 1
convolutions there, matrices here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from vqtok.checkpoints.keys import need, renamed, shape_of
from vqtok.errors import LoadError

__all__ = [
    "GROUPS",
    "decoder_weights",
    "encoder_weights",
    "is_layout",
    "levels_of",
    "model_weights",
    "settings_from_shapes",
    "stride_of",
    "to_layout",
]

GROUPS = 32  # of every norm; no shape tells them
PROJECTIONS = tuple(
    f"{name}.{part}" for name in ("quant_conv", "post_quant_conv") for part in ("weight", "bias")
)

_RESNET = {
    "norm1": "norm1",
    "conv1": "conv1",
    "norm2": "norm2",
    "conv2": "conv2",
    "nin_shortcut": "conv_shortcut",
}
_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
_ENDS = {"conv_in": "conv_in", "norm_out": "conv_norm_out", "conv_out": "conv_out"}
_MATRIX = re.compile(r".*attentions\.\d+\.to_(q|k|v|out\.0)\.weight")


def is_layout(tensors: Mapping[str, Tensor], decoder: bool = True) -> bool:
    """Whether these are networks in taming's names, and its order of the decoder's levels.

    Janus' decoder has the same names in the order in which they run.
    """
    levels = levels_of(tensors, "encoder.down.")
    wanted = ["encoder.down.0.block.0.conv1.bias", "encoder.mid.block_1.conv1.bias", *PROJECTIONS]
    if decoder:
        wanted += ["decoder.up.0.block.0.conv1.bias", "decoder.mid.block_1.conv1.bias"]
        wanted += [f"decoder.up.{level}.upsample.conv.weight" for level in range(1, levels)]
    return all(key in tensors for key in wanted) and "decoder.up.0.upsample.conv.weight" not in (
        tensors
    )


def levels_of(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """How many levels there are: the different numbers after `prefix`.

    Counted, so that a file with a level number of a billion does not make a billion names.
    """
    found = (re.match(re.escape(prefix) + r"(\d+)\.", key) for key in tensors)
    return len({match[1] for match in found if match})


def stride_of(settings: Mapping[str, Any]) -> int:
    """Pixels that a cell is wide and high: each level but the last halves."""
    return int(2 ** (len(settings["block_out_channels"]) - 1))


def encoder_weights(
    tensors: Mapping[str, Tensor], origin: str, prefix: str = "encoder."
) -> dict[str, Tensor]:
    """The tensors under `prefix` -> `encoder.*` of `AutoencoderVQ`; others are passed over.

    A key under `prefix` that is none of the layout's is a `LoadError` on `origin`.
    """
    levels = levels_of(tensors, f"{prefix}down.")
    return _renamed(tensors, _encoder_names(levels), (prefix, "encoder."), origin)


def decoder_weights(
    tensors: Mapping[str, Tensor],
    origin: str,
    prefix: str = "decoder.",
    *,
    by_resolution: bool = True,
) -> dict[str, Tensor]:
    """The tensors under `prefix` -> `decoder.*` of `AutoencoderVQ`; others are passed over.

    by_resolution  up.0 is the finest level, as in taming; otherwise they count as they run
    """
    levels = levels_of(tensors, f"{prefix}up.")
    names = _decoder_names(levels, by_resolution)
    return _renamed(tensors, names, (prefix, "decoder."), origin)


def model_weights(tensors: Mapping[str, Tensor], origin: str) -> dict[str, Tensor]:
    """Both networks and the projections between them and the codes; not the quantizer."""
    need(tensors, PROJECTIONS, origin)
    return {
        **encoder_weights(tensors, origin),
        **decoder_weights(tensors, origin),  # none where there is no decoder
        **{key: tensors[key] for key in PROJECTIONS},
    }


def to_layout(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `model_weights`: `encoder.*`, `decoder.*` and projections in taming's names.

    A key that taming has no name for is a `LoadError`.
    """
    levels = levels_of(weights, "encoder.down_blocks.")
    origin = "the model"
    found: dict[str, Tensor] = {}
    for part, names in (
        ("encoder.", _encoder_names(levels)),
        ("decoder.", _decoder_names(levels, by_resolution=True)),
    ):
        back = {ours: theirs for theirs, ours in names.items()}
        chosen = {k.removeprefix(part): t for k, t in weights.items() if k.startswith(part)}
        shaped = {k: t[..., None, None] if _MATRIX.fullmatch(k) else t for k, t in chosen.items()}
        found |= {part + k: t for k, t in renamed(shaped, _rules(back), origin).items()}
    return found | {key: weights[key] for key in PROJECTIONS}


def settings_from_shapes(
    weights: Mapping[str, Tensor], origin: str, *, decoder: bool = True
) -> dict[str, Any]:
    """Weights under our names -> the networks' settings, for `AutoencoderVQ`.

    What shapes do not tell is left out, but for norm_num_groups, which is taming's. With no
    `decoder` to be there are no up blocks. `LoadError` where a weight lacks or levels differ.
    """
    need(weights, ("encoder.conv_in.weight", "encoder.conv_out.weight"), origin)
    channels = shape_of(weights, "encoder.conv_in.weight", 4, origin)[1]
    levels = levels_of(weights, "encoder.down_blocks.")
    down = [f"encoder.down_blocks.{level}." for level in range(levels)]
    firsts = [f"{block}resnets.0.conv1.weight" for block in down]
    need(weights, firsts, origin)
    settings: dict[str, Any] = {
        "in_channels": channels,
        "out_channels": channels,
        "latent_channels": shape_of(weights, "encoder.conv_out.weight", 4, origin)[0],
        "block_out_channels": tuple(shape_of(weights, key, 4, origin)[0] for key in firsts),
        "layers_per_block": _layers(weights, down, origin),
        "down_block_types": _kinds(weights, down, "DownEncoderBlock2D"),
        "up_block_types": (),
        "mid_block_add_attention": "encoder.mid_block.attentions.0.to_q.weight" in weights,
        "norm_num_groups": GROUPS,
    }
    if not decoder:
        return settings
    return settings | _decoder_settings(weights, levels, settings["layers_per_block"], origin)


def _decoder_settings(
    weights: Mapping[str, Tensor], levels: int, layers: int, origin: str
) -> dict[str, Any]:
    """What the decoder says of itself."""
    need(weights, ("decoder.conv_in.weight", "decoder.conv_out.weight"), origin)
    out = shape_of(weights, "decoder.conv_out.weight", 4, origin)[0]
    narrow = shape_of(weights, "decoder.conv_in.weight", 4, origin)[1]
    up = [f"decoder.up_blocks.{level}." for level in range(levels)]
    found = levels_of(weights, "decoder.up_blocks.")
    deep = _layers(weights, up, origin) if found == levels else 0
    if found != levels or deep != layers + 1:
        raise LoadError(
            f"{origin} holds an encoder of {levels} levels with {layers} blocks each, to which a "
            f"decoder of {levels} levels with {layers + 1} blocks belongs; its decoder has {found}"
            + (f" levels with {deep} blocks" if found == levels else "")
        )
    wide = shape_of(weights, "encoder.conv_out.weight", 4, origin)[0]
    if wide != narrow:
        raise LoadError(
            f"{origin} holds an encoder that puts out {wide} channels and a decoder that "
            f"takes {narrow}: that is a KL autoencoder (double_z), which has no codes"
        )
    return {
        "out_channels": out,
        "up_block_types": _kinds(weights, up, "UpDecoderBlock2D"),
    }


def _layers(weights: Mapping[str, Tensor], blocks: list[str], origin: str) -> int:
    """How many residual blocks a level has; all have as many."""
    counts = [levels_of(weights, f"{block}resnets.") for block in blocks]
    if len(set(counts)) != 1:
        raise LoadError(
            f"{origin} holds a network whose levels have {', '.join(map(str, counts))} residual "
            "blocks; all levels of one have as many"
        )
    return counts[0]


def _kinds(weights: Mapping[str, Tensor], blocks: list[str], plain: str) -> tuple[str, ...]:
    """diffusers' type of each block: with attention after each residual block, or `plain`."""
    return tuple(
        f"Attn{plain}" if f"{block}attentions.0.to_q.weight" in weights else plain
        for block in blocks
    )


def _renamed(
    tensors: Mapping[str, Tensor], names: Mapping[str, str], prefixes: tuple[str, str], origin: str
) -> dict[str, Tensor]:
    theirs, ours = prefixes
    # With the prefix in the rules, so that a complaint names the key as the file has it.
    rules = [(re.escape(theirs) + old, ours + new) for old, new in _rules(names)]
    found = renamed({k: t for k, t in tensors.items() if k.startswith(theirs)}, rules, origin)
    return {k: t.flatten(1) if _MATRIX.fullmatch(k) and t.ndim > 2 else t for k, t in found.items()}


def _rules(names: Mapping[str, str]) -> list[tuple[str, str]]:
    """Names, with # for the number of a block, as rules of `renamed`."""
    return [
        (
            re.escape(old).replace(r"\#", r"(?P<block>\d+)") + r"\.(?P<part>weight|bias)",
            new.replace("#", r"\g<block>") + r".\g<part>",
        )
        for old, new in names.items()
    ]


def _encoder_names(levels: int) -> dict[str, str]:
    """taming's name -> ours, of what has a weight and a bias; # is the number of a block."""
    names = _ENDS | dict(_middle())
    for level in range(levels):
        names |= _level(f"down.{level}", f"down_blocks.{level}")
        names[f"down.{level}.downsample.conv"] = f"down_blocks.{level}.downsamplers.0.conv"
    return names


def _decoder_names(levels: int, by_resolution: bool) -> dict[str, str]:
    names = _ENDS | dict(_middle())
    for level in range(levels):
        turn = levels - 1 - level if by_resolution else level
        names |= _level(f"up.{level}", f"up_blocks.{turn}")
        names[f"up.{level}.upsample.conv"] = f"up_blocks.{turn}.upsamplers.0.conv"
    return names | _conditioned(names)


def _conditioned(names: Mapping[str, str]) -> dict[str, str]:
    """The parts of norms that see the codes, as MoVQ's do: norm_type "spatial" here."""
    norms = {old: new for old, new in names.items() if re.search(r"norm(1|2|_out)?$", old)}
    return {
        f"{old}.{part}": f"{new.replace('group_norm', 'spatial_norm')}.{part}"
        for old, new in norms.items()
        for part in ("norm_layer", "conv_y", "conv_b")
    }


def _middle() -> Iterator[tuple[str, str]]:
    for number in (1, 2):
        for old, new in _RESNET.items():
            yield f"mid.block_{number}.{old}", f"mid_block.resnets.{number - 1}.{new}"
    for old, new in _ATTENTION.items():
        yield f"mid.attn_1.{old}", f"mid_block.attentions.0.{new}"


def _level(theirs: str, ours: str) -> dict[str, str]:
    return {
        **{f"{theirs}.block.#.{old}": f"{ours}.resnets.#.{new}" for old, new in _RESNET.items()},
        **{
            f"{theirs}.attn.#.{old}": f"{ours}.attentions.#.{new}"
            for old, new in _ATTENTION.items()
        },
    }
