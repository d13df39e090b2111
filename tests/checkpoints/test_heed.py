from __future__ import annotations

from typing import Any

import pytest
from checkpoints.samples import bsq_vit, llamagen, taming, titok, var

from vqtok.checkpoints import FAMILIES, Foreign
from vqtok.checkpoints.heed import Heed, look, tells
from vqtok.checkpoints.wrappers import hoisted, merged
from vqtok.errors import ConfigError

SAMPLES = {
    "bsq_vit": bsq_vit.sample,
    "llamagen": llamagen.sample,
    "taming": taming.sample,
    "titok": titok.sample,
    "var": var.sample,
}


def copied(told: Any, name: str) -> Any:
    """As families do."""
    inner = {**told.get("inner", {}), **told}
    return dict(inner).get(name)


def complaint(heed: Heed) -> str | None:
    try:
        heed.check("toy", "a.pt")
    except ConfigError as error:
        return str(error)
    return None


def test_what_was_read_in_whatever_copy() -> None:
    settings = {"a": 1, "b": {"c": 2, "d": 3}, "e": 4, "f": {}}
    own = {"a": 1, "b": {"c": 2}, "f": {}}
    assert Heed(settings, own).settings == settings
    heed = Heed(settings, own)
    said = {**heed.settings, "more": 1}
    for name, left in {"a": "b.c", "c": "f"}.items():
        copied({**said["b"], **said}, name)
        assert complaint(heed) == (
            f"nothing of the family toy reads the setting '{left}' for a.pt. Known: none."
        )
    assert "f" in said
    assert complaint(heed) is None


def test_those_of_others_are_not_looked_after() -> None:
    assert complaint(Heed({"a": 1, "b": {"c": 2}}, {})) is None
    assert complaint(Heed({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3}})) == (
        "nothing of the family toy reads the setting 'b.d' for a.pt. Known: none."
    )


def test_names_that_were_looked_for_are_proposed() -> None:
    heed = Heed({"sise": 1}, {"sise": 1})
    assert look({"size": 2}, "other") is None  # before it is entered
    with heed:
        assert look(heed.settings, "size", 3) == 3
        assert look({"size": 2}, "size", 3) == 2
        assert not tells(heed.settings, "stride")
    assert look({}, "after") is None
    assert complaint(heed) == (
        "nothing of the family toy reads the setting 'sise' for a.pt. Did you mean 'size'? Known: "
        "size, stride."
    )


@pytest.mark.parametrize(
    ("family", "own"),
    [
        ("bsq_vit", {"heads": 3}),
        ("bsq_vit", {"vitconfig": {"heads": 3}}),
        ("bsq_vit", {"data": {"zero_mean": True}}),
        ("llamagen", {"image_size": 32, "codebook_l2_norm": False}),
        ("taming", {"resolution": 32}),
        ("taming", {"ddconfig": {"resolution": 32, "attn_type": "vanilla", "double_z": False}}),
        ("taming", {"lossconfig": {"params": {"codebook_weight": 2.0}}}),
        ("titok", {"use_l2_norm": False}),
        ("titok", {"commitment_cost": 0.5}),
        ("var", {"v_patch_nums": [1, 2, 3, 4], "quant_resi": 0.25}),
    ],
)
def test_settings_that_families_read(family: str, own: dict[str, Any]) -> None:
    tensors, settings = SAMPLES[family]()
    heed = Heed(merged(hoisted(settings), own), own)
    with heed:
        FAMILIES[family].plan(Foreign(dict(tensors), heed.settings, "a.pt"))
    heed.check(family, "a.pt")


@pytest.mark.parametrize("family", SAMPLES)
def test_settings_that_families_do_not_read(family: str) -> None:
    tensors, settings = SAMPLES[family]()
    own = {"resolutoin": 32}
    heed = Heed(merged(hoisted(settings), own), own)
    with heed:
        FAMILIES[family].plan(Foreign(dict(tensors), heed.settings, "a.pt"))
    with pytest.raises(ConfigError) as error:
        heed.check(family, "a.pt")
    start = f"nothing of the family {family} reads the setting 'resolutoin' for a.pt. "
    assert str(error.value).startswith(start)
    assert ("Did you mean 'resolution'?" in str(error.value)) == (family == "taming")
