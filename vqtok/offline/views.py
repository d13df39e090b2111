"""Views of one picture or clip: the crops that become rows of a data set, all from one decode.

A view is asked for by a text, such as "center", "tencrop@1.1" or "random:4@0.8-1.0". Nothing but
the sample's key, its size, the settings and the plan's seed decides what it shows, in integers, so
that it is the same on every machine and in any order.

How to add a view
-----------------
One function from the text behind its name to a `View`, and one line in `VIEWS`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from vqtok.errors import ConfigError, ImageError, UnknownNameError, did_you_mean
from vqtok.geometry import Geometry, geometry
from vqtok.pictures import Pixels
from vqtok.preprocess import Preprocess, placed
from vqtok.resize import Size

__all__ = [
    "VIEWS",
    "Box",
    "Cut",
    "Frame",
    "Made",
    "View",
    "check_views",
    "cut_frames",
    "cut_picture",
    "made_views",
    "parse_views",
    "plan_cuts",
    "view_names",
]

Box = tuple[int, int, int, int]  # top, left, height, width
CROPPING = ("center", "adm", "taming", "torchvision")  # policies whose result lies in the picture
MOST = 1000  # random views of a sample


class Frame(NamedTuple):
    """What a view is cut from, and what decides how."""

    height: int
    width: int
    settings: Preprocess
    key: str
    seed: int
    name: str  # what errors call it


class Cut(NamedTuple):
    """How one view is made of a picture, or of each frame of a clip."""

    name: str
    plan: Geometry
    part: Box  # of what the plan makes; larger than the view where several share a plan
    flip: bool = False

    @property
    def size(self) -> Size:
        """Height and width that decoding gives back."""
        return self.plan.kept if self.part[2:] == self.plan.size else self.part[2:]

    @property
    def box(self) -> Box:
        """What it shows, in the source picture's pixels: rounded outward, inside the picture."""
        top, height = self._side(0)
        left, width = self._side(1)
        return top, left, height, width

    def _side(self, axis: int) -> tuple[int, int]:
        """Start and length on one axis."""
        plan, first = self.plan, self.part[axis] - self.plan.at[axis]
        start, source = plan.box[axis], plan.box[axis + 2] - plan.box[axis]
        scaled = plan.scaled[axis]
        low = max(0, first) * source // scaled
        high = -(-min(scaled, first + self.size[axis]) * source // scaled)
        return start + low, high - low

    def of(self, whole: Pixels) -> Pixels:
        """What the plan makes of a picture (H, W, 3) -> this view of it, contiguous."""
        top, left, height, width = self.part
        view = whole[top : top + height, left : left + width]
        if not self.flip:
            return np.ascontiguousarray(view)
        kept = view[: self.size[0], : self.size[1]][:, ::-1]
        if kept.shape == view.shape:
            return np.ascontiguousarray(kept)
        # The edges of the mirror image, where decoding cuts them off.
        down, across = height - kept.shape[0], width - kept.shape[1]
        return np.pad(kept, ((0, down), (0, across), (0, 0)), "edge")


class View(NamedTuple):
    """One entry of a plan's `views`.

    text   as it was asked for
    names  of the rows that it makes of a sample, in order
    cuts   how they are made of one picture
    crops  whether it moves the crop, which takes a policy that has one
    """

    text: str
    names: tuple[str, ...]
    cuts: Callable[[Frame], list[Cut]]
    crops: bool = False

    def check(self, settings: Preprocess) -> None:
        """Raises a ConfigError where these settings cannot make this view of any picture."""
        if self.crops and settings.policy not in CROPPING:
            raise ConfigError(
                f"view {self.text!r} needs a policy with a crop of a fixed size: "
                f"{', '.join(CROPPING)}; with policy {settings.policy!r} there are the views "
                "'center' and 'hflip'"
            )
        if self.crops:
            self.cuts(Frame(*settings.sides, settings, "", 0, "the picture"))


class Made(NamedTuple):
    """One view of a picture.

    pixels  (h, w, 3) uint8, contiguous, as the encoder sees it
    box     top, left, height, width of what it shows, in the upright source picture's pixels
    flip    whether it is mirrored
    size    height and width that decoding gives back
    """

    name: str
    pixels: Pixels
    box: Box
    flip: bool
    size: Size


# --- the views ------------------------------------------------------------------------------


def _center(options: str) -> View:
    _check_bare("center", options)
    return View("center", ("center",), lambda frame: [_middle("center", frame)])


def _hflip(options: str) -> View:
    _check_bare("hflip", options)
    return View("hflip", ("hflip",), lambda frame: [_middle("hflip", frame, flip=True)])


def _tencrop(options: str) -> View:
    """As in LlamaGen and RAR: torchvision's TenCrop of the policy's picture at `size * factor`.

    Its order: top left, top right, bottom left, bottom right, middle; then these of the mirrored
    picture, whose top left is the mirrored top right. Rows are called tencrop-0 to tencrop-9, with
    another factor than 1.1 after it, as tencrop105-0.
    """
    text = f"tencrop{options}"
    factor = re.fullmatch(r"(?:@([12](?:\.\d{1,4})?))?", options)
    if factor is None or not 1 < float(factor[1] or 1.1) <= 2:
        raise ConfigError(
            f"view {text!r} is 'tencrop', or 'tencrop@F' with a factor above 1 and at most 2, "
            "such as 'tencrop@1.1'"
        )
    times = float(factor[1] or 1.1)
    stem = "tencrop" if times == 1.1 else f"tencrop{times:g}".replace(".", "")
    names = tuple(f"{stem}-{number}" for number in range(10))
    return View(text, names, lambda frame: _ten_cuts(names, text, times, frame), crops=True)


def _random(options: str) -> View:
    """Crops of the result's shape, their sides a random share of the largest such crop's.

    They lie anywhere in the picture, and every other one is mirrored. With the default shares,
    the scales are those of guided diffusion's and LlamaGen's `random_crop_arr`.
    """
    text = f"random{options}"
    number = r"(\d(?:\.\d{1,4})?)"
    found = re.fullmatch(rf":(\d{{1,4}})(?:@{number}-{number})?", options)
    low, high = (Fraction(found[2] or "0.8"), Fraction(found[3] or "1")) if found else (0, 0)
    if found is None or not 0 < low <= high <= 1 or not 1 <= int(found[1]) <= MOST:
        raise ConfigError(
            f"view {text!r} is 'random:K', K random crops, at most {MOST}, or 'random:K@LOW-HIGH' "
            "with the least and greatest share of the sides, such as 'random:4@0.8-1.0'"
        )
    names = tuple(f"random-{index}" for index in range(int(found[1])))
    shares = Fraction(low), Fraction(high)
    return View(
        text, names, lambda frame: [_drawn(name, shares, frame) for name in names], crops=True
    )


VIEWS: dict[str, Callable[[str], View]] = {
    "center": _center,
    "hflip": _hflip,
    "tencrop": _tencrop,
    "random": _random,
}

# --- what they share ------------------------------------------------------------------------


def _check_bare(name: str, options: str) -> None:
    if options:
        raise ConfigError(f"view {name!r} has no options; got {name + options!r}")


def _whole(plan: Geometry) -> Box:
    return 0, 0, *plan.size


def _middle(name: str, frame: Frame, flip: bool = False) -> Cut:
    plan = geometry(frame.height, frame.width, frame.settings, name=frame.name)
    return Cut(name, plan, _whole(plan), flip)


def _ten_cuts(names: Sequence[str], text: str, times: float, frame: Frame) -> list[Cut]:
    height, width = frame.settings.sides
    # In floats and with their rounding, as the published code has it.
    larger = int(height * times), int(width * times)
    down, across = larger[0] - height, larger[1] - width
    if min(down, across) < 1:
        raise ConfigError(
            f"view {text!r} takes crops of {height}x{width} from {larger[0]}x{larger[1]}, which "
            "leaves none; take a larger factor"
        )
    settings = frame.settings.changed(size=larger, stride=1)
    plan = geometry(frame.height, frame.width, settings, name=frame.name)
    middle = round(down / 2), round(across / 2)  # half to even, as torchvision has it
    corners = [(0, 0), (0, across), (down, 0), (down, across), middle]
    places = [(at, False) for at in corners] + [((y, across - x), True) for y, x in corners]
    return [
        Cut(name, plan, (*at, height, width), flip)
        for name, (at, flip) in zip(names, places, strict=True)
    ]


def _drawn(name: str, shares: tuple[Fraction, Fraction], frame: Frame) -> Cut:
    share, down, across, coin = _draws(frame.seed, frame.key, name)
    size, (low, high) = frame.settings.sides, shares
    largest = geometry(frame.height, frame.width, frame.settings.changed(policy="center")).box
    part = low + (high - low) * Fraction(share, (1 << 64) - 1)
    height = max(1, int((largest[2] - largest[0]) * part))
    width = max(1, int((largest[3] - largest[1]) * part))
    top = (frame.height - height + 1) * down >> 64
    left = (frame.width - width + 1) * across >> 64
    plan = Geometry((top, left, top + height, left + width), size, (0, 0), size)
    return Cut(name, plan, _whole(plan), bool(coin >> 63))


def _draws(seed: int, key: str, view: str) -> tuple[int, int, int, int]:
    """Four numbers below 2^64 for a view of a sample, whatever else is in the source."""
    text = f"{seed}\0{view}\0{key}".encode("utf-8", "surrogateescape")
    digest = hashlib.sha256(text).digest()
    a, b, c, d = (int.from_bytes(digest[at : at + 8], "big") for at in (0, 8, 16, 24))
    return a, b, c, d


# --- what a job does with them --------------------------------------------------------------


def parse_views(texts: Iterable[str]) -> list[View]:
    """Texts such as "hflip" and "random:4" -> views, whose names are unique over the list."""
    views = [_parse(text) for text in texts]
    if not views:
        raise ConfigError("a data set has at least one view, such as 'center'; got none")
    maker: dict[str, str] = {}
    for view in views:
        other = maker.get(view.names[0])
        if other is not None:
            twice = f"is there twice: {other!r}" if other == view.text else f"and {other!r}"
            raise ConfigError(
                f"view {view.text!r} {twice}; both would make rows called {view.names[0]!r}"
            )
        maker[view.names[0]] = view.text
    return views


def _parse(text: str) -> View:
    name = re.split("[:@]", text, maxsplit=1)[0]
    if name not in VIEWS:
        raise UnknownNameError(f"there is no view called {name!r}. {did_you_mean(name, VIEWS)}")
    return VIEWS[name](text[len(name) :])


def view_names(views: Iterable[View]) -> list[str]:
    """The names of all rows of one sample, in their order."""
    return [name for view in views for name in view.names]


def check_views(views: Iterable[View], settings: Preprocess) -> None:
    """Raises a ConfigError where these settings cannot make one of the views of any picture."""
    for view in views:
        view.check(settings)


def plan_cuts(
    views: Iterable[View],
    size: Size,
    settings: Preprocess,
    *,
    key: str,
    seed: int,
    name: str = "the picture",
) -> list[Cut]:
    """How all views of one picture or clip of this height and width are made, in row order.

    An `ImageError` where the settings cannot take a picture of this size.
    """
    frame = Frame(*size, settings, key, seed, name)
    return [cut for view in views for cut in view.cuts(frame)]


def cut_picture(pixels: Pixels, cuts: Sequence[Cut], settings: Preprocess) -> list[Pixels]:
    """A decoded picture (H, W, 3) uint8 -> each view's pixels; what views share is made once."""
    wholes = {plan: placed(pixels, plan, settings) for plan in {cut.plan for cut in cuts}}
    return [cut.of(wholes[cut.plan]) for cut in cuts]


def cut_frames(
    frames: Iterable[Pixels], cuts: Sequence[Cut], settings: Preprocess, *, name: str = "the clip"
) -> Iterator[list[Pixels]]:
    """The frames (H, W, 3) of one clip -> for each, every view's pixels, one frame at a time.

    All are cut alike, so a frame of another size than the first is an `ImageError`.
    """
    first: tuple[int, ...] = ()
    for number, frame in enumerate(frames):
        first = first or frame.shape
        if frame.shape != first:
            raise ImageError(
                f"frame {number} of {name} is {frame.shape[1]} wide and {frame.shape[0]} high, "
                f"the first is {first[1]} x {first[0]}; the frames of a clip have one size"
            )
        yield cut_picture(frame, cuts, settings)


def made_views(
    views: Iterable[View],
    pixels: Pixels,
    settings: Preprocess,
    *,
    key: str,
    seed: int,
    name: str = "the picture",
) -> list[Made]:
    """All views of a decoded picture (H, W, 3) uint8, in row order."""
    height, width = pixels.shape[:2]
    cuts = plan_cuts(views, (height, width), settings, key=key, seed=seed, name=name)
    shown = cut_picture(pixels, cuts, settings)
    return [
        Made(cut.name, view, cut.box, cut.flip, cut.size)
        for cut, view in zip(cuts, shown, strict=True)
    ]
