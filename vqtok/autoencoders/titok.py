"""TiTok as a diffusers model: 1-D codes."""

from __future__ import annotations

from typing import Any, ClassVar

from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from vqtok.architectures import ARCHITECTURES
from vqtok.architectures.titok import Proxy
from vqtok.autoencoders.base import AUTOENCODERS, AutoencoderBase
from vqtok.errors import CodesError, ImageError
from vqtok.strides import by

__all__ = ["AutoencoderVQTiTok", "ModelMixin"]  # the latter for diffusers' loader


@AUTOENCODERS.register("titok")
class AutoencoderVQTiTok(AutoencoderBase):
    """Pictures of one size as sequences of a fixed length: latents (B, D, L), codes (B, L).

    The settings are those of `AutoencoderBase`, and

    sample_size        the side of the pictures that it takes
    num_latent_tokens  L, the tokens of a picture
    patch_size         pixels that a patch of the encoder is wide; decoder_patch_size, of the
                       decoder, by default the same
    latent_channels    width of the encoder, before its tokens are projected to vq_embed_dim
    depth, heads       of the encoder, and of the decoder where decoder_* is None
    decoder_channels, _depth, _heads  of the decoder
    two_stage          as first published. The source trains encoder, codebook and decoder on the
                       codes of a MaskGIT-VQGAN, and then the decoder on pixels together with that
                       tokenizer's codes and convolutions: freeze encoder and codebook to do as it
                       does. The tokens of its encoder are folded (`architectures.titok.Encoder`).
                       False: a decoder of pixels, all of it trained at once
    proxy_codes, _channels, block_out_channels, layers_per_block, norm_num_groups
                       with two_stage: the codes of that tokenizer, their width, its convolutions
    """

    ENCODER_SETTINGS = (
        "depth",
        "heads",
        "in_channels",
        "num_latent_tokens",
        "patch_size",
        "pixel_mean",
        "pixel_std",
        "sample_size",
        "two_stage",
    )
    DECODER_SETTINGS = (
        "block_out_channels",
        "decoder_depth",
        "decoder_heads",
        "decoder_patch_size",
        "depth",
        "heads",
        "layers_per_block",
        "norm_num_groups",
        "num_latent_tokens",
        "out_channels",
        "patch_size",
        "pixel_mean",
        "pixel_std",
        "sample_size",
        "two_stage",
    )

    _no_split_modules: ClassVar[list[str]] = [
        "Block",
        "Residual",
        *AutoencoderBase._no_split_modules,
    ]

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        sample_size: int = 256,
        num_latent_tokens: int = 64,
        patch_size: int = 16,
        latent_channels: int = 768,
        depth: int = 12,
        heads: int = 12,
        decoder_patch_size: int | None = None,
        decoder_channels: int | None = None,
        decoder_depth: int | None = None,
        decoder_heads: int | None = None,
        two_stage: bool = False,
        proxy_codes: int = 1024,
        proxy_channels: int = 256,
        block_out_channels: tuple[int, ...] = (128, 128, 256, 256, 512),
        layers_per_block: int = 2,
        norm_num_groups: int = 32,
        num_vq_embeddings: int = 4096,
        vq_embed_dim: int | None = 12,
        scaling_factor: float = 1.0,
        shift_factor: float | None = None,
        quantizer: str = "vector",
        quantizer_args: dict[str, Any] | None = None,
        estimator: str | None = None,
        estimator_args: dict[str, Any] | None = None,
        pixel_mean: tuple[float, ...] | None = None,
        pixel_std: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__()
        proxy = Proxy(
            proxy_codes,
            proxy_channels,
            tuple(block_out_channels),
            layers_per_block,
            norm_num_groups,
        )
        net = ARCHITECTURES["titok"](
            in_channels=in_channels,
            out_channels=out_channels,
            sample_size=sample_size,
            num_latent_tokens=num_latent_tokens,
            patch_size=patch_size,
            latent_channels=latent_channels,
            depth=depth,
            heads=heads,
            decoder_patch_size=patch_size if decoder_patch_size is None else decoder_patch_size,
            decoder_channels=self._decoder_width(),
            decoder_depth=depth if decoder_depth is None else decoder_depth,
            decoder_heads=heads if decoder_heads is None else decoder_heads,
            proxy=proxy if two_stage else None,
        )
        self._assemble(net)

    @property
    def last_layer(self) -> nn.Parameter:
        """See `AutoencoderBase.last_layer`."""
        head = "head.to_pixels" if self.config.two_stage else "head"
        return self.decoder.get_parameter(f"{head}.conv_out.weight")

    @property
    def only_size(self) -> tuple[int, int]:
        """See `AutoencoderBase.only_size`."""
        return (self.config.sample_size,) * 2

    def grid_of(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """See `AutoencoderBase.grid_of`: there is one size, and its grid is (L,)."""
        if tuple(size) != self.probe_size():
            raise ImageError(f"the sides of a picture are {by(self.probe_size())}; got {by(size)}")
        return (self.config.num_latent_tokens,)

    def size_of(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        """See `AutoencoderBase.size_of`."""
        length = self.config.num_latent_tokens
        if tuple(grid) != (length,):
            raise CodesError(f"a picture has {length} tokens of this model; got {by(grid)}")
        return self.probe_size()

    def probe_size(self) -> tuple[int, ...]:
        """See `AutoencoderBase.probe_size`."""
        return (self.config.sample_size,) * 2

    def _decoder_width(self) -> int:
        own: int | None = self.config.decoder_channels
        width: int = self.config.latent_channels if own is None else own
        return width

    def _latents(self, pixels: Tensor) -> Tensor:
        self.grid_of(tuple(pixels.shape[2:]))
        return super()._latents(pixels)

    def _before_codes(self, width: int, dim: int) -> nn.Module:
        return nn.Conv1d(width, dim, 1)

    def _after_codes(self, dim: int, width: int) -> nn.Module:
        return nn.Conv1d(dim, self._decoder_width(), 1)

    def _check_codes(self, codes: Tensor) -> None:
        super()._check_codes(codes)
        self.size_of(tuple(codes.shape[1:2]))

    # A picture is one tile, whatever its tokens are.

    def _encode(self, x: Tensor) -> Tensor:
        return self._latents(x)

    def _decode(self, vectors: Tensor) -> Tensor:
        return self._pixels(vectors)
