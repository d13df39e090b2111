from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vqtok.errors import ConfigError, ImageError, UnknownNameError
from vqtok.offline.views import (
    VIEWS,
    Made,
    check_views,
    cut_frames,
    cut_picture,
    made_views,
    parse_views,
    plan_cuts,
    view_names,
)
from vqtok.preprocess import Preprocess, prepare
from vqtok.resize import RESIZERS

SETTINGS = [
    Preprocess(size=16, stride=4),
    Preprocess(size=(16, 24), stride=8),
    Preprocess(policy="stretch", size=(16, 24), stride=4),
    Preprocess(policy="pad", size=17),
    Preprocess(policy="native", stride=4),
    Preprocess(policy="native", stride=4, max_area=300),
    Preprocess(policy="extend", stride=4),
    Preprocess(policy="extend", stride=4, max_area=300),
    Preprocess.preset("adm", 16, 4),
    Preprocess.preset("taming", 16, 4),
    Preprocess.preset("torchvision", 17),
]
CROPPING = [s for s in SETTINGS if s.policy in ("center", "adm", "taming", "torchvision")]
ALL = ["center", "hflip", "tencrop", "tencrop@1.25", "random:3"]

sides = st.integers(4, 90)
keys = st.text(st.characters(exclude_categories=("Cs",)), max_size=9)
# Of random:3 for the key "a" and seed 7: boxes in a picture of 480 x 640, and flips.
RECORDED = [((9, 90, 471, 471), False), ((48, 72, 386, 386), True), ((5, 21, 475, 475), True)]


