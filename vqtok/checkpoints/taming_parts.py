"""What the checkpoints of taming-transformers' layout have in common, whatever their quantizer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vqtok.autoencoders.stock import TRAINING
from vqtok.checkpoints import Foreign, Plan
from vqtok.checkpoints.ddconfig import check_sizes, hyperparameters
from vqtok.checkpoints.extras import AVERAGED, sorted_extras, under
from vqtok.checkpoints.heed import tells
from vqtok.checkpoints.keys import need
from vqtok.checkpoints.recipes import CODES
from vqtok.checkpoints.taming_layout import (
    is_layout,
    model_weights,
    settings_from_shapes,
    stride_of,
)
from vqtok.checkpoints.told import check_told, number, section, whole
from vqtok.checkpoints.wrappers import EMA, ema_weights
from vqtok.errors import ConfigError, LoadError
from vqtok.preprocess import Preprocess

__all__ = ["Parts", "kind_of", "parts_of", "table_plan"]

MODEL = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.", "quantize.")
REMAPPED = "quantize.used"
TABLE = {"embedding.weight"}
SCORES = {"proj.weight", "proj.bias", "embed.weight"}
RESOLUTION = 256  # of all that CompVis published
CHAMELEON = (8192, 256)
# taming's codes have 256 dimensions, latent diffusion's 3 to 8.
NARROW = 32
# IBQ has these names, too, and four residual blocks a level; all of CompVis' have two.
IBQ = "encoder.down.0.block.3.conv1.weight"


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
        check_told(self.told, "n_embed", count, self.origin)
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
    codes = tuple(tensors[CODES].shape)
    attends = any(".attn." in key for key in tensors if key.startswith("encoder.down."))
    if codes == CHAMELEON and not attends:
        return "chameleon"
    averaged = any(key.startswith(EMA) for key in tensors)
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
    check_sizes(told, settings, origin)
    _check_colours(settings, origin)
    size, notes = _resolution(told, resolution)
    extras = {key: t for key, t in foreign.tensors.items() if not key.startswith(MODEL)}
    if len(averaged) < len(foreign.tensors):
        notes.append(AVERAGED)
    discriminator, dropped = sorted_extras(extras)
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
        quantizer=under("quantize.", own),
        told=told,
        preprocess=Preprocess.preset("taming", size=size, stride=stride_of(settings)),
        dropped=dropped,
        discriminator=discriminator,
        notes=tuple(notes),
    )


def table_plan(parts: Parts, notes: Iterable[str] = ()) -> Plan:
    """The plan of a checkpoint with a table of codes, which VectorQuantizer2 trains."""
    need(parts.quantizer, ["embedding.weight"], f"the quantizer of {parts.origin}")
    return parts.plan(_training(parts.told), parts.quantizer, notes)


def _training(told: Mapping[str, Any]) -> dict[str, Any]:
    """How VectorQuantizer2 is trained, by the weight that the source gives to its loss.

    That is one weight for both halves. With legacy beta, which is the usual one, the commitment
    has no weight of its own, so for another than 1 the same is said without it.
    """
    weight = number(section(told, "lossconfig", "params"), "codebook_weight", 1.0, least=0)
    if weight == 1:
        return TRAINING
    args = TRAINING["quantizer_args"]
    own = {
        "legacy_beta": False,
        "commitment_weight": weight,
        "codebook_weight": weight * args["commitment_weight"],
    }
    return {**TRAINING, "quantizer_args": {**args, **own}}


def _resolution(told: Mapping[str, Any], usual: int) -> tuple[int, list[str]]:
    """The side of the pictures that it was trained on, which no shape tells, and a note."""
    if not tells(told, "resolution"):
        return usual, [
            f"The file does not tell the side of the pictures it was trained on: {usual} is "
            "taken, which only the default crop depends on; resolution in config sets it."
        ]
    return whole(told, "resolution", usual), []


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


def _check_colours(settings: Mapping[str, Any], origin: str) -> None:
    channels = settings["in_channels"], settings["out_channels"]
    if channels != (3, 3):
        raise LoadError(
            f"{origin} is a model of {channels[0]} channels, for segmentation or depth maps; "
            "a tokenizer of pictures has 3"
        )
