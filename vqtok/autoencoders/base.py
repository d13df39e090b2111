"""What all autoencoders share: pixels to latents, ids and back, and folders."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.attention import AttentionMixin
from diffusers.models.autoencoders.vae import AutoencoderMixin, DecoderOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from huggingface_hub import split_torch_state_dict_into_shards
from torch import Tensor, nn

from vqtok.architectures import Architecture
from vqtok.autoencoders.building import execution_device, make_quantizer
from vqtok.autoencoders.grids import OnGrids
from vqtok.autoencoders.outputs import AutoencoderVQOutput, VQEncoderOutput
from vqtok.autoencoders.pixels import PixelRange, as_signed
from vqtok.autoencoders.tiling import Tiling, in_slices
from vqtok.contents import CONFIG
from vqtok.errors import CodesError, ConfigError, InputError, LoadError
from vqtok.estimators import Loss
from vqtok.files import share_like
from vqtok.layouts import shape_of
from vqtok.precision import Precision, arithmetic
from vqtok.quantizers import TRAINING_STATE
from vqtok.registry import Registry
from vqtok.strides import by
from vqtok.zoo import bundled, unknown

__all__ = ["AUTOENCODERS", "AutoencoderBase", "code_names"]

WEIGHTS = "diffusion_pytorch_model.safetensors"
# Written beside the model's own settings, so that transformers reads the same folder.
TRANSFORMERS_KEYS = {"model_type": "vqtok", "architectures": ["VQTokModel"]}


class AutoencoderBase(OnGrids, ModelMixin, AttentionMixin, AutoencoderMixin, ConfigMixin, ABC):
    """Pixels to codes and back, through the networks of one architecture.

    A subclass has a constructor that is registered to the configuration, makes an `Architecture`
    and calls `_assemble` with it. These settings are common to all, and the constructor has each:

    in_channels, out_channels  of pixels
    sample_size      the side of the pictures that it is trained on, and of a tile
    latent_channels  the width that the encoder puts out and the decoder takes
    vq_embed_dim     the width of the codes, by default latent_channels
    num_vq_embeddings  how many codes there are
    scaling_factor, shift_factor  of latents, for those who train a diffusion model on them
    quantizer        a name of `QUANTIZERS`, and its own settings in `quantizer_args`
    estimator        a name of `ESTIMATORS`, and its own settings in `estimator_args`
    pixel_mean, _std what the networks see is (pixel - mean) / std of pixels in [0, 1]; by default
                     .5 and .5, which is [-1, 1]. `encode` and `decode` speak [-1, 1] always.
    """

    # The settings that change what each part computes; those that differ from their default enter
    # the fingerprint. Sizes show in the weights, and are here for the blocks that have none.
    ENCODER_SETTINGS: ClassVar[tuple[str, ...]]
    DECODER_SETTINGS: ClassVar[tuple[str, ...]]

    _supports_gradient_checkpointing = True
    _no_split_modules: ClassVar[list[str]] = [
        "Codebook",
        "MappedCodebook",
        "Mixtures",
        "ScoredCodebook",
        "Scores",
    ]
    # Under half precision the codebook stays float32, or ids would change with the dtype.
    # A list: diffusers takes any other sequence for the name of a single module.
    _keep_in_fp32_modules: ClassVar[list[str]] = ["quantize"]
    _skip_layerwise_casting_patterns: ClassVar[list[str]] = ["quantize"]
    _group_offload_block_modules: ClassVar[list[str]] = [
        "quant_conv",
        "quantize",
        "post_quant_conv",
        "encoder",
        "decoder",
    ]

    @property
    @abstractmethod
    def last_layer(self) -> nn.Parameter:
        """The decoder's last weight, where the share of an adversarial loss is measured."""

    @classmethod
    def canonical(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Settings, as JSON gives them, in the one spelling of them that enters the fingerprint.

        A class overrides it where several spellings make one network.
        """
        return settings

    # --- parts ------------------------------------------------------------------------------

    def _assemble(self, net: Architecture) -> None:
        """What stands around an architecture's networks, by the common settings."""
        config = self.config
        width, dim = config.latent_channels, config.vq_embed_dim or config.latent_channels
        self.stride = net.stride
        self.encoder, self.decoder = net.encoder, net.decoder
        self.quant_conv = self._before_codes(width, dim)
        self.quantize = make_quantizer(
            config.quantizer,
            dim,
            config.num_vq_embeddings,
            estimator=config.estimator,
            estimator_args=config.estimator_args,
            settings=config.quantizer_args,
        )
        self.post_quant_conv = self._after_codes(dim, width)
        self.pixels = self._pixel_range()
        self.transformers_weights = WEIGHTS
        self.use_slicing = False
        self.use_tiling = False
        side = self.spatial_compression_ratio
        self.tiling = Tiling(max(config.sample_size, 8 * side), side)

    def _before_codes(self, width: int, dim: int) -> nn.Module:
        """From what the encoder puts out to what is quantized, a token at a time."""
        return self._projection(width, dim)

    def _after_codes(self, dim: int, width: int) -> nn.Module:
        """From codes to what the decoder takes, a token at a time."""
        return self._projection(dim, width)

    def _projection(self, width: int, to: int) -> nn.Module:
        return (nn.Conv2d if len(self.stride) == 2 else nn.Conv3d)(width, to, 1)

    def _pixel_range(self) -> PixelRange:
        config = self.config
        return PixelRange(
            config.pixel_mean,
            config.pixel_std,
            channels=config.in_channels,
            out_channels=config.out_channels,
        )

    # --- pixels to latents and back, as pipelines call them ---------------------------------

    @apply_forward_hook
    def encode(self, x: Tensor, return_dict: bool = True) -> VQEncoderOutput | tuple[Tensor]:
        """(B, C, *size) pixels in [-1, 1] -> latents (B, D, *grid), size / grid the stride.

        These are the vectors before quantization, which `decode` quantizes; for ids see
        `encode_codes`. A size is (H, W), or (T, H, W) where the model takes clips.
        """
        h = in_slices(self._encode, self.pixels.inward(x), self.use_slicing)
        return VQEncoderOutput(latents=h) if return_dict else (h,)

    @apply_forward_hook
    def decode(
        self,
        h: Tensor,
        force_not_quantize: bool = False,
        return_dict: bool = True,
        shape: tuple[int, ...] | None = None,
        generator: torch.Generator | None = None,
    ) -> DecoderOutput | tuple[Tensor, Tensor]:
        """Latents (B, D, *grid) -> pixels (B, C, *size) in [-1, 1], through the codebook.

        `force_not_quantize` takes the latents as they are or, where the configuration says
        `lookup_from_codebook`, ids in their place, of the `shape` (B, h, w, D). Nothing is drawn;
        `generator` is there for pipelines that pass one.
        """
        loss = torch.zeros(h.shape[0], device=h.device)
        if not force_not_quantize:
            quantized = self.quantize(h)
            h, loss = quantized.z, self.quantize.total_loss(quantized.losses)
        elif self.config.get("lookup_from_codebook") and not h.is_floating_point():
            h = self.quantize.decode(h.reshape(shape[:-1]) if shape else h)
        sample = self.decode_vectors(h)
        return DecoderOutput(sample=sample, commit_loss=loss) if return_dict else (sample, loss)

    def forward(
        self,
        sample: Tensor,
        return_dict: bool = True,
        loss: Loss | None = None,
        generator: torch.Generator | None = None,
    ) -> AutoencoderVQOutput | tuple[Tensor, Tensor]:
        """(B, C, *size) pixels in [-1, 1] -> their reconstruction, and what training needs.

        `loss` and `generator` are for estimators that need them: see `Quantizer.forward`.
        """
        latents = self.encode(sample, return_dict=False)[0]
        quantized = self.quantize(latents, loss=loss, generator=generator)
        pixels = self.decode_vectors(quantized.z)
        weighed = self.quantize.total_loss(quantized.losses)
        if not return_dict:
            return pixels, weighed
        return AutoencoderVQOutput(
            sample=pixels, commit_loss=weighed, quantized=quantized, latents=latents
        )

    # --- pixels to ids and back ---------------------------------------------------------------

    @torch.no_grad()
    @apply_forward_hook
    def encode_codes(self, x: Tensor, precision: Precision = "ieee32") -> Tensor:
        """(B, C, *size) pixels, uint8 or floats in [-1, 1] -> ids (B, *grid[, Q]), int64.

        `grid_of` says which sizes there are. Quantizers of several scales give (B, L), the scales
        one after another. A clip longer than the model's `window` goes through as one; those of
        `encode_stream`, window by window, are other ids. Ids are defined by float32 products;
        another `precision` is another, cheaper function with other ids.
        """
        signed = as_signed(x, self.config.in_channels, len(self.stride), self.grid_of)
        pixels = signed.to(execution_device(self))
        with arithmetic(precision, pixels.device):
            latents = self.encode(pixels.to(self.dtype), return_dict=False)[0]
            return self.ids_of(latents, precision)

    def ids_of(self, latents: Tensor, precision: Precision) -> Tensor:
        """Latents (B, D, *grid), made under `precision` -> ids; `InputError` if not finite."""
        if not torch.compiler.is_compiling() and not bool(latents.isfinite().all()):
            raise InputError(
                f"the encoder's output is not finite with {str(self.dtype)[6:]} weights and "
                f"precision={precision!r}; half precision may overflow, or weights are damaged"
            )
        codes: Tensor = self.quantize.encode(latents)
        return codes

    @torch.no_grad()
    @apply_forward_hook
    def decode_codes(
        self,
        codes: Tensor,
        precision: Precision = "ieee32",
        grid: tuple[int, ...] | None = None,
    ) -> Tensor:
        """Ids (B, *grid[, Q]) -> (B, C, *size) pixels, floats in [-1, 1].

        `grid` is for codes of several scales (B, L) of which it is not clear what they cover.
        """
        self._check_codes(codes)
        if grid is not None and self.quantize.codes_shape(shape_of(grid)) != (*codes.shape[1:],):
            raise CodesError(f"codes of the shape {tuple(codes.shape)} have no grid of {by(grid)}")
        codes = codes.to(execution_device(self))
        with arithmetic(precision, codes.device):
            vectors = self.quantize.decode(codes, grid)
            return self.decode_vectors(vectors).float().clamp(-1, 1)

    # --- inside ---------------------------------------------------------------------------------

    def _check_codes(self, codes: Tensor) -> None:
        """Raises where codes are not a batch of grids; the quantizer looks at their values."""
        if not isinstance(codes, Tensor):
            raise CodesError(f"codes are a tensor here; got {type(codes).__name__}")
        depth, axes = self.quantize.depth, code_names(self.code_axes)
        if codes.ndim != 1 + len(axes) + bool(depth) or not codes.numel():
            raise CodesError(
                f"codes of this model have the shape (B, {', '.join(axes)}"
                f"{f', {depth}' if depth else ''}), with at least one token; got "
                f"{tuple(codes.shape)}"
            )

    def _encode(self, x: Tensor) -> Tensor:
        return self.tiling.shrink(self._latents, x) if self.use_tiling else self._latents(x)

    def decode_vectors(self, vectors: Tensor) -> Tensor:
        """(B, D, *grid) vectors of codes -> (B, C, *size) pixels in [-1, 1], not clamped."""
        # The model's dtype, not a weight's: under layerwise casting weights are stored as float8.
        vectors = vectors.to(self.dtype)
        return self.pixels.outward(in_slices(self._decode, vectors, self.use_slicing))

    def _decode(self, vectors: Tensor) -> Tensor:
        return self.tiling.grow(self._pixels, vectors) if self.use_tiling else self._pixels(vectors)

    def _latents(self, pixels: Tensor) -> Tensor:
        """One tile in the networks' own range -> what is quantized."""
        out: Tensor = self.quant_conv(self.encoder(pixels))
        return out

    def _pixels(self, vectors: Tensor) -> Tensor:
        """The vectors of one tile -> its pixels in the networks' own range."""
        out: Tensor = self.decoder(self.post_quant_conv(vectors))
        return out

    # --- folders ----------------------------------------------------------------------------

    def to_diffusers(self) -> Any:
        """A genuine model of diffusers with equal weights, ids and pixels.

        Raises `ConfigError` where diffusers has no class for this model.
        """
        raise ConfigError(
            f"diffusers has no class for this {type(self).__name__}; save_pretrained writes a "
            "folder that vqtok and transformers read"
        )

    @classmethod
    def extract_init_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """diffusers' hook between a configuration file and `__init__`."""
        named = config_dict.get("_class_name")
        known = {AUTOENCODERS[name] for name in AUTOENCODERS}
        if named in {other.__name__ for other in known - set(cls.__mro__)}:
            raise ConfigError(f"these are the settings of {named}, not of {cls.__name__}")
        foreign = {*TRANSFORMERS_KEYS, "transformers_weights"}
        config = {k: v for k, v in config_dict.items() if k not in foreign}
        return super().extract_init_dict(config, **kwargs)

    def _fix_state_dict_keys_on_load(self, state_dict: dict[str, Tensor]) -> None:
        """diffusers' hook between a weight file and the model: VQModel's hold no training state."""
        super()._fix_state_dict_keys_on_load(state_dict)
        for name, buffer in self.named_buffers():
            if name.rsplit(".", 1)[-1] in TRAINING_STATE and not buffer.is_meta:
                state_dict.setdefault(name, buffer)

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str] | None, **kwargs: Any) -> Any:
        """From a folder, a name in the package or the hub; `LoadError` if weights lack.

        diffusers leaves what a file lacks without values, and warns; no id made by such a model
        would mean anything.
        """
        source = _place_of(name)
        # Without it diffusers takes a pickle where there are no safetensors.
        options = {"use_safetensors": True, **kwargs, "output_loading_info": True}
        model, info = super().from_pretrained(source, **options)
        tensors = model.state_dict()
        lost = sorted(key for key in info.get("missing_keys", ()) if tensors[key].is_meta)
        if lost:
            raise LoadError(
                f"the weights in {name} lack {len(lost)} of this model's tensors, among them "
                f"{lost[0]!r}"
            )
        return (model, info) if kwargs.get("output_loading_info") else model

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Writes a folder that this class and transformers read, and diffusers where it can."""
        size = kwargs.get("max_shard_size", "10GB")
        plan = split_torch_state_dict_into_shards(self.state_dict(), max_shard_size=size)
        self.transformers_weights = WEIGHTS + ".index.json" if plan.is_sharded else WEIGHTS
        super().save_pretrained(save_directory, **kwargs)
        folder = Path(save_directory)
        if (folder / CONFIG).is_file():  # which one process of several writes
            share_like(folder / CONFIG, folder.glob("*.safetensors"))

    def to_json_string(self) -> str:
        """The configuration file's text, with what transformers reads in it."""
        settings = json.loads(super().to_json_string()) | TRANSFORMERS_KEYS
        settings["transformers_weights"] = self.transformers_weights
        settings.pop("_name_or_path", None)  # where it was loaded from, on this machine
        return json.dumps(settings, indent=2, sort_keys=True) + "\n"


def code_names(axes: int) -> str:
    """What messages call the axes of codes: t, h, w, or L where they are one sequence."""
    return "thw"[-axes:] if axes > 1 else "L"


# The modules of this package are imported at the first look-up, each with a class or more.
AUTOENCODERS: Registry[type[AutoencoderBase]] = Registry("architecture", "vqtok.autoencoders")


def _place_of(name: str | os.PathLike[str] | None) -> str | os.PathLike[str] | None:
    """A bundled name's folder; anything else as it is, unless it cannot be a name on the hub."""
    if name is None or os.path.isdir(name):
        return name
    known = bundled()
    if str(name) in known:
        return known[str(name)]
    if "/" not in str(name) and os.sep not in str(name):
        raise unknown(str(name), known)
    return name
