"""The same pictures have the same ids from graphs, a server on them, and a job on them.

And torch's but for near ties, which are listed. VQTOK_PHOTOS names a folder or tar of photographs
for the slow test, which takes 200 of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tiny
from onnx_exports import exported
from PIL import Image
from serve_server import local_server

from vqtok import VisualTokenizer
from vqtok.export import export
from vqtok.export.excess import Flip, flips_of
from vqtok.offline import open_tokens, tokenize
from vqtok.preprocess import preprocess
from vqtok.serve import Client
from vqtok.serve.load import Load
from vqtok.sources import Source, open_source
from vqtok.wanted import Wanted
from vqtok.zoo import samples

PHOTOS = os.environ.get("VQTOK_PHOTOS")
COUNT = 200
LONG = 600.0  # seconds, on a machine that has other things to do

Ids = dict[str, npt.NDArray[np.integer]]
Picture = tuple[str, bytes]


def by_codec(tok: VisualTokenizer, pictures: list[Picture]) -> Ids:
    found = tok.encode_images([data for _, data in pictures])
    return {key: codes.ids[0] for (key, _), codes in zip(pictures, found, strict=True)}


def by_server(folder: Path, pictures: list[Picture]) -> Ids:
    engine = Load("graphs", Wanted(name=str(folder)))("cpu")
    with local_server(engine, timeout=LONG) as url, Client(url, timeout=LONG) as client:
        assert client.model().fingerprint == engine.facts.fingerprint
        found = client.encode([data for _, data in pictures])
    return {key: codes.ids[0] for (key, _), codes in zip(pictures, found, strict=True)}


def by_job(folder: Path, pictures: list[Picture], work: Path) -> Ids:
    for key, data in pictures:
        (work / "in").mkdir(exist_ok=True)
        (work / "in" / key).write_bytes(data)
    tokenize(work / "in", work / "out", folder, device="cpu", processes=1)
    return {row.key: row.codes for row in open_tokens(work / "out") if row.codes is not None}


def flips(tok: VisualTokenizer, pictures: list[Picture], found: Ids) -> Iterator[Flip]:
    """Where torch has other ids."""
    for key, data in pictures:
        pixels = preprocess(data, tok.settings)[None]
        latents, codes = tok.codec.encode_latents(pixels)  # type: ignore[attr-defined]
        size, theirs = pixels.shape[1:3], found[key][None]
        yield from flips_of(tok.model.quantize, latents, codes.ids, theirs, [key], size)


def check(tok: VisualTokenizer, folder: Path, pictures: list[Picture], work: Path) -> list[Flip]:
    """All that is asked of them; gives the ids that differ from torch's."""
    ids = by_codec(VisualTokenizer.from_pretrained(folder, backend="onnx", device="cpu"), pictures)
    for others in (by_server(folder, pictures), by_job(folder, pictures, work)):
        assert others.keys() == ids.keys()
        assert [key for key in ids if not np.array_equal(ids[key], others[key])] == []
    differing = list(flips(tok, pictures, ids))
    assert [flip for flip in differing if not flip.is_tie] == []
    assert len(differing) <= 1e-3 * sum(map(np.size, ids.values()))
    return differing


def test_sample_pictures(tmp_path: Path) -> None:
    pictures = [(path.name, path.read_bytes()) for path in samples()]
    check(tiny.tokenizer(), exported().folder, pictures, tmp_path)


def firsts(source: Source) -> Iterator[bytes]:
    for at in range(COUNT):
        data = source[at].data
        yield data if isinstance(data, bytes) else Path(data).read_bytes()


def kind_of(data: bytes) -> str:
    return str(Image.open(BytesIO(data)).format).lower()


@pytest.mark.slow
@pytest.mark.skipif(PHOTOS is None, reason="VQTOK_PHOTOS names no folder or tar of photographs")
def test_photographs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = open_source([str(PHOTOS)])
    pictures = [(f"{at}.{kind_of(data)}", data) for at, data in enumerate(firsts(source))]
    tok = VisualTokenizer.from_pretrained("photo-tiny")
    report = export(tok, tmp_path / "graphs")
    differing = check(tok, report.folder, pictures, tmp_path)
    with capsys.disabled():
        print(f"\n{COUNT} photographs: {len(differing)} near ties", *differing, sep="\n")
