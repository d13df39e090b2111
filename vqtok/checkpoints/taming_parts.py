"""What the checkpoints of taming-transformers' layout have in common, whatever their quantizer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vqtok.autoencoders.stock import TRAINING
from vqtok.checkpoints import Foreign, Plan, patchgan
from vqtok.checkpoints.keys import need
from vqtok.checkpoints.taming_layout import is_layout, model_weights, settings_from_shapes
from vqtok.checkpoints.wrappers import ema_weights
from vqtok.errors import ConfigError, LoadError
from vqtok.preprocess import Preprocess

__all__ = ["Parts", "hyperparameters", "inner", "kind_of", "parts_of", "table_plan"]

MODEL = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.", "quantize.")
AVERAGES = "model_ema."
DISCRIMINATOR = "loss.discriminator."
REMAPPED = "quantize.used"
TABLE = {"embedding.weight"}
SCORES = {"proj.weight", "proj.bias", "embed.weight"}
RESOLUTION = 256  # of all that CompVis published
CHAMELEON = (8192, 256)
# taming's codes have 256 dimensions, latent diffusion's 3 to 8.
NARROW = 32
# IBQ has these names, too, and four residual blocks a level; all of CompVis' have two.
IBQ = "encoder.down.0.block.3.conv1.weight"

_REASONS = {
    "loss.perceptual_loss.": "LPIPS' network, which training brings itself",
    DISCRIMINATOR: "a discriminator of a kind that training has not",
    "loss.": "a part of the loss",
    AVERAGES: "a running mean, taken in place of the weight itself",
    "colorize": "colours for showing segmentation maps",
}
_OTHER = "no part of the autoencoder"


@dataclass(frozen=True)
class Parts:
    """A checkpoint but for its quantizer.

    settings       of `AutoencoderVQ`: the networks and the width of latents and codes
    weights        under our names, without the quantizer's
    quantizer      what stands after `quantize.`, as the source has it
    told           what YAML, JSON and the caller say, in one level
    """

    origin: str
    settings: dict[str, Any]
    weights: dict[str, Tensor]
    quantizer: dict[str, Tensor]
    told: dict[str, Any]
    preprocess: Preprocess
    dropped: dict[str, str]
    discriminator: dict[str, Tensor]
    notes: tuple[str, ...]

    def plan(
        self, quantizer: Mapping[str, Any], weights: Mapping[str, Tensor], notes: Iterable[str] = ()
    ) -> Plan:
        """With the quantizer's settings of `AutoencoderVQ`, and its weights under our names."""
        count = len(weights["embedding.weight"])
        _check_told(self.told, "n_embed", count, self.origin)
        return Plan(
            architecture="cnn",
            settings={**self.settings, "num_vq_embeddings": count, **quantizer},
            weights={**self.weights, **{f"quantize.{k}": t for k, t in weights.items()}},
            preprocess=self.preprocess,
            dropped=self.dropped,
            discriminator=self.discriminator,
            notes=(*self.notes, *notes),
        )


def kind_of(tensors: Mapping[str, Tensor]) -> str | None:
    """Which of the families of this layout it is: their names are equal, but for a few.

    Codes of few dimensions, running means and a middle without attention are latent diffusion's;
    a table of Chameleon's size without attention at any level is Chameleon's. The rest is a VQGAN.
    """
    own = {key.removeprefix("quantize.") for key in tensors if key.startswith("quantize.")}
    own.discard("used")
    if own == SCORES and is_layout(tensors):
        return "gumbel_vq"
    if own != TABLE or IBQ in tensors or not is_layout(tensors, decoder=False):
        return None
    if not any(key.startswith("decoder.") for key in tensors):
        return "chameleon"
    if not is_layout(tensors):
        return None
    return _kind_by_sizes(tensors)


def _kind_by_sizes(tensors: Mapping[str, Tensor]) -> str:
    codes = tuple(tensors["quantize.embedding.weight"].shape)
    attends = any(".attn." in key for key in tensors if key.startswith("encoder.down."))
    if codes == CHAMELEON and not attends:
        return "chameleon"
    averaged = any(key.startswith(AVERAGES) for key in tensors)
    plain = "encoder.mid.attn_1.q.weight" not in tensors
    return "ldm" if averaged or plain or codes[-1] < NARROW else "taming"


