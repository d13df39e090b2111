"""The image autoencoder: a diffusers model with VQModel's weights, and ids."""

from __future__ import annotations

import json
import os
from typing import Any, ClassVar

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.attention import AttentionMixin
from diffusers.models.autoencoders.vae import AutoencoderMixin, DecoderOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from huggingface_hub import split_torch_state_dict_into_shards
from torch import Tensor, nn

from vqtok.architectures import ARCHITECTURES
from vqtok.autoencoders import stock
from vqtok.autoencoders.building import execution_device, make_quantizer
from vqtok.autoencoders.outputs import AutoencoderVQOutput, VQEncoderOutput
from vqtok.autoencoders.pixels import PixelRange, as_signed
from vqtok.autoencoders.tiling import Tiling, in_slices
from vqtok.errors import CodesError, ConfigError, InputError, LoadError
from vqtok.estimators import Loss
from vqtok.precision import Precision, arithmetic
from vqtok.quantizers import TRAINING_STATE
from vqtok.zoo import bundled, unknown

__all__ = ["AutoencoderVQ", "ModelMixin"]  # diffusers' loader looks for ModelMixin beside the class

WEIGHTS = "diffusion_pytorch_model.safetensors"
# Written beside the model's own settings, so that transformers reads the same folder.
TRANSFORMERS_KEYS = {"model_type": "vqtok", "architectures": ["VQTokModel"]}


