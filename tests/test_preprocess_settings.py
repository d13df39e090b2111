"""Settings of preprocessing: which can be, what they are called, and their file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pydantic
import pytest
from preprocess_pictures import NATIVE, SETTINGS

from vqtok.errors import ConfigError, LoadError, UnknownNameError
from vqtok.preprocess import Preprocess, parse_size

RESIZES = (
    "adm-box-bicubic, opencv-u8-bilinear, pillow-bicubic, pillow-bilinear, pillow-lanczos, "
    "torch-u8-bicubic"
)
NAMES = "background, max_area, max_pixels, policy, resize, size, stride"
POLICIES = "adm, center, extend, native, pad, stretch, taming, torchvision"
SIZE = "is not a whole number from 1 to 65535, or (height, width) of such"
WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "policy 'center' needs a size, such as size=256"),
    (
        {"polcy": "pad"},
        f"preprocessing has no setting 'polcy'. Did you mean 'policy'? Known: {NAMES}.",
    ),
    (
        {"policy": "centre", "size": 8},
        f"there is no policy called 'centre'. Did you mean 'center'? Known: {POLICIES}.",
    ),
    ({"policy": 3, "size": 8}, f"there is no policy called 3. Known: {POLICIES}."),
    ({"size": 0}, f"size=0 {SIZE}"),
    ({"size": True}, f"size=True {SIZE}"),
    ({"size": "256"}, f"size='256' {SIZE}"),
    ({"size": 256.0}, f"size=256.0 {SIZE}"),
    ({"size": (8, 8, 3)}, f"size=(8, 8, 3) {SIZE}"),
    ({"size": 250, "stride": 16}, "size=250 is not a multiple of the stride, 16"),
    ({"size": (32, 40), "stride": 16}, "size=(32, 40) is not a multiple of the stride, 16"),
    ({"size": 8, "stride": 0}, "stride=0 is not a whole number from 1 to 1024"),
    (
        {"size": 8, "resize": "torch-bicubic"},
        "there is no resize called 'torch-bicubic'. Did you mean 'torch-u8-bicubic'? "
        f"Known: {RESIZES}.",
    ),
    ({"size": 8, "resize": None}, "resize=None is not the name of a resize implementation"),
    (
        {"size": 8, "background": (1, 2, 300)},
        "background=(1, 2, 300) is not three whole numbers from 0 to 255",
    ),
    ({"size": 8, "background": 0}, "background=0 is not three whole numbers from 0 to 255"),
    (
        {"size": 8, "max_pixels": 10**9},
        "max_pixels=1000000000 is not a whole number from 1 to 178956970",
    ),
    (
        {"size": 8, "max_area": 64},
        "max_area is for policy 'native' or 'extend'; with policy 'center' the size is fixed",
    ),
    (
        {"policy": "native", "size": 8},
        "policy 'native' keeps each picture's own size; leave out size=8",
    ),
    (
        {"policy": "extend", "size": 8},
        "policy 'extend' keeps each picture's own size; leave out size=8",
    ),
    (
        {"policy": "extend", "stride": 8, "max_area": 255},
        "max_area=255 leaves no room for 2 x 2 cells of stride 8; it must be at least 256",
    ),
    ({"policy": "native", "max_area": 2.5}, "max_area=2.5 is not a whole number of pixels"),
    (
        {"policy": "native", "stride": 8, "max_area": 255},
        "max_area=255 leaves no room for 2 x 2 cells of stride 8; it must be at least 256",
    ),
    ({"policy": "adm", "size": (8, 16)}, "policy 'adm' makes squares; got size=(8, 16)"),
    (
        {"policy": "torchvision", "size": (8, 16)},
        "policy 'torchvision' makes squares; got size=(8, 16)",
    ),
    ({"policy": "taming"}, "policy 'taming' needs a size, such as size=256"),
]


@pytest.mark.parametrize(("given_settings", "expected"), WRONG)
def test_settings_that_cannot_be(given_settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        Preprocess(**given_settings)
    assert str(error.value) == expected
    with pytest.raises(ConfigError) as error:
        Preprocess(size=32).changed(**{"size": None, **given_settings})
    assert str(error.value) == expected


def test_settings_inside_other_settings() -> None:
    class Job(pydantic.BaseModel):
        pixels: Preprocess

    assert Job.model_validate({"pixels": {"size": [8, 8]}}).pixels == Preprocess(size=8)
    with pytest.raises(pydantic.ValidationError, match="is not a multiple of the stride, 16"):
        Job.model_validate({"pixels": {"size": 8, "stride": 16}})


def test_settings_are_frozen_and_checked_when_changed() -> None:
    settings = Preprocess(size=32, stride=16)
    with pytest.raises(pydantic.ValidationError):
        settings.size = 64  # type: ignore[misc]
    assert settings.changed(size=64) == Preprocess(size=64, stride=16)
    assert settings.changed() == settings
    assert hash(settings.changed()) == hash(settings)
    assert Preprocess(size=(32, 64), stride=16).sides == (32, 64)


@pytest.mark.parametrize("policy", ["native", "extend"])
def test_policies_that_fix_no_size(policy: Any) -> None:
    settings = Preprocess(policy=policy)
    assert settings.keeps_size and not Preprocess(size=8).keeps_size
    with pytest.raises(ConfigError) as error:
        _ = settings.sides
    assert str(error.value) == f"policy {policy!r} fixes no size; ask `fit` about one picture"


def test_presets() -> None:
    assert Preprocess.preset("adm", 256, 16) == Preprocess(
        policy="adm", size=256, stride=16, resize="adm-box-bicubic"
    )
    assert Preprocess.preset("taming", 256) == Preprocess(
        policy="taming", size=256, resize="opencv-u8-bilinear"
    )
    assert Preprocess.preset("torchvision", 256) == Preprocess(
        policy="torchvision", size=256, resize="pillow-bilinear"
    )
    with pytest.raises(UnknownNameError) as error:
        Preprocess.preset("tamming", 256)
    assert str(error.value) == (
        "there is no preprocessing preset called 'tamming'. Did you mean 'taming'? Known: adm, "
        "taming, torchvision."
    )


def test_identity_is_what_changes_pixels_and_nothing_else() -> None:
    # These are hashed into fingerprints: they may never change.
    assert [settings.identity() for settings in SETTINGS] == [
        {"size": 48},
        {"policy": "stretch", "size": [32, 80]},
        {"policy": "pad", "size": 64},
        {"policy": "native", "stride": 8},
        {"policy": "native", "stride": 8, "max_area": 2000},
        {"policy": "adm", "size": 24, "resize": "adm-box-bicubic"},
        {"policy": "taming", "size": 40, "resize": "opencv-u8-bilinear"},
        {"size": 48, "resize": "pillow-bicubic"},
        {"size": 48, "resize": "pillow-lanczos"},
        {"policy": "extend", "stride": 8},
        {"policy": "extend", "stride": 8, "max_area": 2000},
        {"policy": "torchvision", "size": 40, "resize": "pillow-bilinear"},
    ]
    spelt_out = Preprocess(
        policy="center", size=(48, 48), stride=4, resize="torch-u8-bicubic", max_pixels=10**6
    )
    assert spelt_out.identity() == {"size": 48}
    assert NATIVE.changed(resize="pillow-bicubic").identity() == NATIVE.identity()
    assert Preprocess(size=8, background=(0, 0, 0)).identity()["background"] == [0, 0, 0]


@pytest.mark.parametrize("settings", SETTINGS)
def test_save_and_load(tmp_path: Path, settings: Preprocess) -> None:
    path = settings.save(tmp_path)
    assert path == tmp_path / "preprocessor_config.json"
    assert Preprocess.load(tmp_path) == Preprocess.load(path) == settings
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert stored["image_processor_type"] == "VQTokImageProcessor"
    path.write_text(json.dumps({**stored, "processor_class": "VQTokProcessor"}))
    assert Preprocess.load(tmp_path) == settings


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        (None, LoadError, "there is no file '{file}'"),
        (
            "{",
            LoadError,
            "'{file}' is not a JSON file that can be read: Expecting property name enclosed in "
            "double quotes: line 1 column 2 (char 1)",
        ),
        ("[1]", LoadError, "'{file}' holds a list; settings are an object"),
        (
            '{"size": 8, "stride": 3}',
            ConfigError,
            "'{file}': size=8 is not a multiple of the stride, 3",
        ),
        (
            '{"size": 8, "do_resize": true}',
            ConfigError,
            f"'{{file}}': preprocessing has no setting 'do_resize'. Did you mean 'resize'? "
            f"Known: {NAMES}.",
        ),
    ],
)
def test_files_that_are_no_settings(
    tmp_path: Path, text: str | None, kind: type[Exception], expected: str
) -> None:
    file = tmp_path / "preprocessor_config.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(kind) as error:
        Preprocess.load(tmp_path if text is not None else file)
    assert type(error.value) is kind
    assert str(error.value) == expected.format(file=file)


def test_another_policy_leaves_out_what_it_has_no_use_for() -> None:
    limited = Preprocess(policy="native", stride=8, max_area=2000)
    sized = limited.changed(policy="center", size=64)
    assert sized == Preprocess(policy="center", stride=8, size=64)
    assert sized.changed(policy="extend") == Preprocess(policy="extend", stride=8)
    assert limited.changed(policy="extend").max_area == 2000
    with pytest.raises(ConfigError) as error:
        limited.changed(policy="center", size=64, max_area=2000)
    assert str(error.value) == (
        "max_area is for policy 'native' or 'extend'; with policy 'center' the size is fixed"
    )


def test_a_size_for_settings_that_fix_none_needs_a_policy() -> None:
    with pytest.raises(ConfigError) as error:
        Preprocess(policy="native", stride=8).changed(size=64)
    assert str(error.value) == (
        "policy 'native' keeps each picture's own size; with size=64 say how to bring them to it: "
        "policy='center', 'stretch' or 'pad'"
    )


def test_sizes_as_people_write_them() -> None:
    assert parse_size("256") == 256
    assert parse_size("256x384") == (256, 384)
    for text in ("", "256x", "x", "-8", "8x8x8", "1e3", "1234567"):
        with pytest.raises(ConfigError) as error:
            parse_size(text, "size")
        assert str(error.value) == (
            f"size is a number, or HEIGHTxWIDTH such as 256x384; got {text!r}"
        )


def test_choices_of_size_and_policy() -> None:
    now = Preprocess(size=256, stride=8)
    assert now.chosen() == {}
    assert now.chosen(128) == {"size": 128}
    assert now.chosen(policy="pad") == {"policy": "pad"}
    assert now.chosen((8, 16), "stretch") == {"size": (8, 16), "policy": "stretch"}
    assert now.chosen(policy="adm") == {"policy": "adm", "resize": "adm-box-bicubic"}
    published = Preprocess.preset("torchvision", 64).changed(resize="pillow-lanczos")
    assert published.chosen(32, "torchvision") == {"size": 32, "policy": "torchvision"}
