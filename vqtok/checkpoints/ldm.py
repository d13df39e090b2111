"""First stages of latent diffusion (arXiv 2112.10752): VQ-f4, f8, f16 and others.

Wrappers: `state_dict`, and `first_stage_model.` inside a whole latent diffusion model, of which
the rest is passed over. The layout is taming's; attn_type none leaves the middle's attention out.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from vqtok.checkpoints import FAMILIES, Family, Foreign, Plan
from vqtok.checkpoints.rotation_trick import by_rotation
from vqtok.checkpoints.taming_parts import kind_of, parts_of, table_plan
from vqtok.checkpoints.told import flag

__all__ = ["plan", "recognises"]

SCALING = (
    "scaling_factor is 1: latent diffusion scales no latents of a VQ first stage, and the .18215 "
    "that diffusers' VQModel has by default is that of a KL one."
)


def recognises(tensors: Mapping[str, Tensor]) -> bool:
    """See `kind_of`."""
    return kind_of(tensors) == "ldm"


def plan(foreign: Foreign) -> Plan:
    """As taming's. Latents are those before quantization, as VQModelInterface has them.

    Those of the rotation trick's authors (Table 3) have rot_trick in their YAML.
    """
    parts = parts_of(foreign)
    found = table_plan(parts, [SCALING])
    return by_rotation(found) if flag(parts.told, "rot_trick", False) else found


FAMILIES.register("ldm")(
    Family(
        title="VQ first stage of latent diffusion",
        licence="MIT (code); CompVis names none for the first stages' weights",
        recognises=recognises,
        plan=plan,
    )
)
