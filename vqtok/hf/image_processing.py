"""vqtok's one preprocessing rule behind transformers' image processors, both backends."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any, TypedDict

import numpy as np
import torch
from transformers import BatchFeature
from transformers.image_processing_backends import PilBackend, TorchvisionBackend

from vqtok.errors import ConfigError, InputError
from vqtok.metrics.pixels import from_uint8
from vqtok.pictures import Pixels
from vqtok.preprocess import Preprocess, preprocess
from vqtok.sequences import as_list, named

__all__ = ["VQTokImageProcessor", "VQTokImageProcessorKwargs", "VQTokImageProcessorPil"]


class VQTokImageProcessorKwargs(TypedDict, total=False):
    """The settings of `Preprocess`, and what any image processor is called with."""

    policy: str
    size: Any
    stride: int
    resize: str
    background: Any
    max_pixels: int
    max_area: int | None
    do_convert_rgb: bool | None
    device: Any
    return_tensors: Any


class _OneRule:
    """What both backends do: hand pictures as they come to `vqtok.preprocess`.

    Neither backend's own resizing is used, so both make the same pixels, and those of
    `VisualTokenizer`: floats in [-1, 1] of which `VQTokModel` makes the same ids.
    """

    model_input_names = ("pixel_values",)
    valid_kwargs = VQTokImageProcessorKwargs
    # A picture keeps its size where nobody saved another rule; most strides divide 16.
    policy = "native"
    size = None
    stride = 16
    resize = Preprocess.model_fields["resize"].default
    background = Preprocess.model_fields["background"].default
    max_pixels = Preprocess.model_fields["max_pixels"].default
    max_area = None
    do_convert_rgb = True
    backend: str

    def __init__(self, **kwargs: Any) -> None:
        settings = {**self._defaults(), **kwargs}
        settings.pop("do_convert_rgb", None)
        checked = Preprocess.from_config(_with_plain_size(settings))
        super().__init__(**{**kwargs, **checked.model_dump()})

    @classmethod
    def _defaults(cls) -> dict[str, Any]:
        return {name: getattr(cls, name) for name in Preprocess.model_fields}

    def to_dict(self) -> dict[str, Any]:
        """What preprocessor_config.json holds, the same for both backends."""
        return self._rule({}).to_config()

    def _rule(self, changes: Mapping[str, Any]) -> Preprocess:
        settings = {name: getattr(self, name) for name in Preprocess.model_fields}
        given = {name: changes[name] for name in settings if name in changes}
        return Preprocess(**_with_plain_size({**settings, **given}))

    def _standardize_kwargs(self, **kwargs: Any) -> dict[str, Any]:
        return kwargs

    def _validate_preprocess_kwargs(self, **kwargs: Any) -> None:
        """Nothing: `Preprocess` checks its settings itself."""

    def _preprocess_image_like_inputs(self, images: Any, **kwargs: Any) -> BatchFeature:
        if kwargs.get("do_convert_rgb") is False:
            raise ConfigError("do_convert_rgb=False: vqtok makes RGB of every picture")
        rule = self._rule(kwargs)
        pixels = [preprocess(source, rule, name=name) for source, name in named(_flat(images))]
        tensors, device = kwargs.get("return_tensors"), kwargs.get("device")
        values = [self._value(picture) for picture in pixels]
        sizes = {tuple(value.shape[1:]) for value in values}
        if tensors is not None and len(sizes) > 1:
            raise InputError(
                f"pictures of the sizes {sorted(sizes)} make no one tensor: leave out "
                f"return_tensors, or choose a policy other than {rule.policy!r}"
            )
        batch = BatchFeature({"pixel_values": values}, tensor_type=tensors)
        return batch if device is None or tensors is None else batch.to(device)

    def _value(self, pixels: Pixels) -> Any:
        """(H, W, 3) uint8 -> (3, H, W) in [-1, 1]."""
        value = from_uint8(torch.from_numpy(pixels)).permute(2, 0, 1)
        return value.contiguous() if self.backend == "torchvision" else value.numpy()


class VQTokImageProcessor(_OneRule, TorchvisionBackend):
    """`vqtok.preprocess` as transformers' default kind of image processor."""


class VQTokImageProcessorPil(_OneRule, PilBackend):
    """`vqtok.preprocess` as transformers' image processor for machines without torchvision."""


def _flat(images: Any) -> list[Any]:
    """One picture, a list, or a list of lists as conversations have them."""
    sources = as_list(images)
    if any(isinstance(source, (list, tuple)) for source in sources):
        sources = list(chain.from_iterable(map(as_list, sources)))
    return [_channels_last(source) for source in sources]


def _channels_last(source: Any) -> Any:
    """transformers' users have arrays with the channels first, which `load_image` takes not."""
    if isinstance(source, np.ndarray) and source.ndim == 3:
        first, last = source.shape[0] in (1, 3, 4), source.shape[-1] in (1, 3, 4)
        return np.moveaxis(source, 0, -1) if first and not last else source
    return source


def _with_plain_size(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with a size as other image processors have it -> as `Preprocess` has it."""
    size = settings.get("size")
    if isinstance(size, Mapping) and set(size) == {"height", "width"}:
        return {**settings, "size": (size["height"], size["width"])}
    return settings