def parts_of(foreign: Foreign, *, resolution: int = RESOLUTION, decoder: bool = True) -> Parts:
    """Networks, sizes and extras of a checkpoint; the quantizer's weights as they are.

    resolution  the side of the pictures that it was trained on, where nothing tells it
    """
    origin, told = foreign.origin, hyperparameters(foreign.settings)
    _check_kind(told, origin)
    averaged = ema_weights(foreign.tensors, origin)
    own = {key: t for key, t in averaged.items() if key.startswith(MODEL)}
    used = own.pop(REMAPPED, None)
    weights = model_weights(own, origin)
    settings = settings_from_shapes(weights, origin, decoder=decoder)
    settings["vq_embed_dim"] = weights["quant_conv.weight"].shape[0]
    _check_sizes(told, settings, origin)
    _check_colours(settings, origin)
    size, notes = _resolution(told, resolution)
    extras = {key: t for key, t in foreign.tensors.items() if not key.startswith(MODEL)}
    if len(averaged) < len(foreign.tensors):
        notes.append("Weights are the running means (model_ema), with which the source evaluates.")
    discriminator, dropped = _sorted_extras(extras)
    if used is not None:
        dropped[REMAPPED] = "ids are those of the whole codebook"
        notes.append(
            f"The source maps its ids onto the {len(used)} that quantize.used lists, and unknown "
            "ones onto random ones; ids here are those before that: the entries of quantize.used."
        )
    return Parts(
        origin=origin,
        settings={**settings, "sample_size": size},
        weights=weights,
        quantizer=_under("quantize.", own),
        told=told,
        preprocess=Preprocess.preset("taming", size=size, stride=_stride(settings)),
        dropped=dropped,
        discriminator=discriminator,
        notes=tuple(notes),
    )


def table_plan(parts: Parts, notes: Iterable[str] = ()) -> Plan:
    """The plan of a checkpoint with a table of codes, which VectorQuantizer2 trains."""
    need(parts.quantizer, ["embedding.weight"], f"the quantizer of {parts.origin}")
    return parts.plan(TRAINING, parts.quantizer, notes)


def hyperparameters(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with those of `ddconfig`, the networks', on the same level; others win."""
    return {**inner(settings, "ddconfig"), **settings}


def inner(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The settings under `name`; {} where there are none."""
    found = settings.get(name)
    return dict(found) if isinstance(found, Mapping) else {}


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}


def _sorted_extras(
    extras: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What is no part of the autoencoder: the discriminator, and why the rest is dropped."""
    discriminator = patchgan.weights(_under(DISCRIMINATOR, extras))
    kept = DISCRIMINATOR if discriminator else "\0"
    dropped = {
        key: next((why for start, why in _REASONS.items() if key.startswith(start)), _OTHER)
        for key in extras
        if not key.startswith(kept)
    }
    return discriminator, dropped


def _stride(settings: Mapping[str, Any]) -> int:
    return int(2 ** (len(settings["block_out_channels"]) - 1))


def _resolution(told: Mapping[str, Any], usual: int) -> tuple[int, list[str]]:
    """The side of the pictures that it was trained on, which no shape tells, and a note."""
    if "resolution" not in told:
        return usual, [
            f"The file does not tell the side of the pictures it was trained on: {usual} is "
            "taken, which only the default crop depends on; resolution in config sets it."
        ]
    size = told["resolution"]
    if not isinstance(size, int) or size < 1:
        raise ConfigError(f"resolution is a whole number of pixels; got {size!r}")
    return size, []


def _check_kind(told: Mapping[str, Any], origin: str) -> None:
    if told.get("double_z"):
        raise ConfigError(
            f"the settings of {origin} say double_z: that is a KL autoencoder, which has no codes"
        )
    if told.get("attn_type", "vanilla") not in ("vanilla", "none", None):
        raise ConfigError(
            f"the settings of {origin} say attn_type {told['attn_type']!r}; known are 'vanilla' "
            "and 'none'"
        )


def _check_sizes(told: Mapping[str, Any], settings: Mapping[str, Any], origin: str) -> None:
    widths = settings["block_out_channels"]
    shown: dict[str, Any] = {
        "in_channels": settings["in_channels"],
        "out_ch": settings["out_channels"],
        "z_channels": settings["latent_channels"],
        "embed_dim": settings["vq_embed_dim"],
        "num_res_blocks": settings["layers_per_block"],
    }
    if isinstance(told.get("ch"), int) and told["ch"] > 0:
        shown["ch_mult"] = [width // told["ch"] for width in widths]
    for name, value in shown.items():
        _check_told(told, name, value, origin)


def _check_told(told: Mapping[str, Any], name: str, shown: Any, origin: str) -> None:
    """Settings of another checkpoint would be a mistake that shows nowhere else."""
    said = told.get(name, shown)
    if (list(said) if isinstance(said, list | tuple) else said) != shown:
        raise ConfigError(
            f"the settings say {name}={said}, and the shapes in {origin} {name}={shown}: they "
            "belong to another checkpoint"
        )


def _check_colours(settings: Mapping[str, Any], origin: str) -> None:
    channels = settings["in_channels"], settings["out_channels"]
    if channels != (3, 3):
        raise LoadError(
            f"{origin} is a model of {channels[0]} channels, for segmentation or depth maps; "
            "a tokenizer of pictures has 3"
        )