class AutoencoderVQ(ModelMixin, AttentionMixin, AutoencoderMixin, ConfigMixin):
    """Pixels to codes and back, for pipelines that take a `VQModel` or another autoencoder.

    The first arguments are VQModel's own, and so are the names of the weights.

    scaling_factor   1 by default: VQModel's .18215 belongs to another kind of latents
    quantizer        a name of `QUANTIZERS`, and its own settings in `quantizer_args`
    estimator        a name of `ESTIMATORS`, and its own settings in `estimator_args`
    pixel_mean, _std what the networks see is (pixel - mean) / std of pixels in [0, 1]; by default
                     .5 and .5, which is [-1, 1]. `encode` and `decode` speak [-1, 1] always.
    """

    # The settings that change what each part computes; those that differ from their default enter
    # the fingerprint. Sizes show in the weights, and are here for the blocks that have none.
    ENCODER_SETTINGS = (
        "act_fn",
        "block_out_channels",
        "down_block_types",
        "in_channels",
        "layers_per_block",
        "mid_block_add_attention",
        "norm_num_groups",
        "pixel_mean",
        "pixel_std",
    )
    DECODER_SETTINGS = (
        "act_fn",
        "block_out_channels",
        "layers_per_block",
        "mid_block_add_attention",
        "norm_num_groups",
        "norm_type",
        "out_channels",
        "pixel_mean",
        "pixel_std",
        "up_block_types",
    )

    _supports_gradient_checkpointing = True
    _no_split_modules: ClassVar[list[str]] = [
        "ResnetBlock2D",
        "Codebook",
        "MappedCodebook",
        "Mixtures",
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

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        down_block_types: tuple[str, ...] = ("DownEncoderBlock2D",),
        up_block_types: tuple[str, ...] = ("UpDecoderBlock2D",),
        block_out_channels: tuple[int, ...] = (64,),
        layers_per_block: int = 1,
        act_fn: str = "silu",
        latent_channels: int = 3,
        sample_size: int = 32,
        num_vq_embeddings: int = 256,
        norm_num_groups: int = 32,
        vq_embed_dim: int | None = None,
        scaling_factor: float = 1.0,
        shift_factor: float | None = None,
        norm_type: str = "group",
        mid_block_add_attention: bool = True,
        lookup_from_codebook: bool = False,
        force_upcast: bool = False,
        quantizer: str = "vector",
        quantizer_args: dict[str, Any] | None = None,
        estimator: str | None = None,
        estimator_args: dict[str, Any] | None = None,
        pixel_mean: tuple[float, ...] | None = None,
        pixel_std: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__()
        dim = vq_embed_dim or latent_channels
        if norm_type == "spatial" and dim != latent_channels:
            raise ConfigError(
                "with norm_type='spatial' the decoder's norms see the codes, so vq_embed_dim "
                f"equals latent_channels; got {dim} and {latent_channels}"
            )
        net = ARCHITECTURES["cnn"](
            in_channels=in_channels,
            out_channels=out_channels,
            down_block_types=down_block_types,
            up_block_types=up_block_types,
            block_out_channels=block_out_channels,
            layers_per_block=layers_per_block,
            act_fn=act_fn,
            latent_channels=latent_channels,
            norm_num_groups=norm_num_groups,
            norm_type=norm_type,
            mid_block_add_attention=mid_block_add_attention,
        )
        self.encoder, self.decoder = net.encoder, net.decoder
        self.quant_conv = nn.Conv2d(latent_channels, dim, 1)
        self.quantize = make_quantizer(
            quantizer,
            dim,
            num_vq_embeddings,
            estimator=estimator,
            estimator_args=estimator_args,
            settings=quantizer_args,
        )
        self.post_quant_conv = nn.Conv2d(dim, latent_channels, 1)
        self.stride = net.stride
        self.pixels = PixelRange(
            pixel_mean, pixel_std, channels=in_channels, out_channels=out_channels
        )
        self.transformers_weights = WEIGHTS
        self.use_slicing = False
        self.use_tiling = False
        self.tiling = Tiling(max(sample_size, 8 * net.stride[0]), net.stride[0])

    @property
    def spatial_compression_ratio(self) -> int:
        """Pixels a token, along one side."""
        return self.stride[0]

    # --- pixels to latents and back, as pipelines call them ---------------------------------

    @apply_forward_hook
    def encode(self, x: Tensor, return_dict: bool = True) -> VQEncoderOutput | tuple[Tensor]:
        """(B, 3, H, W) pixels in [-1, 1] -> latents (B, D, H / stride, W / stride).

        These are the vectors before quantization, which `decode` quantizes; for ids see
        `encode_codes`.
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
        """Latents (B, D, h, w) -> pixels (B, 3, H, W) in [-1, 1], through the codebook.

        `force_not_quantize` takes the latents as they are or, where the configuration says
        `lookup_from_codebook`, ids in their place, of the `shape` (B, h, w, D). Nothing is drawn;
        `generator` is there for pipelines that pass one.
        """
        loss = torch.zeros(h.shape[0], device=h.device)
        if not force_not_quantize:
            quantized = self.quantize(h)
            h, loss = quantized.z, self.quantize.total_loss(quantized.losses)
        elif self.config.lookup_from_codebook and not h.is_floating_point():
            h = self.quantize.decode(h.reshape(shape[:-1]) if shape else h)
        sample = self._decode_vectors(h)
        return DecoderOutput(sample=sample, commit_loss=loss) if return_dict else (sample, loss)

    def forward(
        self,
        sample: Tensor,
        return_dict: bool = True,
        loss: Loss | None = None,
        generator: torch.Generator | None = None,
    ) -> AutoencoderVQOutput | tuple[Tensor, Tensor]:
        """(B, 3, H, W) pixels in [-1, 1] -> their reconstruction, and what training needs.

        `loss` and `generator` are for estimators that need them: see `Quantizer.forward`.
        """
        quantized = self.quantize(
            self.encode(sample, return_dict=False)[0], loss=loss, generator=generator
        )
        pixels = self._decode_vectors(quantized.z)
        weighed = self.quantize.total_loss(quantized.losses)
        if not return_dict:
            return pixels, weighed
        return AutoencoderVQOutput(sample=pixels, commit_loss=weighed, quantized=quantized)

    # --- pixels to ids and back ---------------------------------------------------------------

    @torch.no_grad()
    @apply_forward_hook
    def encode_codes(self, x: Tensor, precision: Precision = "ieee32") -> Tensor:
        """(B, 3, H, W) pixels, uint8 or floats in [-1, 1] -> ids (B, h, w) or (B, h, w, Q), int64.

        Sides are a multiple of `spatial_compression_ratio`. Ids are defined by float32 products;
        another `precision` is another, cheaper function with other ids.
        """
        pixels = as_signed(x, self.config.in_channels, self.stride).to(execution_device(self))
        with arithmetic(precision, pixels.device):
            latents = self.encode(pixels.to(self.dtype), return_dict=False)[0]
            if not torch.compiler.is_compiling() and not bool(latents.isfinite().all()):
                raise InputError(
                    f"the encoder's output is not finite with {str(self.dtype)[6:]} weights and "
                    f"precision={precision!r}; half precision may overflow, or weights are damaged"
                )
            codes: Tensor = self.quantize.encode(latents)
        return codes

    @torch.no_grad()
    @apply_forward_hook
    def decode_codes(self, codes: Tensor, precision: Precision = "ieee32") -> Tensor:
        """Ids (B, h, w) or (B, h, w, Q) -> (B, 3, H, W) pixels, floats in [-1, 1]."""
        self._check_codes(codes)
        codes = codes.to(execution_device(self))
        with arithmetic(precision, codes.device):
            return self._decode_vectors(self.quantize.decode(codes)).float().clamp(-1, 1)

    # --- inside ---------------------------------------------------------------------------------

    def _check_codes(self, codes: Tensor) -> None:
        """Raises where codes are not a batch of grids; the quantizer looks at their values."""
        depth = self.quantize.depth
        if codes.ndim != 1 + len(self.stride) + bool(depth) or not codes.numel():
            raise CodesError(
                f"codes of this model have the shape (B, h, w{f', {depth}' if depth else ''}), "
                f"with at least one token; got {tuple(codes.shape)}"
            )

    def _encode(self, x: Tensor) -> Tensor:
        def latents(part: Tensor) -> Tensor:
            out: Tensor = self.quant_conv(self.encoder(part))
            return out

        return self.tiling.shrink(latents, x) if self.use_tiling else latents(x)

    def _decode_vectors(self, vectors: Tensor) -> Tensor:
        # The model's dtype, not a weight's: under layerwise casting weights are stored as float8.
        vectors = vectors.to(self.dtype)
        return self.pixels.outward(in_slices(self._decode, vectors, self.use_slicing))

    def _decode(self, vectors: Tensor) -> Tensor:
        spatial = self.config.norm_type == "spatial"

        def pixels(part: Tensor) -> Tensor:
            out: Tensor = self.decoder(self.post_quant_conv(part), part if spatial else None)
            return out

        return self.tiling.grow(pixels, vectors) if self.use_tiling else pixels(vectors)

    # --- folders ----------------------------------------------------------------------------

    def to_diffusers(self) -> Any:
        """A genuine `diffusers.VQModel` with equal weights, ids and pixels.

        Raises `ConfigError` where VQModel cannot express this model.
        """
        return stock.to_vq_model(self)

    @classmethod
    def from_diffusers(cls, model: Any) -> AutoencoderVQ:
        """This class, with the weights of a `diffusers.VQModel`."""
        return stock.from_vq_model(cls, model)

    @classmethod
    def extract_init_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """diffusers' hook between a configuration file and `__init__`."""
        foreign = {*TRANSFORMERS_KEYS, "transformers_weights"}
        config = {k: v for k, v in config_dict.items() if k not in foreign}
        if config.get("_class_name") == "VQModel":
            config = stock.defaults() | stock.TRAINING | config
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
        """Writes a folder that this class, diffusers' VQModel and transformers read."""
        size = kwargs.get("max_shard_size", "10GB")
        plan = split_torch_state_dict_into_shards(self.state_dict(), max_shard_size=size)
        self.transformers_weights = WEIGHTS + ".index.json" if plan.is_sharded else WEIGHTS
        super().save_pretrained(save_directory, **kwargs)

    def to_json_string(self) -> str:
        """The configuration file's text, with what transformers reads in it."""
        settings = json.loads(super().to_json_string()) | TRANSFORMERS_KEYS
        settings["transformers_weights"] = self.transformers_weights
        settings.pop("_name_or_path", None)  # where it was loaded from, on this machine
        return json.dumps(settings, indent=2, sort_keys=True) + "\n"


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
