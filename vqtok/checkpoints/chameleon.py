"""The picture tokenizer of Chameleon (arXiv 2405.09818), which Anole uses as it is.

Wrappers: `state_dict` around the original `vqgan.ckpt`, and `model.vqmodel.` within the whole
language model of transformers.

The original is a VQGAN in taming's layout. transformers' form has the encoder and the codebook
alone: it becomes a model that makes ids and says, where it is to decode, what it lacks. For
pictures of ids convert `vqgan.ckpt`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from vqtok.checkpoints import FAMILIES, Family, Foreign, Plan
from vqtok.checkpoints.taming_parts import kind_of, parts_of, table_plan
from vqtok.preprocess import Preprocess

__all__ = ["plan", "recognises"]

RESOLUTION = 512
PIXELS = (
    "Pixels are those of the original, pixel / 127.5 - 1. transformers' processor multiplies by "
    ".0078 instead of 1 / 127.5, so its white is .989, and a few of its ids are others."
)
NO_DECODER = (
    "The file holds no decoder: the model makes ids and decodes none. The original vqgan.ckpt "
    "holds both, with the same ids."
)


def recognises(tensors: Mapping[str, Tensor]) -> bool:
    """See `kind_of`."""
    return kind_of(tensors) == "chameleon"


def plan(foreign: Foreign) -> Plan:
    """As taming's; without a decoder where there is none."""
    decoder = any(key.startswith("decoder.") for key in foreign.tensors)
    parts = parts_of(foreign, resolution=RESOLUTION, decoder=decoder)
    size, stride = parts.preprocess.size, parts.preprocess.stride
    # The whole picture on its short side, white under what is transparent, and its middle.
    seen = Preprocess(policy="taming", resize="pillow-lanczos", size=size, stride=stride)
    notes = [PIXELS] if decoder else [PIXELS, NO_DECODER]
    return table_plan(replace(parts, preprocess=seen), notes)


FAMILIES.register("chameleon")(
    Family(
        title="Chameleon's VQGAN",
        licence="Chameleon Research License: research alone, no commercial use",
        recognises=recognises,
        plan=plan,
    )
)
