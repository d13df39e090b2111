"""What a trainer would read wrongly, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from token_lists import TokenList, clips, token_list
from token_rows import row

from vqtok.errors import ConfigError, InputError, LoadError, VqtokError
from vqtok.offline.exports import EXPORTS

pytest.importorskip("pyarrow")

BOTH = ("center", "hflip")


def several(what: str = "codes") -> TokenList:
    """Grids of two sizes."""
    tokens = token_list(what=what, views=BOTH if what == "latents" else ("center",))
    tokens.rows[1] = row("b", tokens.plan, 7, (4, 6), label=1)
    return tokens


def deep(grid: tuple[int, ...] = (4, 4)) -> TokenList:
    """Four codes a token."""
    return token_list(tokenizer={"depth": 4}, grid=grid)


def scaled() -> TokenList:
    """Codes of three scales."""
    tokens = token_list(grid=(14,))
    tokens.rows = [each._replace(scales=((1, 1), (2, 2), (3, 3))) for each in tokens.rows]
    return tokens


def half_labelled() -> TokenList:
    return token_list(labels=(2, None, 1))


def lost_a_view(what: str = "codes") -> TokenList:
    tokens = token_list(views=BOTH, what=what)
    del tokens.rows[3]
    return tokens


def oblong() -> TokenList:
    return token_list(grid=(4, 6))


def wide(made: TokenList) -> TokenList:
    """Latents as readers scale them."""
    made.rows = [
        each._replace(latents=None if each.latents is None else each.latents.astype(np.float32))
        for each in made.rows
    ]
    return made


CLIPS = (
    "the {} export is for a trainer of pictures, and this data set holds clips; export to 1xgpt, "
    "megatron, mds or webdataset"
)
DEPTH = (
    "the {} export has one code a token, and this tokenizer gives 4; export to mds or webdataset"
)
SCALES = (
    "the {} export has one grid a row, and the codes of 'a' are of several scales; export to mds "
    "or webdataset"
)
SHAPES = (
    "the {} export has one grid for all rows, and 'a' has 4x4, 'b' 4x6; tokenize in one size, or "
    "export to megatron, mds or webdataset"
)
UNLABELLED = (
    "the {} export is for a trainer of classes, and this data set has no labels; export to "
    "megatron, mds, litdata or webdataset"
)
SOME = "the {} export has labels for all rows or for none, and 'b' has none where others have one"
NEGATIVE = "the {} export counts classes from 0, and there is a label -1"
MISSING = (
    "the rows of 'b' are not center, hflip one after the other; `vqtok verify` looks for what is "
    "wrong with this data set"
)
LIST = "{} is no classes.json: that has a number from 0 up for each name"
TWICE = "{} is no classes.json: two names in it have the number 1"
SQUARE = (
    "the llamagen export is for square pictures of one size and square grids; this data set has "
    "pictures of 16x24 and grids of 4x6"
)
JOINED = (
    "LlamaGen picks one of the 2 views of a picture only where its path has 'flip' in it, and "
    "joins them otherwise; name the output so, such as codes_flip"
)
STORED = (
    "exports are of latents as they are stored, in float16; these are float32: open the data set "
    "without as_latents"
)
PAIR = (
    "LightningDiT trains on each picture and its mirror image, and this data set {}; tokenize with "
    "--views center,hflip"
)

Case = tuple[str, Callable[[], TokenList], str]
CASES: list[Case] = [
    ("llamagen", clips, CLIPS),
    ("llamagen", deep, DEPTH),
    ("llamagen", scaled, SCALES),
    ("llamagen", several, SHAPES),
    ("llamagen", oblong, SQUARE),
    ("llamagen", lambda: token_list(labels=None), UNLABELLED),
    ("llamagen", half_labelled, SOME),
    ("llamagen", lambda: token_list(labels=(0, -1)), NEGATIVE),
    ("llamagen", lambda: token_list(views=BOTH), JOINED),
    ("rar", clips, CLIPS),
    ("rar", deep, DEPTH),
    ("rar", scaled, SCALES),
    ("rar", several, SHAPES),
    ("rar", lambda: token_list(labels=None), UNLABELLED),
    ("rar", half_labelled, SOME),
    ("megatron", deep, DEPTH),
    (
        "megatron",
        lambda: token_list(tokenizer={"codebook_size": (1 << 31) + 1}, dtype="uint32"),
        "the megatron export stores ids as uint16 or int32, and those of this data set go up to "
        "2147483648; export to mds or webdataset",
    ),
    ("megatron", scaled, SCALES),
    ("litdata", deep, DEPTH),
    ("litdata", scaled, SCALES),
    ("litdata", several, SHAPES),
    ("mds", half_labelled, SOME),
    ("webdataset", half_labelled, SOME),
    ("1xgpt", lambda: deep((2, 4, 4)), DEPTH),
    (
        "1xgpt",
        token_list,
        "the 1xgpt export is for a trainer of clips, and the grid of 'a' is 4x4; export to "
        "megatron, mds or webdataset",
    ),
    (
        "1xgpt",
        lambda: token_list(grid=(2, 4, 6), labels=None),
        "the 1xgpt export has square token grids of one size for all frames; this data set has 4x6",
    ),
    (
        "lightningdit",
        lambda: token_list(grid=(2, 4, 4), views=BOTH, what="latents"),
        CLIPS.replace("1xgpt, megatron, mds or webdataset", "npy or webdataset"),
    ),
    ("lightningdit", lambda: token_list(what="latents"), PAIR.format("has center")),
    (
        "lightningdit",
        lambda: token_list(what="latents", views=("center", "other")),
        PAIR.format("has two views of 'a' that are no such pair"),
    ),
    (
        "lightningdit",
        lambda: token_list(what="latents", views=BOTH, labels=None),
        UNLABELLED.replace("megatron, mds, litdata or webdataset", "npy or webdataset"),
    ),
    ("lightningdit", lambda: lost_a_view("latents"), MISSING),
    ("lightningdit", lambda: wide(token_list(what="latents", views=BOTH)), STORED),
    ("npy", lambda: wide(token_list(what="latents")), STORED),
    (
        "npy",
        lambda: several("latents"),
        "the npy export has one grid for all rows, and 'a' has 4x4x4, 'b' 4x4x6; tokenize in one "
        "size, or export to webdataset",
    ),
]


@pytest.mark.parametrize(("name", "made", "message"), CASES)
def test_what_cannot_be_told_is_refused(
    name: str, made: Callable[[], TokenList], message: str, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"hz": 15.0} if name == "1xgpt" else {}
    with pytest.raises(InputError) as error:
        EXPORTS[name](made(), tmp_path / "out", **options)
    assert str(error.value) == message.format(name)
    assert not list(tmp_path.iterdir())


def test_a_missing_view_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        EXPORTS["llamagen"](lost_a_view(), tmp_path / "flip")
    assert str(error.value) == MISSING


def test_a_path_above_the_output_does_not_count(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        EXPORTS["llamagen"](token_list(views=BOTH), tmp_path / "flip" / "codes")
    assert str(error.value) == JOINED


def test_general_readers_take_what_trainers_do_not(tmp_path: Path) -> None:
    for number, (name, made) in enumerate(
        [
            *[(name, made) for name in ("mds", "webdataset") for made in (several, deep, scaled)],
            *[(name, clips) for name in ("mds", "webdataset", "megatron")],
            ("mds", lambda: token_list(labels=(0, -1))),
            ("megatron", several),
        ]
    ):
        EXPORTS[name](made(), tmp_path / str(number))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "megatron",
            {"end_id": 63},
            "end_id is no code: the codes of this tokenizer end at 63; got 63",
        ),
        (
            "megatron",
            {"dtype": "uint32"},
            "the megatron export stores ids as uint16 or int32; got dtype='uint32'",
        ),
        (
            "litdata",
            {"dtype": "uint16", "end_id": 70_000},
            "ids go up to 70000, which uint16 cannot hold; take dtype='int32'",
        ),
        (
            "1xgpt",
            {},
            "the 1xgpt export needs hz, the token frames in a second of video: frames a second, "
            "over the clips' stride and the tokenizer's own in time; got None",
        ),
        (
            "lightningdit",
            {"dtype": "bfloat16"},
            "the lightningdit export stores latents as float32 or float16; got dtype='bfloat16'",
        ),
        (
            "webdataset",
            {"tar_rows": 0},
            "tar_rows is a whole number, at least 1; got 0",
        ),
    ],
)
def test_options_that_cannot_be(
    name: str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    what = "latents" if name == "lightningdit" else "codes"
    tokens = clips() if name == "1xgpt" else token_list(what=what, views=BOTH)
    with pytest.raises(ConfigError) as error:
        EXPORTS[name](tokens, tmp_path / "out", **options)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("stored", "labels", "kind", "message"),
    [
        (b'{"ant": 0}', ("cat",), InputError, "there is a label 'cat' that {} does not have"),
        (b'["ant"]', ("ant",), LoadError, LIST),
        (b'{"ant": -1}', ("ant",), LoadError, LIST),
        (
            b'{"ant": 0}',
            (1,),
            ConfigError,
            "labels are numbers in this data set, so they take no classes",
        ),
        (b'{"ant": 1, "bee": 1}', ("ant",), LoadError, TWICE),
    ],
)
def test_classes_that_do_not_fit(
    stored: bytes,
    labels: tuple[int | str, ...],
    kind: type[VqtokError],
    message: str,
    tmp_path: Path,
) -> None:
    file = tmp_path / "classes.json"
    file.write_bytes(stored)
    with pytest.raises(kind) as error:
        EXPORTS["rar"](token_list(labels=labels), tmp_path / "out", classes=file)
    assert str(error.value) == message.format(file)


def test_classes_that_are_not_there(tmp_path: Path) -> None:
    file = tmp_path / "classes.json"
    with pytest.raises(LoadError) as error:
        EXPORTS["rar"](token_list(labels=("ant",)), tmp_path / "out", classes=file)
    reason = f"[Errno 2] No such file or directory: '{file}'"
    assert str(error.value) == f"{file} is no classes.json: {reason}"
