"""Clips of any length by the clients: read while they are sent, and given as they are made."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from serve_kinds import CLIPS, clip, kind
from serve_server import serving
from serve_stubs import StubEngine, codes_of, corners, picture, pixels_of, stub_facts

from vqtok.errors import CodesError, ImageError, InputError, ServiceError
from vqtok.serve.client import items
from vqtok.serve.engine import TokenizerEngine

LONG = picture(1, (60, 32, 32))
CODES = codes_of(corners(LONG, clip=True))
BACK = pixels_of(CODES, LONG.shape[:-1])


@pytest.fixture(scope="module")
def url():
    with serving(StubEngine(stub_facts(size=32, video=True)), slot_frames=8) as served:
        yield served.url


@pytest.fixture
def small(monkeypatch):
    """Clips are long from some frames on."""
    monkeypatch.setattr(items, "LONG", 10_000)


def film(tmp_path, name="clip.mkv"):
    pytest.importorskip("av", reason="PyAV is not installed")
    from vqtok.movies import write_movie

    write_movie(LONG, tmp_path / name)
    return tmp_path / name


@pytest.mark.parametrize("name", CLIPS)
def test_long_clips_are_as_the_tokenizer_has_them(connect, name, small):
    tok = kind(name)
    engine = TokenizerEngine(tok, name="toy", tokenizer="toy")
    frames = clip(40)
    wanted = tok.encode_clip(frames)
    with serving(engine, slot_frames=8) as served:
        client = connect(served.url)
        assert client.encode(frames) == client.encode_clip(iter(frames)) == wanted
        back = np.stack(list(tok.codec.decode_frames(wanted)))
        assert np.array_equal(client.decode(wanted, output_type="np"), back)
        assert np.array_equal(list(given(client, wanted)), back)
        assert np.array_equal(client.reconstruct(frames, output_type="np"), back)


def given(client, codes):
    """The frames that either client gives."""
    found = client.decode_frames(codes)
    if hasattr(found, "__anext__"):
        return collected(client, found)
    return found


def collected(both, found):
    async def all_of():
        return [frame async for frame in found]

    return both.runner.run(all_of())


@pytest.mark.parametrize("source", ["array", "list", "iterator", "film"])
def test_clips_of_all_kinds(connect, url, small, source, tmp_path):
    sources = {
        "array": lambda: LONG,
        "list": lambda: list(LONG),
        "iterator": lambda: iter(LONG),
        "film": lambda: film(tmp_path),
    }
    client = connect(url)
    codes = client.encode_clip(sources[source]())
    assert np.array_equal(codes.ids[0], CODES)
    assert codes.sizes.tolist() == [[60, 32, 32]]
    if source != "iterator":
        assert client.encode(sources[source]()) == codes


def test_several_long_clips(connect, url, small):
    clips = [LONG, LONG[:30], LONG[5:]]
    found = connect(url).encode(clips)
    for one, codes in zip(clips, found, strict=True):
        assert np.array_equal(codes.ids[0], codes_of(corners(one, clip=True)))


def test_a_tokenizer_over_a_client(connect, url, small):
    client = connect(url)
    if not hasattr(client, "tokenizer"):
        pytest.skip("the asynchronous client has none")
    tok = client.tokenizer()
    codes = tok.encode_clip(iter(LONG))
    assert np.array_equal(codes.ids[0], CODES)
    assert np.array_equal(np.stack(list(tok.codec.decode_frames(codes))), BACK)
    with pytest.raises(ImageError) as error:
        tok.codec.encode_frames(iter([]), (32, 32))
    assert str(error.value) == "a clip has at least one frame; got none"


def test_what_cannot_be_read_is_told(connect, url, small):
    def broken():
        yield from LONG[:20]
        yield LONG[0, :16]

    client = connect(url)
    with pytest.raises(ImageError) as error:
        client.encode_clip(broken())
    assert str(error.value) == (
        "frame 20 of the clip is 32 wide and 16 high, the first is 32 x 32; the frames of a clip "
        "have one size"
    )
    bad = [*LONG[:20], "no-such.png"]
    found = client.encode([bad, LONG], on_error="return")
    assert isinstance(found[0], Exception)
    assert np.array_equal(found[1].ids[0], CODES)


def test_codes_that_are_none(connect, url):
    client = connect(url)
    with pytest.raises(CodesError) as error:
        list(given(client, np.full((3, 2, 2), 4096)))
    assert "4096" in str(error.value)
    with pytest.raises(CodesError) as error:
        list(given(client, np.zeros((2, 3, 2, 2), int)))
    assert str(error.value) == "frames come of the codes of one clip; these are of several"


def test_pictures_have_no_frames(connect, server):
    client = connect(server)
    for ask in (lambda: client.encode_clip(LONG), lambda: list(given(client, CODES))):
        with pytest.raises(InputError) as error:
            ask()
        assert str(error.value) == "stub takes pictures, not clips"


class FailsOnce(StubEngine):
    """The first time that it comes upon its poison."""

    def _fail(self, pixel):
        poison, self.poison = self.poison, None if pixel == self.poison else self.poison
        if pixel == poison:
            raise ValueError("a poisoned picture")


def test_frames_go_on_where_an_answer_broke_off(connect, waits):
    codes = CODES.copy()
    codes[8] = 1
    engine = FailsOnce(stub_facts(size=32, video=True), poison=(1, 0, 1))
    with serving(engine, slot_frames=8) as served:
        found = list(given(connect(served.url), codes))
    assert engine.poison is None
    assert np.array_equal(found, pixels_of(codes))
    assert len(waits) == 1


def test_frames_are_not_asked_for_again_for_ever(connect, waits):
    codes = CODES.copy()
    codes[8] = 1
    engine = StubEngine(stub_facts(size=32, video=True), poison=(1, 0, 1))
    with serving(engine, slot_frames=8) as served:
        client = connect(served.url, retries=2)
        with pytest.raises(ServiceError) as error:
            list(given(client, codes))
    assert str(error.value).startswith(f"{served.url} cannot be reached: ")
    assert str(error.value).endswith(" (3 attempts)")


def test_who_takes_no_more_frames_leaves(connect, url):
    client = connect(url)
    found = given_some(client, np.repeat(CODES, 40, 0))
    assert np.array_equal(found, BACK[0])


def given_some(client, codes):
    """The first frame, and no more."""
    found = client.decode_frames(codes)
    if not hasattr(found, "__anext__"):
        first = next(found)
        found.close()
        return first

    async def some():
        first = await anext(found)
        await found.aclose()
        return first

    return client.runner.run(some())


def test_what_comes_by_once_is_sent_once(connect, serve, small, waits, told):
    facts = stub_facts(size=32, video=True)
    with serve(facts) as server:
        client = connect(server)
        server.script.append(told(502, "", "nobody is behind the proxy"))
        assert np.array_equal(client.encode_clip(list(LONG)).ids[0], CODES)
        server.script.append(told(502, "", "nobody is behind the proxy"))
        with pytest.raises(ServiceError) as error:
            client.encode_clip(iter(LONG))
        assert str(error.value) == (
            f"{server.url} answered 502: nobody is behind the proxy (1 attempt)"
        )
        assert len(server.posts) == 3


def test_memory_does_not_grow_with_a_clip(url):
    """What is held of a clip three times as long is no more, but for its codes."""
    from vqtok.serve.client import Client

    def frames(count):
        for _ in range(count):
            yield from LONG[:20]

    def peak(count):
        tracemalloc.start()
        try:
            codes = client.encode_clip(frames(count))
            assert sum(1 for _ in client.decode_frames(codes)) == 20 * count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    with Client(url) as client:
        peak(10)
        first, second = peak(40), peak(120)
    assert second < first + 80 * 20 * LONG[0].nbytes / 2
