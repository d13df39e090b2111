"""VQGAN of taming-transformers (arXiv 2012.09841), and its layout for models of ours.

Wrappers: `state_dict`. Beside the file: the YAML of its training, with `model.params.ddconfig`.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from vqtok.autoencoders import AutoencoderBase, AutoencoderVQ
from vqtok.checkpoints import FAMILIES, Family, Foreign, Plan
from vqtok.checkpoints.recipes import CODES
from vqtok.checkpoints.taming_layout import GROUPS, to_layout
from vqtok.checkpoints.taming_parts import kind_of, parts_of, table_plan
from vqtok.errors import ConfigError

__all__ = ["plan", "recognises", "to_taming"]


def recognises(tensors: Mapping[str, Tensor]) -> bool:
    """See `kind_of`."""
    return kind_of(tensors) == "taming"


def plan(foreign: Foreign) -> Plan:
    """Both networks, the table, and a codebook that the loss moves, with taming's order of beta."""
    return table_plan(parts_of(foreign))


def to_taming(model: AutoencoderBase) -> dict[str, Tensor]:
    """The weights for `load_state_dict` of taming's VQModel or GumbelVQ, but for their loss.

    Of a model whose middle has no attention: for latent diffusion's VQModel with attn_type none.
    `ConfigError` where they cannot express the model.
    """
    if not isinstance(model, AutoencoderVQ):
        raise ConfigError(
            "taming-transformers' VQGAN is a convolutional autoencoder of pictures; this model is "
            f"an {type(model).__name__}"
        )
    if obstacles := _obstacles(model):
        raise ConfigError(
            f"taming-transformers' VQGAN cannot express this model: {'; '.join(obstacles)}"
        )
    weights = model.state_dict()
    networks = {key: t for key, t in weights.items() if not key.startswith("quantize.")}
    return to_layout(networks) | _quantizer(weights)


def _quantizer(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    table = weights[CODES]
    if "quantize.proj.weight" not in weights:
        return {CODES: table}
    return {
        "quantize.proj.weight": weights["quantize.proj.weight"][..., None, None],
        "quantize.proj.bias": weights["quantize.proj.bias"],
        "quantize.embed.weight": table,
    }


def _obstacles(model: AutoencoderVQ) -> list[str]:
    config = model.config
    down = [kind.startswith("Attn") for kind in config.down_block_types]
    up = [kind.startswith("Attn") for kind in config.up_block_types]
    known = {
        f"the quantizer is {config.quantizer!r}, not 'vector' or 'gumbel'": (
            config.quantizer in ("vector", "gumbel")
        ),
        "codes are compared by direction (use_cosine_sim)": (
            not (config.quantizer_args or {}).get("use_cosine_sim")
        ),
        "the networks take another pixel range than [-1, 1]": model.pixels.is_signed,
        "latents are normalised before quantization (pre_quant_norm)": (
            config.pre_quant_norm == "none"
        ),
        "codes stand between larger convolutions than 1 x 1 (quant_conv_kernel)": (
            config.quant_conv_kernel == 1
        ),
        f"norms have {config.norm_num_groups} groups, not {GROUPS} (norm_num_groups)": (
            config.norm_num_groups == GROUPS
        ),
        f"the decoder's norms are {config.norm_type!r} ones (norm_type)": (
            config.norm_type == "group"
        ),
        f"it activates by {config.act_fn!r}, not 'silu' (act_fn)": (
            config.act_fn in ("silu", "swish")
        ),
        "it has no decoder (up_block_types)": bool(up),
        "encoder and decoder attend at different levels (up_block_types)": (
            not up or down == up[::-1]
        ),
        "it attends at a level and not in the middle (mid_block_add_attention)": (
            config.mid_block_add_attention or not any(down)
        ),
    }
    return [what for what, is_fine in known.items() if not is_fine]


FAMILIES.register("taming")(
    Family(
        title="VQGAN of taming-transformers",
        licence="MIT (code); CompVis names none for its weights; of weights by others: theirs",
        recognises=recognises,
        plan=plan,
    )
)