def picture(height: int = 45, width: int = 61, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def views_of(
    texts: list[str], pixels: np.ndarray, settings: Preprocess, key: str = "a", seed: int = 0
) -> dict[str, Made]:
    made = made_views(parse_views(texts), pixels, settings, key=key, seed=seed)
    return {view.name: view for view in made}


# --- what is asked for ------------------------------------------------------------------------


def test_names_are_those_of_the_rows_in_order() -> None:
    views = parse_views(ALL)
    assert [view.text for view in views] == ALL
    ten = [f"tencrop-{n}" for n in range(10)] + [f"tencrop125-{n}" for n in range(10)]
    expected = ["center", "hflip", *ten, "random-0", "random-1", "random-2"]
    assert view_names(views) == expected
    cuts = plan_cuts(views, (40, 40), SETTINGS[0], key="a", seed=0)
    assert [cut.name for cut in cuts] == expected


def test_tencrop_is_tencrop_at_the_published_factor() -> None:
    assert view_names(parse_views(["tencrop@1.1"])) == view_names(parse_views(["tencrop"]))


RANDOM = (
    "is 'random:K', K random crops, at most 1000, or 'random:K@LOW-HIGH' with the least and "
    "greatest share of the sides, such as 'random:4@0.8-1.0'"
)
TEN = "is 'tencrop', or 'tencrop@F' with a factor above 1 and at most 2, such as 'tencrop@1.1'"


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "a data set has at least one view, such as 'center'; got none"),
        (["center:2"], "view 'center' has no options; got 'center:2'"),
        (["hflip@1"], "view 'hflip' has no options; got 'hflip@1'"),
        (["tencrop@1"], f"view 'tencrop@1' {TEN}"),
        (["tencrop@2.1"], f"view 'tencrop@2.1' {TEN}"),
        (["tencrop:3"], f"view 'tencrop:3' {TEN}"),
        (["random"], f"view 'random' {RANDOM}"),
        (["random:0"], f"view 'random:0' {RANDOM}"),
        (["random:1001"], f"view 'random:1001' {RANDOM}"),
        (["random:2@0.9-0.8"], f"view 'random:2@0.9-0.8' {RANDOM}"),
        (["random:2@0-1"], f"view 'random:2@0-1' {RANDOM}"),
        (["random:2@0.5-1.5"], f"view 'random:2@0.5-1.5' {RANDOM}"),
        (
            ["center", "hflip", "center"],
            "view 'center' is there twice: 'center'; both would make rows called 'center'",
        ),
        (
            ["random:2", "random:1@0.5-1"],
            "view 'random:1@0.5-1' and 'random:2'; both would make rows called 'random-0'",
        ),
        (
            ["tencrop", "tencrop@1.10"],
            "view 'tencrop@1.10' and 'tencrop'; both would make rows called 'tencrop-0'",
        ),
    ],
)
def test_what_cannot_be_asked_for(texts: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_views(texts)
    assert str(error.value) == message


def test_an_unknown_view_is_named() -> None:
    with pytest.raises(UnknownNameError) as error:
        parse_views(["centre@2"])
    assert str(error.value) == (
        "there is no view called 'centre'. Did you mean 'center'? Known: center, hflip, random, "
        "tencrop."
    )


@pytest.mark.parametrize("policy", ["native", "extend", "pad", "stretch"])
@pytest.mark.parametrize("text", ["tencrop", "random:2"])
def test_a_crop_needs_a_policy_that_has_one(policy: str, text: str) -> None:
    settings = next(s for s in SETTINGS if s.policy == policy)
    with pytest.raises(ConfigError) as error:
        check_views(parse_views(["center", text]), settings)
    assert str(error.value) == (
        f"view {text!r} needs a policy with a crop of a fixed size: center, adm, taming, "
        f"torchvision; with policy {policy!r} there are the views 'center' and 'hflip'"
    )


def test_a_factor_must_leave_room() -> None:
    with pytest.raises(ConfigError) as error:
        check_views(parse_views(["tencrop"]), Preprocess(size=(8, 24), stride=8))
    assert str(error.value) == (
        "view 'tencrop' takes crops of 8x24 from 8x26, which leaves none; take a larger factor"
    )


@pytest.mark.parametrize("settings", CROPPING)
def test_policies_with_a_crop_make_all_views(settings: Preprocess) -> None:
    check_views(parse_views(ALL), settings)


def test_every_registered_view_can_be_asked_for() -> None:
    assert sorted({text.split("@")[0].split(":")[0] for text in ALL}) == sorted(VIEWS)


# --- what they show ---------------------------------------------------------------------------


@pytest.mark.parametrize("settings", SETTINGS)
def test_center_is_what_the_tokenizer_sees(settings: Preprocess) -> None:
    pixels = picture()
    view = views_of(["center"], pixels, settings)["center"]
    expected = prepare(pixels, settings)
    assert np.array_equal(view.pixels, expected.pixels)
    assert view.size == expected.size
    assert not view.flip


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("width", [61, 62])
def test_hflip_is_its_mirror_image(settings: Preprocess, width: int) -> None:
    made = views_of(["center", "hflip"], picture(width=width), settings)
    center, hflip = made["center"], made["hflip"]
    assert (hflip.flip, hflip.size, hflip.box) == (True, center.size, center.box)
    height, width = center.size
    shown = hflip.pixels[:height, :width]
    assert np.array_equal(shown, center.pixels[:height, :width][:, ::-1])
    # What is added below and to the right repeats the edges, here as in `center`.
    below, beside = hflip.pixels.shape[0] - height, hflip.pixels.shape[1] - width
    padded = np.pad(shown, ((0, below), (0, beside), (0, 0)), "edge")
    assert np.array_equal(hflip.pixels, padded)


def torchvisions_ten(picture: np.ndarray, height: int, width: int) -> list[np.ndarray]:
    """TenCrop as torchvision documents it: five crops, then five of the mirrored picture."""
    crops = []
    for seen in (picture, picture[:, ::-1]):
        down, across = seen.shape[0] - height, seen.shape[1] - width
        for top, left in [(0, 0), (0, across), (down, 0), (down, across)]:
            crops.append(seen[top : top + height, left : left + width])
        top, left = round(down / 2.0), round(across / 2.0)
        crops.append(seen[top : top + height, left : left + width])
    return crops


def adms_crop(pixels: np.ndarray, size: int) -> np.ndarray:
    """Guided diffusion's center_crop_arr, by way of the resize that tests hold equal to it."""
    height, width = pixels.shape[:2]
    half = height, width
    while min(half) >= 2 * size:
        half = half[0] // 2, half[1] // 2
    scale = size / min(half)
    scaled = RESIZERS["adm-box-bicubic"](pixels, (round(half[0] * scale), round(half[1] * scale)))
    top, left = (scaled.shape[0] - size) // 2, (scaled.shape[1] - size) // 2
    return scaled[top : top + size, left : left + size]


@pytest.mark.parametrize("factor", ["1.1", "1.05", "1.17", "1.25"])
@pytest.mark.parametrize("size", [40, 32])
def test_tencrop_is_the_published_one(factor: str, size: int) -> None:
    pixels = picture(90, 131)
    made = views_of([f"tencrop@{factor}"], pixels, Preprocess.preset("adm", size, 8))
    larger = adms_crop(pixels, int(size * float(factor)))
    for view, expected in zip(made.values(), torchvisions_ten(larger, size, size), strict=True):
        assert np.array_equal(view.pixels, expected), view.name
    assert [view.flip for view in made.values()] == [False] * 5 + [True] * 5


def test_a_mirrored_corner_shows_the_other_corner() -> None:
    made = views_of(["tencrop"], picture(100, 140), Preprocess(size=50))
    assert made["tencrop-0"].box == (0, 20, 91, 91)
    assert made["tencrop-5"].box == made["tencrop-1"].box == (0, 29, 91, 91)
    assert np.array_equal(made["tencrop-5"].pixels, made["tencrop-1"].pixels[:, ::-1])


def test_crops_of_other_shapes_have_theirs() -> None:
    made = views_of(["tencrop", "random:2"], picture(100, 140), Preprocess(size=(32, 48), stride=8))
    assert {view.pixels.shape for view in made.values()} == {(32, 48, 3)}
    assert {view.size for view in made.values()} == {(32, 48)}


# --- random crops -----------------------------------------------------------------------------


def boxes(text: str, size: tuple[int, int], settings: Preprocess, key: str = "a") -> list:
    cuts = plan_cuts(parse_views([text]), size, settings, key=key, seed=7)
    return [(cut.box, cut.flip) for cut in cuts]


def test_random_views_are_these_on_every_machine() -> None:
    assert boxes("random:3", (480, 640), Preprocess(size=256)) == RECORDED
    assert boxes("random:3", (480, 640), Preprocess(size=256), "b") != RECORDED


def test_one_more_random_view_changes_no_other() -> None:
    settings = Preprocess(size=(32, 48))
    assert boxes("random:8", (99, 70), settings)[:3] == boxes("random:3", (99, 70), settings)


@given(sides, sides, keys, st.sampled_from(["0.8-1.0", "0.25-0.5", "1-1"]))
def test_random_crops_lie_in_the_picture(height: int, width: int, key: str, share: str) -> None:
    settings = Preprocess(size=(16, 24))
    low, high = (float(part) for part in share.split("-"))
    whole = plan_cuts(parse_views(["center"]), (height, width), settings, key=key, seed=0)[0].box
    for (top, left, tall, wide), _ in boxes(f"random:4@{share}", (height, width), settings, key):
        assert 0 <= top <= height - tall and 0 <= left <= width - wide
        for side, most in ((tall, whole[2]), (wide, whole[3])):
            assert max(1, int(low * most)) <= side <= max(1, round(high * most))


def test_random_crops_go_everywhere() -> None:
    settings = Preprocess(size=16)
    found = boxes("random:400@0.5-1.0", (100, 200), settings)
    tops, lefts = ([box[axis] for box, _ in found] for axis in (0, 1))
    shares = [box[2] / 100 for box, _ in found]
    assert min(tops) == 0 and max(tops) > 45 and min(lefts) < 3 and max(lefts) > 130
    assert min(shares) < 0.52 and max(shares) > 0.98 and abs(np.mean(shares) - 0.75) < 0.02
    assert abs(np.mean([flip for _, flip in found]) - 0.5) < 0.08


@pytest.mark.parametrize("settings", CROPPING)
def test_a_random_crop_is_its_box_resized(settings: Preprocess) -> None:
    pixels = picture(90, 131)
    for name, view in views_of(["random:3"], pixels, settings).items():
        top, left, height, width = view.box
        part = pixels[top : top + height, left : left + width]
        expected = RESIZERS[settings.resize](part, settings.sides)
        assert np.array_equal(view.pixels, expected[:, ::-1] if view.flip else expected), name


# --- laws -------------------------------------------------------------------------------------


@given(sides, sides, keys, st.sampled_from(SETTINGS), st.integers(0, 9))
def test_every_view_is_on_the_grid_and_in_the_picture(
    height: int, width: int, key: str, settings: Preprocess, seed: int
) -> None:
    texts = ALL if settings in CROPPING else ["center", "hflip"]
    cuts = plan_cuts(parse_views(texts), (height, width), settings, key=key, seed=seed)
    for cut, view in zip(cuts, cut_picture(picture(height, width), cuts, settings), strict=True):
        top, left, tall, wide = cut.box
        assert min(tall, wide) > 0 and min(top, left) >= 0
        assert top + tall <= height and left + wide <= width
        assert view.dtype == np.uint8 and view.flags.c_contiguous and view.shape[2] == 3
        assert not any(side % settings.stride for side in view.shape[:2])
        assert all(kept <= side for kept, side in zip(cut.size, view.shape[:2], strict=True))


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_view_shows_its_box_and_nothing_else(settings: Preprocess) -> None:
    """What lies outside a box may change, but for what the resize of the whole picture mixes in."""
    texts = ["center", "hflip", *(["tencrop", "random:2"] if settings in CROPPING else [])]
    height, width = 120, 170
    y, x = np.mgrid[:height, :width]
    place = np.stack([y * 2, x * 3 // 2, 0 * x], -1).clip(0, 255).astype(np.uint8)
    for view in views_of(texts, place, settings).values():
        top, left, tall, wide = view.box
        seen = view.pixels[: view.size[0], : view.size[1]].astype(int)
        seen = seen[:, ::-1] if view.flip else seen
        if settings.policy == "pad":
            rows = (seen[..., 2] == 0).any(1)
            seen = seen[rows]
        down, across = tall / seen.shape[0], wide / seen.shape[1]
        assert abs(seen[0, :, 0] - 2 * top).max() <= 4 * down + 4
        assert abs(seen[-1, :, 0] - 2 * (top + tall)).max() <= 4 * down + 4
        assert abs(seen[:, 0, 1] - 1.5 * left).max() <= 3 * across + 4
        assert abs(seen[:, -1, 1] - 1.5 * (left + wide)).max() <= 3 * across + 4


def test_views_of_an_upright_picture_of_a_turned_file() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(picture(40, 80)).save(file, "PNG", exif=exif)
    from vqtok.pictures import load_image

    pixels = load_image(file.getvalue())
    assert views_of(["center"], pixels, Preprocess(size=40))["center"].box == (20, 0, 40, 40)


# --- one decode, one resize -------------------------------------------------------------------


def test_what_views_share_is_resized_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    resize = RESIZERS["torch-u8-bicubic"]
    monkeypatch.setitem(
        RESIZERS, "torch-u8-bicubic", lambda *given: calls.append(1) or resize(*given)
    )
    views_of(["center", "hflip", "tencrop", "random:2"], picture(), Preprocess(size=20))
    assert len(calls) == 4


# --- clips ------------------------------------------------------------------------------------


def test_all_frames_of_a_clip_are_cut_alike() -> None:
    settings = Preprocess(size=16)
    frames = [picture(seed=seed) for seed in range(3)]
    cuts = plan_cuts(parse_views(ALL), (45, 61), settings, key="a", seed=3)
    for frame, views in zip(frames, cut_frames(iter(frames), cuts, settings), strict=True):
        alone = views_of(ALL, frame, settings, seed=3).values()
        assert all(np.array_equal(a, b.pixels) for a, b in zip(views, alone, strict=True))


def test_frames_come_one_at_a_time() -> None:
    taken = []

    def frames():
        for number in range(5):
            taken.append(number)
            yield picture()

    cuts = plan_cuts(parse_views(["center"]), (45, 61), SETTINGS[0], key="a", seed=0)
    next(cut_frames(frames(), cuts, SETTINGS[0]))
    assert taken == [0]


def test_a_frame_of_another_size_is_named() -> None:
    cuts = plan_cuts(parse_views(["center"]), (45, 61), SETTINGS[0], key="a", seed=0)
    frames = cut_frames([picture(), picture(45, 60)], cuts, SETTINGS[0], name="'b.mp4'")
    next(frames)
    with pytest.raises(ImageError) as error:
        next(frames)
    assert str(error.value) == (
        "frame 1 of 'b.mp4' is 60 wide and 45 high, the first is 61 x 45; the frames of a clip "
        "have one size"
    )


def test_a_picture_that_is_too_small_is_named() -> None:
    with pytest.raises(ImageError) as error:
        made_views(
            parse_views(["hflip"]),
            picture(3, 9),
            Preprocess(policy="native", stride=4),
            key="a",
            seed=0,
            name="'a.png'",
        )
    assert str(error.value) == (
        "'a.png' is 9 wide and 3 high; policy 'native' needs at least one cell of 4 x 4 pixels"
    )
