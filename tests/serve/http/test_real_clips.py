"""A film of the real world over HTTP, as files and as frames, against the tokenizer itself."""

from __future__ import annotations

import io
import os
import tarfile

import httpx
import numpy as np
import pytest
from PIL import Image
from serve_bodies import raw
from serve_kinds import kind
from serve_server import serving

from vqtok.serve.client import Client
from vqtok.serve.engine import TokenizerEngine

SIDE = 128
CLIPS = os.environ.get("VQTOK_TEST_CLIPS", "")


@pytest.fixture(scope="module")
def frames():
    """(T, 48, 48, 3) of a clip that is stored as strips of up to 32 frames, 128 high."""
    if not CLIPS:
        pytest.skip("VQTOK_TEST_CLIPS names no tar file of clips")
    with tarfile.open(CLIPS) as tar:
        names = sorted(tar.getnames())
        first = [name for name in names if name.rpartition("_")[0] == names[0].rpartition("_")[0]]
        strips = [Image.open(io.BytesIO(tar.extractfile(name).read())) for name in first]
        parts = [np.asarray(strip.convert("RGB")) for strip in strips]
    whole = np.concatenate([part.reshape(-1, SIDE, *part.shape[1:]) for part in parts])
    return whole[:120, 40:88, 40:88]


@pytest.mark.parametrize("name", ["causal clips", "windows of clips"])
def test_a_real_clip(frames, name, tmp_path):
    pytest.importorskip("av", reason="PyAV is not installed")
    from vqtok.movies import write_movie

    tok = kind(name)
    film = tmp_path / "clip.mkv"
    write_movie(frames, film)  # without loss
    wanted = tok.encode_clip(frames)
    assert len(np.unique(wanted.ids)) > 4
    engine = TokenizerEngine(tok, name="toy", tokenizer="toy")
    with serving(engine, max_body="300KB") as served, Client(served.url) as client:
        sent = raw(frames, accept="application/x-npy")
        answer = httpx.post(f"{served.url}/v1/encode", **sent, timeout=120)
        assert np.array_equal(np.load(io.BytesIO(answer.content)), wanted.ids)
        assert film.stat().st_size > 300_000
        for source in (film, iter(frames), list(frames)):
            assert client.encode_clip(source) == wanted
        back = np.stack(list(client.decode_frames(wanted)))
        assert np.array_equal(back, np.stack(list(tok.codec.decode_frames(wanted))))
