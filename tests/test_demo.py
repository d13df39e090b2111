from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny
from commandline import look, residual, saved, tokenizer

from vqtok import VisualTokenizer
from vqtok.demo import PICTURE, main
from vqtok.preprocess import Preprocess
from vqtok.zoo import samples


@pytest.mark.parametrize("make", [tokenizer, residual])
def test_it_shows_the_sample_photographs(
    make: Callable[[], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = make(), tmp_path / "new" / "demo"
    main([str(out), "--tokenizer", str(folder)])
    tok = VisualTokenizer.from_pretrained(folder)
    names = {path.stem for path in samples()}
    assert {path.name for path in out.iterdir()} == {PICTURE, *(f"{n}.npy" for n in names)}
    for path in samples():
        assert np.load(out / f"{path.stem}.npy").tolist() == tok.encode(path)
    columns = len(names)
    assert look(out / PICTURE).shape == (3 * 16 + 24, columns * 16 + (columns - 1) * 4 + 16, 3)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == columns + 3
    assert said[0].startswith(f"{folder}: 64 codes, vqtok-fp/1:")
    assert all("4 x 4 codes" in line and "PSNR" in line for line in said[1:-2])
    assert said[-1] == f"ids (.npy) and {PICTURE} are in {out}"


def test_pictures_of_several_sizes_are_brought_to_one(tmp_path: Path) -> None:
    tok = VisualTokenizer.from_model(tiny.model(), Preprocess(policy="native", stride=tiny.STRIDE))
    main([str(tmp_path), "--tokenizer", str(saved(tok))])
    assert look(tmp_path / PICTURE).shape[0] == 3 * 32 * tiny.STRIDE + 24


def test_a_mistake_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(tmp_path), "--tokenizer", "nonesuch"])
    assert str(end.value).startswith("vqtok.demo: there is no tokenizer called 'nonesuch'")
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(SystemExit) as end:
        main([str(file), "--tokenizer", str(tokenizer())])
    assert str(end.value) == f"vqtok.demo: [Errno 17] File exists: '{file}'"
