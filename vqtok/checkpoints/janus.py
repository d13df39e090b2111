"""The image tokenizer of Janus and Janus-Pro, alone or inside the whole model.

transformers has it under `model.vqmodel.`, in taming's names, with the decoder's levels in the
order in which they run; DeepSeek's own file under `gen_vision_model.`, in LlamaGen's names. The
latter, without its prefix, cannot be told from a LlamaGen checkpoint by keys, and computes the
same: `llamagen` takes it, and by the settings beside it (gen_vision_config) knows it for Janus'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from vqtok.checkpoints import FAMILIES, Family, Foreign, Plan, llamagen
from vqtok.checkpoints.recipes import CODES
from vqtok.checkpoints.taming_layout import PROJECTIONS, decoder_weights, encoder_weights, levels_of
from vqtok.checkpoints.told import whole

__all__ = ["plan", "recognises"]

FORGETS = (
    "transformers' JanusVQVAE.encode compares latents with codes as they are; here latents are "
    "normalised first, as in DeepSeek's own code and in training, so ids are not those of "
    "transformers."
)


def recognises(tensors: Mapping[str, Tensor]) -> bool:
    """See `Family`. Where taming puts the coarsest level last, `decoder.up` begins with it here."""
    marks = (
        "encoder.down.0.block.0.conv1.weight",
        "encoder.mid.attn_1.q.weight",
        "decoder.up.0.upsample.conv.weight",
        CODES,
    )
    return all(key in tensors for key in (*marks, *PROJECTIONS))


def plan(foreign: Foreign) -> Plan:
    """See `Family`."""
    if llamagen.is_layout(foreign.tensors):
        return llamagen.plan(foreign)
    origin, theirs = foreign.origin, foreign.tensors
    own = {k: t for k, t in theirs.items() if k.startswith(("encoder.", "decoder."))}
    weights = {
        **encoder_weights(own, origin),
        **decoder_weights(own, origin, by_resolution=False),
        **llamagen.projections_and_codes(theirs, origin),
    }
    size = _size(weights, foreign.settings)
    found = llamagen.assembled(weights, foreign, size, janus=True)
    return replace(found, notes=(*found.notes, FORGETS))


def _size(weights: Mapping[str, Tensor], settings: Mapping[str, Any]) -> int:
    """The side of pictures; transformers' settings have it as a number of tokens."""
    stride = 2 ** (levels_of(weights, "encoder.down_blocks.") - 1)
    patches = whole(settings, "num_patches", 0, least=0)
    return patches * stride if patches else llamagen.JANUS_SIZE


FAMILIES.register("janus")(
    Family(
        title="the image tokenizer of Janus",
        licence="DeepSeek Model License, which restricts use",
        recognises=recognises,
        plan=plan,
    )
)
