"""The one way from a picture or clip to pixels on the grid, for all who need them.

`load_image` makes RGB of any source; a `Preprocess` says how that becomes the (h, w, 3) uint8
which the encoder sees: what part of the picture, resized by which implementation, laid where.
A few percent of the ids change with the filter alone, so an implementation that gives other
bytes has another name. Nothing is normalised here; the model does that itself. All frames of a clip
are treated alike.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from vqtok.errors import ConfigError, ImageError, LoadError, UnknownNameError, did_you_mean
from vqtok.geometry import POLICIES, Geometry, fit, geometry
from vqtok.pictures import (
    MAX_PIXELS,
    MAX_SIDE,
    WHITE,
    ImageSource,
    Pixels,
    load_image,
    name_of,
    probe_pictures,
)
from vqtok.resize import RESIZERS, Size

__all__ = [
    "CONFIG_NAME",
    "RESIZERS",
    "UNSIZED",
    "Geometry",
    "Prepared",
    "Preprocess",
    "fit",
    "geometry",
    "load_image",
    "parse_size",
    "placed",
    "prepare",
    "preprocess",
    "preprocess_frames",
    "probe_pixels",
]

CONFIG_NAME = "preprocessor_config.json"
UNSIZED = ("native", "extend")  # policies that leave each picture its own size
_FOREIGN_KEYS = ("image_processor_type", "processor_class")  # transformers' own, in the same file

Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]
Byte = Annotated[int, Field(ge=0, le=255)]

# name -> policy, resize
_PRESETS: dict[str, tuple[Literal["adm", "taming", "torchvision"], str]] = {
    "adm": ("adm", "adm-box-bicubic"),
    "taming": ("taming", "opencv-u8-bilinear"),
    "torchvision": ("torchvision", "pillow-bilinear"),
}


class Preprocess(BaseModel):
    """How a picture becomes pixels on the grid. Frozen; a setting that cannot be is a ConfigError.

    policy      center   the largest box of the size's shape in the middle, resized to `size`
                stretch  the whole picture, resized to `size`
                pad      the whole picture, resized to fit into `size`, `background` around it
                native   the picture's own size, cut in the middle to a multiple of `stride`
                extend   the picture's own size, its right and bottom edges repeated up to a
                         multiple of `stride`; decoding cuts them off again
                adm, taming, torchvision  as published; take `Preprocess.preset`
    size        (height, width), or one number for a square; None with native and extend
    stride      pixels that one grid cell is wide and high; both sides come out as multiples of it
    resize      a name of `RESIZERS`
    background  RGB under transparent pixels and around padded pictures
    max_pixels  a picture with more is refused before it is decoded
    max_area    native and extend only: a picture with more pixels is shrunk to fit, keeping its
                shape; what extend adds does not count
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    policy: Literal[
        "center", "stretch", "pad", "native", "extend", "adm", "taming", "torchvision"
    ] = "center"
    size: Side | tuple[Side, Side] | None = Field(
        default=None, description=f"a whole number from 1 to {MAX_SIDE}, or (height, width) of such"
    )
    stride: int = Field(default=1, ge=1, le=1024, description="a whole number from 1 to 1024")
    resize: str = Field(
        default="torch-u8-bicubic", description="the name of a resize implementation"
    )
    background: tuple[Byte, Byte, Byte] = Field(
        default=WHITE, description="three whole numbers from 0 to 255"
    )
    max_pixels: int = Field(
        default=MAX_PIXELS,
        ge=1,
        le=MAX_PIXELS,
        description=f"a whole number from 1 to {MAX_PIXELS}",
    )
    max_area: int | None = Field(default=None, ge=1, description="a whole number of pixels")

    if not TYPE_CHECKING:  # type checkers know the fields; this only words the errors

        def __init__(self, **settings: Any) -> None:
            try:
                super().__init__(**settings)
            except ValidationError as error:
                raise ConfigError(_sentence(error, settings)) from None

    @field_validator("size", "background", mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        """JSON has lists only, and (256, 256) is the same setting as 256."""
        if isinstance(value, list):
            value = tuple(value)
        if isinstance(value, tuple) and len(value) == 2 and value[0] == value[1]:
            return value[0]
        return value

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if self.resize not in RESIZERS:
            raise ConfigError(
                f"there is no resize called {self.resize!r}. {did_you_mean(self.resize, RESIZERS)}"
            )
        if self.keeps_size:
            self._check_unsized()
        else:
            self._check_sized()
        return self

    def _check_unsized(self) -> None:
        if self.size is not None:
            raise ConfigError(
                f"policy {self.policy!r} keeps each picture's own size; leave out size={self.size}"
            )
        if self.max_area is not None and self.max_area < 4 * self.stride**2:
            raise ConfigError(
                f"max_area={self.max_area} leaves no room for 2 x 2 cells of stride {self.stride}; "
                f"it must be at least {4 * self.stride**2}"
            )

    def _check_sized(self) -> None:
        if self.max_area is not None:
            raise ConfigError(
                f"max_area is for policy 'native' or 'extend'; with policy {self.policy!r} the "
                "size is fixed"
            )
        if self.size is None:
            raise ConfigError(f"policy {self.policy!r} needs a size, such as size=256")
        if self.policy in _PRESETS and not isinstance(self.size, int):
            raise ConfigError(f"policy {self.policy!r} makes squares; got size={self.size}")
        if any(side % self.stride for side in self.sides):
            raise ConfigError(f"size={self.size} is not a multiple of the stride, {self.stride}")

    @property
    def keeps_size(self) -> bool:
        """Whether each picture keeps its own size, so that results differ in theirs."""
        return self.policy in UNSIZED

    @property
    def sides(self) -> Size:
        """Height and width of every result; an error where pictures keep their own size."""
        if self.size is None:
            raise ConfigError(f"policy {self.policy!r} fixes no size; ask `fit` about one picture")
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    @classmethod
    def preset(cls, name: str, size: int, stride: int = 1) -> Self:
        """The preprocessing that published checkpoints were trained and measured with.

        adm          guided diffusion's `center_crop_arr`, also in DiT, LlamaGen, RAR and others:
                     halving by box means, Pillow's bicubic to the short side, centre crop
        taming       taming-transformers' and LDM's: OpenCV's bilinear to the short side (not
                     antialiased, so big photos come out grainy), centre crop; needs no OpenCV
        torchvision  its Resize(size) and CenterCrop(size) of Pillow's pictures: by default
                     Pillow's bilinear, or another of its filters by `resize`; the long side
                     loses its fraction, and the crop is rounded as torchvision does it
        """
        if name not in _PRESETS:
            raise UnknownNameError(
                f"there is no preprocessing preset called {name!r}. {did_you_mean(name, _PRESETS)}"
            )
        policy, resize = _PRESETS[name]
        return cls(policy=policy, size=size, stride=stride, resize=resize)

    def changed(self, **changes: Any) -> Self:
        """A copy with other settings, checked like new ones.

        Another policy leaves out what it has no use for: a size where pictures keep their own,
        max_area where the size is fixed.
        """
        kept = self.model_dump(exclude_unset=True)
        if "policy" in changes:
            kept.pop("size" if changes["policy"] in UNSIZED else "max_area", None)
        elif self.keeps_size and changes.get("size") is not None:
            raise ConfigError(
                f"policy {self.policy!r} keeps each picture's own size; with size="
                f"{changes['size']!r} say how to bring them to it: policy='center', 'stretch' or "
                "'pad'"
            )
        return type(self)(**{**kept, **changes})

    def chosen(
        self, size: int | tuple[int, int] | None = None, policy: str | None = None
    ) -> dict[str, Any]:
        """What `changed` takes for another size or policy; a published one brings its resize."""
        changes: dict[str, Any] = {} if size is None else {"size": size}
        if policy is not None:
            changes["policy"] = policy
        if policy in _PRESETS and policy != self.policy:
            changes["resize"] = _PRESETS[policy][1]
        return changes

    def identity(self) -> dict[str, Any]:
        """What changes pixels and is not the default, as JSON has it; a fingerprint hashes this."""
        unused = {"max_pixels"}
        if not self.keeps_size:
            unused.add("stride")
        elif self.max_area is None:
            unused.add("resize")
        return self.model_dump(mode="json", exclude_defaults=True, exclude=unused)

    def to_config(self) -> dict[str, Any]:
        """Every setting, and the key by which transformers' AutoImageProcessor finds its class."""
        return {"image_processor_type": "VQTokImageProcessor", **self.model_dump(mode="json")}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The inverse of `to_config`; an unknown key is an error."""
        return cls(**{key: config[key] for key in config if key not in _FOREIGN_KEYS})

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Writes preprocessor_config.json into a folder that exists, and returns its path."""
        path = Path(folder) / CONFIG_NAME
        path.write_text(json.dumps(self.to_config(), indent=2) + "\n", encoding="utf-8")
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """From a file, or from the preprocessor_config.json of a folder."""
        file = Path(path) / CONFIG_NAME if Path(path).is_dir() else Path(path)
        try:
            config = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise LoadError(f"there is no file '{file}'") from None
        except (OSError, ValueError) as error:
            raise LoadError(f"'{file}' is not a JSON file that can be read: {error}") from error
        if not isinstance(config, dict):
            raise LoadError(f"'{file}' holds a {type(config).__name__}; settings are an object")
        try:
            return cls.from_config(config)
        except ConfigError as error:
            raise ConfigError(f"'{file}': {error}") from None


def _sentence(error: ValidationError, settings: Mapping[str, Any]) -> str:
    """The first of pydantic's complaints, in our words."""
    first = error.errors()[0]
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    name = str(first["loc"][0])
    fields = Preprocess.model_fields
    if name not in fields:
        return f"preprocessing has no setting {name!r}. {did_you_mean(name, fields)}"
    value = settings[name]
    if name == "policy":
        return f"there is no policy called {value!r}. {did_you_mean(str(value), POLICIES)}"
    return f"{name}={value!r} is not {fields[name].description}"


class Prepared(NamedTuple):
    """A picture as the encoder sees it.

    pixels  (h, w, 3) uint8 on the grid
    size    height and width of what decoding gives back: less than that of `pixels` where the
            policy is extend
    """

    pixels: Pixels
    size: Size


def parse_size(text: str, what: str = "--size") -> int | tuple[int, int]:
    """ "256" or "256x384" (height first); `what` is what errors call it."""
    match = re.fullmatch(r"([0-9]{1,6})(?:x([0-9]{1,6}))?", text)
    if match is None:
        raise ConfigError(f"{what} is a number, or HEIGHTxWIDTH such as 256x384; got {text!r}")
    height, width = match.groups()
    return (int(height), int(width)) if width else int(height)


def preprocess(source: ImageSource, settings: Preprocess, *, name: str | None = None) -> Pixels:
    """Any picture -> (h, w, 3) uint8 on the grid; sources and `name` as `load_image` has them."""
    return prepare(source, settings, name=name).pixels


def prepare(source: ImageSource, settings: Preprocess, *, name: str | None = None) -> Prepared:
    """`preprocess`, and the size that the picture comes back with."""
    name = name or name_of(source)
    pixels = load_image(
        source, background=settings.background, max_pixels=settings.max_pixels, name=name
    )
    plan = geometry(pixels.shape[0], pixels.shape[1], settings, name=name)
    return Prepared(placed(pixels, plan, settings), plan.kept)


def preprocess_frames(
    frames: Iterable[ImageSource], settings: Preprocess, *, name: str = "the clip"
) -> Iterator[Pixels]:
    """The frames of one clip -> (h, w, 3) uint8 each, one at a time.

    The first frame's size says what becomes of them all (`geometry` tells, and what comes back); a
    frame of another size is an `ImageError`. `name` is what errors call the clip.
    """
    plan, size = None, tuple[int, ...]()
    for number, frame in enumerate(frames):
        pixels = load_image(
            frame,
            background=settings.background,
            max_pixels=settings.max_pixels,
            name=f"frame {number} of {name}",
        )
        if plan is None:
            size = pixels.shape
            plan = geometry(pixels.shape[0], pixels.shape[1], settings, name=name)
        elif pixels.shape != size:
            raise ImageError(
                f"frame {number} of {name} is {pixels.shape[1]} wide and {pixels.shape[0]} high, "
                f"the first is {size[1]} x {size[0]}; the frames of a clip have one size"
            )
        yield placed(pixels, plan, settings)


def placed(pixels: Pixels, plan: Geometry, settings: Preprocess) -> Pixels:
    """A picture's pixels (H, W, 3) uint8 where the plan has them; contiguous."""
    top, left, bottom, right = plan.box
    part = pixels[top:bottom, left:right]
    if part.shape[:2] != plan.scaled:
        part = RESIZERS[settings.resize](part, plan.scaled)
    return _lay(part, plan, settings.background)


def _lay(part: Pixels, plan: Geometry, background: tuple[int, int, int]) -> Pixels:
    """The resized part on its place in a result of the planned size."""
    if plan.scaled == plan.size:
        return np.ascontiguousarray(part)
    (top, left), (height, width) = plan.at, plan.scaled
    if plan.edges:
        return np.pad(part, ((0, plan.size[0] - height), (0, plan.size[1] - width), (0, 0)), "edge")
    result = np.empty((*plan.size, 3), np.uint8)
    result[:] = background
    seen = result[max(top, 0) : top + height, max(left, 0) : left + width]
    down, across = max(-top, 0), max(-left, 0)
    seen[:] = part[down : down + seen.shape[0], across : across + seen.shape[1]]
    return result


def probe_pixels(settings: Preprocess) -> list[Pixels]:
    """The built-in test pictures through these settings: what a fingerprint hashes and checks.

    The limits are lowered or lifted so that every picture gets through and is really resized.
    """
    area = settings.max_area and min(settings.max_area, max(1024, 4 * settings.stride**2))
    probing = settings.model_copy(update={"max_pixels": MAX_PIXELS, "max_area": area})
    pictures = probe_pictures(settings.stride)
    return [preprocess(pictures[name], probing, name=name) for name in pictures]
