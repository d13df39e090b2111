"""The multi-scale tokenizer of VAR: `vae_ch160v4096z32.pth`.

The tensors lie flat in the file. A checkpoint of VAR's own training holds them under
`trainer.vae_local`, beside the transformer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vqtok.checkpoints import FAMILIES, Family, Foreign, Plan
from vqtok.checkpoints.keys import asked, need, renamed
from vqtok.checkpoints.recipes import BY_GRADIENT, CODES, untold
from vqtok.checkpoints.taming_layout import model_weights, settings_from_shapes, stride_of
from vqtok.checkpoints.told import flag, number, whole
from vqtok.errors import ConfigError, LoadError
from vqtok.preprocess import Preprocess
from vqtok.quantizers.multiscale import PUBLISHED_SCALES

__all__ = ["plan", "recognises"]

COUNTS = "quantize.ema_vocab_hit_SV"
PHI = "quantize.quant_resi."
PUBLISHED_SHAPE = 160, (4096, 32)  # channels of the first level; codes and their dimensions

# The source has a φ for all scales, some or each; ours are numbered in all three cases.
CODEBOOK = (
    (re.escape(CODES), "quantize.table.embedding.weight"),
    (r"quantize\.quant_resi\.qresi\.(weight|bias)", r"quantize.phi.0.\1"),
    (r"quantize\.quant_resi\.(?:qresi_ls\.)?(\d+)\.(weight|bias)", r"quantize.phi.\1.\2"),
)
NETWORKS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")


def recognises(tensors: Mapping[str, Tensor]) -> bool:
    """See `Family`."""
    scales = COUNTS in tensors or any(key.startswith(PHI) for key in tensors)
    return scales and CODES in tensors and "encoder.mid.block_1.conv1.weight" in tensors


def plan(foreign: Foreign) -> Plan:
    """See `Family`."""
    theirs, said, origin = dict(foreign.tensors), foreign.settings, foreign.origin
    need(theirs, (CODES,), origin)
    counts = theirs.pop(COUNTS, None)
    networks = {k: t for k, t in theirs.items() if k.startswith(NETWORKS)}
    rest = {k: t for k, t in theirs.items() if k not in networks}
    weights = model_weights(_separate(networks, origin), origin) | renamed(rest, CODEBOOK, origin)
    shapes = settings_from_shapes(weights, origin)
    scales, notes = _scales(said, theirs, counts, origin)
    stride = stride_of(shapes)
    size = scales[-1] * stride
    return Plan(
        architecture="cnn",
        settings={
            **shapes,
            "sample_size": size,
            "num_vq_embeddings": len(theirs[CODES]),
            "vq_embed_dim": theirs[CODES].shape[1],
            "quant_conv_kernel": weights["quant_conv.weight"].shape[-1],
            **_quantizer(said, scales, _phis(said, theirs, scales, origin)),
        },
        weights=weights,
        preprocess=Preprocess(size=size, stride=stride, resize="pillow-lanczos"),
        dropped={} if counts is None else {COUNTS: "a record of used codes, a meter in training"},
        notes=(
            *notes,
            *untold(said, {"quant_resi": 0.5, "using_znorm": False}),
            "The source resizes the short side to 1.125 times the size (Pillow's Lanczos) and cuts "
            "out the middle; here the largest square is resized to the size, by the same filter.",
        ),
    )


def _separate(networks: Mapping[str, Tensor], origin: str) -> dict[str, Tensor]:
    """One projection to queries, keys and values -> three, as taming has them."""
    found = {}
    for key, tensor in networks.items():
        joint = re.fullmatch(r"(.+\.)qkv\.(weight|bias)", key)
        if joint is None:
            found[key] = tensor
            continue
        if len(tensor) % 3:
            raise LoadError(
                f"{key!r} in {origin} has the shape {tuple(tensor.shape)}; its rows are queries, "
                "keys and values, as many of each"
            )
        parts = zip("qkv", tensor.chunk(3), strict=True)
        found |= {f"{joint[1]}{name}.{joint[2]}": part for name, part in parts}
    return found


def _scales(
    said: Mapping[str, Any], tensors: Mapping[str, Tensor], counts: Tensor | None, origin: str
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The sides of the scales, which shapes do not tell, and notes."""
    first = tensors["encoder.conv_in.weight"].shape[0]
    published = (first, tuple(tensors[CODES].shape)) == PUBLISHED_SHAPE
    number = len(PUBLISHED_SCALES)
    if "v_patch_nums" not in said and published and (counts is None or len(counts) == number):
        return PUBLISHED_SCALES, (
            "The file does not tell its scales (v_patch_nums); by the shapes it is the published "
            f"one, which has {', '.join(map(str, PUBLISHED_SCALES))}.",
        )
    of = "" if counts is None else f"of {len(counts)} scales "
    what = f"the sides {of}from coarse to fine, such as {list(PUBLISHED_SCALES)}"
    given = asked(said, "v_patch_nums", what, origin)
    listed = isinstance(given, list | tuple) and all(type(one) is int for one in given)
    if not listed or not given or min(given) < 1:
        raise ConfigError(f"v_patch_nums is a list such as {list(PUBLISHED_SCALES)}; got {given!r}")
    if counts is not None and len(counts) != len(given):
        raise ConfigError(
            f"v_patch_nums has {len(given)} scales, and {COUNTS} in {origin} {len(counts)}"
        )
    return tuple(given), ()


def _phis(
    said: Mapping[str, Any], tensors: Mapping[str, Tensor], scales: tuple[int, ...], origin: str
) -> int:
    """How many φ there are: where none is shared as many as scales, or as is told."""
    weights = [key for key in tensors if key.startswith(PHI) and key.endswith(".weight")]
    own = any(key.removeprefix(PHI)[0].isdecimal() for key in weights)
    wanted = whole(said, "default_qresi_counts", 0, least=0) or len(scales)
    if own and len(weights) != wanted:
        raise ConfigError(
            f"v_patch_nums has {len(scales)} scales, and {origin} {len(weights)} φ ({PHI}N), which "
            f"are not shared: there are {wanted}"
        )
    return len(weights)


def _quantizer(said: Mapping[str, Any], scales: tuple[int, ...], phis: int) -> dict[str, Any]:
    """Settings of our quantizer, by the source's or its defaults."""
    args = {
        "scales": scales,
        "phis": phis,
        "phi_ratio": abs(number(said, "quant_resi", 0.5)),
        "by_direction": flag(said, "using_znorm", False),
        **BY_GRADIENT,
        "commitment_weight": number(said, "beta", 0.25, least=0),
    }
    return {"quantizer": "multiscale", "quantizer_args": args, "estimator": "ste"}


FAMILIES.register("var")(
    Family(
        title="the multi-scale tokenizer of VAR",
        licence="MIT, code and published weights",
        recognises=recognises,
        plan=plan,
    )
)
