"""Settings that lie beside a checkpoint under a name that is not its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from checkpoints.pickles import save
from checkpoints.samples.taming import sample as taming
from checkpoints.samples.titok import sample as titok

from vqtok.checkpoints.beside import unread_beside
from vqtok.checkpoints.building import build
from vqtok.checkpoints.opening import open_checkpoint
from vqtok.errors import ConfigError

UNREAD = (
    "other.yaml beside it holds settings and was not read, for it is not called as the checkpoint: "
    "pass it as config if it is of this one"
)


def laid(folder: Path, name: str, found: object) -> Path:
    (folder / name).write_text(yaml.safe_dump(found))
    return folder / name


def test_a_setting_that_is_asked_for(tmp_path: Path) -> None:
    tensors, said = titok()
    file = save(tensors, tmp_path / "titok.bin")
    other = laid(tmp_path, "other.yaml", said)
    with pytest.raises(ConfigError) as error:
        build(file)
    assert str(error.value) == (
        f"{file} does not tell use_l2_norm, whether codes are compared by direction: true in L-32, "
        "B-64 and S-128, else false: pass the YAML or JSON that it was trained with as config, or "
        f"use_l2_norm itself. {UNREAD}"
    )
    assert error.value.__notes__
    assert build(file, config=other).family == "titok"
    other.unlink()
    with pytest.raises(ConfigError) as error:
        build(file)
    assert str(error.value).endswith("or use_l2_norm itself")


def test_a_note_where_nothing_is_asked_for(tmp_path: Path) -> None:
    tensors, said = taming()
    file = save({"state_dict": tensors}, tmp_path / "last.ckpt")
    laid(tmp_path, "other.yaml", said)
    assert open_checkpoint(file).notes == (UNREAD,)
    assert UNREAD in build(file).report.notes
    assert open_checkpoint(file, config=tmp_path / "other.yaml").unread == ""
    laid(tmp_path, "last.yaml", said)
    found = open_checkpoint(file)
    assert (found.notes, found.unread) == (("settings are those of last.yaml",), "")


@pytest.mark.parametrize(
    "said",
    [
        {"n_embed": 8},
        {"model": {"target": "x", "params": {"ddconfig": {"ch": 8}}}},
        {"model": {"init_args": {"embed_dim": 8}}},
        {"model": {"vq_model": {"codebook_size": 8}}},
    ],
)
def test_settings_of_a_tokenizer(tmp_path: Path, said: object) -> None:
    other = laid(tmp_path, "imagenet.yml", said)
    assert unread_beside(tmp_path / "a.pt") == other


def test_files_that_are_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "a.pt"
    laid(tmp_path, "a.yaml", {"n_embed": 8})  # its own
    laid(tmp_path, "preprocessor_config.json", {"n_embed": 8})
    laid(tmp_path, "b.yaml", {"n_embed": 8})  # another's
    (tmp_path / "b.ckpt").write_bytes(b"")
    laid(tmp_path, "trainer.yaml", {"lr": 1})
    laid(tmp_path, "list.yaml", ["n_embed"])
    laid(tmp_path, "notes.txt", {"n_embed": 8})
    (tmp_path / "broken.json").write_text('{"n_embed"')
    (tmp_path / "long.json").write_text('{"n_embed": 8, "vocab": "' + "x" * (1 << 20) + '"}')
    assert unread_beside(file) is None
    one = laid(tmp_path, "imagenet.yaml", {"n_embed": 8})
    assert unread_beside(file) == one
    laid(tmp_path, "coco.yaml", {"n_embed": 8})  # which of them nobody knows
    assert unread_beside(file) is None
    assert unread_beside(tmp_path / "gone" / "a.pt") is None
