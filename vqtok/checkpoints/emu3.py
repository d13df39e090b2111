"""Emu3's tokenizer of pictures and clips: BAAI's own file, or transformers' inside the whole model.

Both name the networks on frames as taming-transformers does, transformers with a few words between:
`encoder.down_block.down.0`, `middle_block`, matrices `q_proj` where BAAI has convolutions `q`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vqtok.checkpoints import FAMILIES, Family, Foreign, Plan
from vqtok.checkpoints.beside import PIXELS
from vqtok.checkpoints.keys import need, renamed, shape_of
from vqtok.checkpoints.recipes import BY_GRADIENT, CODES
from vqtok.checkpoints.taming_layout import (
    decoder_weights,
    encoder_weights,
    levels_of,
    settings_from_shapes,
    stride_of,
)
from vqtok.checkpoints.told import numbers
from vqtok.errors import ConfigError
from vqtok.preprocess import Preprocess

__all__ = ["plan", "recognises"]

MARKS = ("encoder.time_conv.0.conv.conv.weight", "decoder.time_res_stack.0.conv1.conv.weight")
MAX_AREA = 1024**2
UNUSED = "counts the steps of a norm's running statistics, which stay as they are"
NOTES = (
    "A picture is repeated until it fills a token, as Emu3 does it; decoding gives its first "
    "frame.",
    "Norms over time keep the statistics of the file, in training as well.",
    "Emu3 enlarges pictures under 512 x 512 pixels; here they keep their size, and only those "
    "over 1024 x 1024 are shrunk.",
    "Emu3 resizes both sides to multiples of a cell's; here what is over is cut off, half on each "
    "side.",
    "Emu3's training is not published: the commitment weight of .25, the codebook learnt by "
    "gradient and the estimator are assumed. Training alone depends on that.",
)

# transformers' names -> BAAI's.
PLAIN = [
    (r"(encoder)\.down_block\.(down\.\d+)\.attn_norms\.(\d+)\.(.+)", r"\1.\2.attn.\3.norm.\4"),
    (r"(decoder)\.up_block\.(up\.\d+)\.attn_norms\.(\d+)\.(.+)", r"\1.\2.attn.\3.norm.\4"),
    (r"(..coder)\.\w+_block\.((?:down|up)\.\d+\.attn\.\d+)\.([qkv])_proj\.(\w+)", r"\1.\2.\3.\4"),
    (r"(..coder)\.\w+_block\.((?:down|up)\.\d+\.attn\.\d+)\.out_proj\.(\w+)", r"\1.\2.proj_out.\3"),
    (r"(..coder)\.(?:down|up)_block\.(.+)", r"\1.\2"),
    (r"(..coder)\.middle_block\.attn_norm\.(.+)", r"\1.mid.attn_1.norm.\2"),
    (r"(..coder)\.middle_block\.attn_1\.([qkv])_proj\.(\w+)", r"\1.mid.attn_1.\2.\3"),
    (r"(..coder)\.middle_block\.attn_1\.out_proj\.(\w+)", r"\1.mid.attn_1.proj_out.\2"),
    (r"(..coder)\.middle_block\.(.+)", r"\1.mid.\2"),
    (r"(.+)", r"\1"),
]
TIME = [
    (r"(..coder)\.time_conv\.(\d+)\.conv\.conv\.(weight|bias)", r"\1.time_convs.\2.\3"),
    (r"(..coder)\.time_res_stack\.(\d+)\.(conv[12])\.conv\.(\w+)", r"\1.time_blocks.\2.\3.\4"),
    (r"(..coder)\.time_res_stack\.(\d+)\.(norm[12])\.(\w+)", r"\1.time_blocks.\2.\3.\4"),
    (r"((?:post_)?quant_conv)\.conv\.(weight|bias)", r"\1.\2"),
]


def recognises(tensors: Mapping[str, Tensor]) -> bool:
    """See `Family`."""
    return all(key in tensors for key in (*MARKS, CODES))


def plan(foreign: Foreign) -> Plan:
    """See `Family`."""
    origin = foreign.origin
    need(foreign.tensors, (*MARKS, CODES), origin)
    counts = {key: UNUSED for key in foreign.tensors if key.endswith(".num_batches_tracked")}
    plain = renamed({k: t for k, t in foreign.tensors.items() if k not in counts}, PLAIN, origin)
    codes = plain.pop(CODES)
    over_time = {k: t for k, t in plain.items() if ".time_" in k or "quant_conv." in k}
    frames = _frames({k: t for k, t in plain.items() if k not in over_time}, origin)
    halvings = levels_of(plain, "encoder.time_conv.")
    settings = {
        **settings_from_shapes(frames, origin),
        "temporal_stride": 2**halvings,
        "sample_frames": 2**halvings,
        "num_vq_embeddings": shape_of({CODES: codes}, CODES, 2, origin)[0],
        **_training(),
    }
    settings.pop("mid_block_add_attention")
    settings |= _range(foreign.settings, settings["in_channels"], origin)
    weights = {
        **{_inside(key): tensor for key, tensor in frames.items()},
        **renamed(over_time, TIME, origin),
        CODES: codes,
    }
    return Plan(
        architecture="emu3",
        settings=settings,
        weights=weights,
        preprocess=Preprocess(
            policy="native",
            stride=stride_of(settings),
            resize="pillow-bicubic",
            max_area=MAX_AREA,
        ),
        dropped=counts,
        notes=NOTES,
    )


def _frames(tensors: Mapping[str, Tensor], origin: str) -> dict[str, Tensor]:
    """The networks on frames, under the names of `AutoencoderVQ`."""
    known = ("encoder.", "decoder.")
    renamed({k: t for k, t in tensors.items() if not k.startswith(known)}, [], origin)
    return {**encoder_weights(tensors, origin), **decoder_weights(tensors, origin)}


def _inside(key: str) -> str:
    part, rest = key.split(".", 1)
    return f"{part}.frames.{rest}"


def _range(told: Mapping[str, Any], channels: int, origin: str) -> dict[str, Any]:
    """The range that the networks take, if anyone tells it.

    BAAI's processor has .5 and .5, which is [-1, 1], and so our default; transformers' has CLIP's,
    and writes what it has into preprocessor_config.json.
    """
    there = [name for name in PIXELS if name in told]
    if not there:
        return {}
    mean, std = PIXELS
    half = (0.5,) * channels
    found = {
        "pixel_mean": numbers(told, mean, half),
        "pixel_std": numbers(told, std, half, above=0),
    }
    if len(there) == 1:
        (lacking,) = set(PIXELS) - set(there)
        raise ConfigError(f"{origin} tells {there[0]} without {lacking}; tell both or neither")
    return found


def _training() -> dict[str, Any]:
    """How such codebooks are trained; Emu3's own training is not published."""
    return {
        "quantizer": "vector",
        "estimator": "ste",
        "quantizer_args": {**BY_GRADIENT, "commitment_weight": 0.25},
    }


FAMILIES.register("emu3")(
    Family(
        title="Emu3's tokenizer of pictures and clips",
        licence="Apache-2.0",
        recognises=recognises,
        plan=plan,
    )
)
