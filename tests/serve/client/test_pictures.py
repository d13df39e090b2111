"""Pictures in, codes out and back, through either client."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from serve_stubs import FRAMES, codes_of, corners, latents_of, picture, pixels_of, stub_facts

from vqtok.errors import CodesError, ImageError, InputError, LoadError, MismatchError, ServiceError
from vqtok.preprocess import prepare
from vqtok.serve.wire import Failure, Limits
from vqtok.types import Codes

FACTS = stub_facts(size=32)


def expected(source: Any, facts: Any = FACTS) -> Codes:
    """What the library's own preprocessing and the stub make of a picture."""
    pixels, size = prepare(source, facts.preprocess)
    ids = codes_of(corners(pixels, False))[None]
    sizes = np.array([size], np.int32)
    return Codes(ids, sizes, facts.traits.codebook_size, facts.fingerprint.codebook)


def png(pixels: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, options.pop("format", "PNG"), **options)
    return file.getvalue()


WIDE = picture(1, (40, 70))


@pytest.mark.parametrize(
    "source",
    [
        WIDE,
        WIDE[..., 0],
        WIDE.astype(np.float32) / 255,
        WIDE.astype(np.uint16) * 257,
        WIDE[:, ::-1],
        np.dstack([WIDE, WIDE[..., 1]]),
        torch.from_numpy(WIDE),
        torch.from_numpy(WIDE).permute(2, 0, 1),
        torch.from_numpy(WIDE).permute(2, 0, 1).to(torch.bfloat16) / 256,
        Image.fromarray(WIDE),
        Image.fromarray(np.dstack([WIDE, WIDE[..., 1]])),
        Image.fromarray(WIDE).convert("P"),
        png(WIDE),
        bytearray(png(WIDE)),
        png(WIDE, format="JPEG"),
        png(WIDE, format="WEBP"),
        png(WIDE, format="PPM"),
    ],
    ids=lambda source: type(source).__name__,
)
def test_each_kind_of_picture_is_what_the_library_makes_of_it(
    server: Any, connect: Any, source: Any
) -> None:
    assert connect(server).encode(source) == expected(source)


def test_files_go_as_they_are_and_arrays_as_pixels(
    server: Any, connect: Any, tmp_path: Path
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(png(WIDE, format="JPEG"))
    client = connect(server)
    with path.open("rb") as file:
        found = [client.encode(one) for one in (path, str(path), path.read_bytes(), file)]
    client.encode(WIDE)
    assert found == [expected(path)] * 4
    assert [one.body for one in server.posts] == [path.read_bytes()] * 4 + [WIDE.tobytes()]
    kinds = [one.headers["content-type"] for one in server.posts]
    assert kinds == ["image/jpeg"] * 4 + ["application/octet-stream"]
    assert server.posts[-1].headers["x-vqtok-shape"] == "40,70,3"


def test_one_gives_one_and_several_give_a_list(server: Any, connect: Any) -> None:
    client = connect(server)
    assert client.encode([WIDE]) == [expected(WIDE)]
    assert client.encode(np.stack([WIDE, WIDE])) == [expected(WIDE)] * 2
    assert client.encode([]) == []
    assert len(server.posts) == 2


def test_mixed_pictures_keep_their_order(server: Any, connect: Any) -> None:
    sources = [WIDE, png(WIDE), png(picture(2, (33, 50))), picture(3, (64, 32)), WIDE[::2], WIDE]
    assert connect(server).encode(sources) == [expected(one) for one in sources]
    kinds = [one.headers["content-type"].partition(";")[0] for one in server.posts]
    assert sorted(kinds) == [
        "application/octet-stream",
        "application/safetensors",
        "multipart/form-data",
    ]


def test_pictures_that_keep_their_size(serve: Any, connect: Any) -> None:
    facts = stub_facts(size=None)
    with serve(facts) as server:
        sources = [picture(1, (40, 70)), picture(2, (16, 32))]
        found = connect(server).encode(sources)
    assert found == [expected(one, facts) for one in sources]
    assert [one.sizes.tolist() for one in found] == [[[32, 64]], [[16, 32]]]


def test_a_folder_is_its_pictures(server: Any, connect: Any, tmp_path: Path) -> None:
    pictures = [picture(seed, (32, 32)) for seed in range(3)]
    for number, pixels in enumerate(pictures):
        (tmp_path / f"{number}.png").write_bytes(png(pixels))
    assert connect(server).encode(tmp_path) == [expected(one) for one in pictures]


def test_an_iterator_is_read_at_once_in_order_and_bounded(server: Any, connect: Any) -> None:
    taken = 0

    def pictures() -> Iterator[Any]:
        nonlocal taken
        shared = np.empty((32, 32, 3), np.uint8)
        for number in range(40):
            taken += 1
            shared[:] = number  # as a camera's buffer, used again for each
            yield shared

    client = connect(server, per_request=2, concurrency=3)
    found = client.encode_many(pictures())
    assert next(found) == expected(np.full((32, 32, 3), 0, np.uint8))
    # Three requests of two, the next one, and one picture that did not fit into it.
    assert taken <= 2 * (3 + 1) + 1
    assert list(found) == [expected(np.full((32, 32, 3), one, np.uint8)) for one in range(1, 40)]
    assert server.at_once <= 3


def test_an_iterator_may_wait_for_an_event_loop(server: Any) -> None:
    import asyncio
    import threading

    from vqtok.serve import AsyncClient

    async def main() -> list[Codes]:
        event = threading.Event()

        def pictures() -> Iterator[Any]:
            yield WIDE
            assert event.wait(10), "the loop is held up"
            yield WIDE

        async with AsyncClient(server.url) as client:
            doing = asyncio.create_task(client.encode(pictures()))
            while not server.asked:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            event.set()
            return await doing

    assert asyncio.run(main()) == [expected(WIDE)] * 2


def test_an_iterator_runs_in_the_thread_that_asks(server: Any) -> None:
    import threading

    from vqtok.serve import Client

    threads = set()

    def pictures() -> Iterator[Any]:
        for _ in range(3):
            threads.add(threading.current_thread())
            yield WIDE

    with Client(server.url, per_request=1) as client:
        assert len(client.encode(pictures())) == len(list(client.encode_many(pictures()))) == 3
    assert threads == {threading.current_thread()}


def test_an_iterator_that_fails(server: Any, connect: Any) -> None:
    def pictures() -> Iterator[Any]:
        yield WIDE
        raise KeyError("mine")

    client = connect(server, per_request=1)
    with pytest.raises(KeyError, match="mine"):
        client.encode(pictures())
    with pytest.raises(KeyError, match="mine"):
        list(client.encode_many(pictures()))


def test_order_is_kept_whatever_comes_first(server: Any, connect: Any) -> None:
    import time

    server.script.extend([lambda asked, n=n: time.sleep(0.15 / (1 + n)) for n in range(8)])
    pictures = [picture(seed, (32, 32)) for seed in range(8)]
    client = connect(server, per_request=1, concurrency=8)
    assert client.encode(pictures) == [expected(one) for one in pictures]
    assert server.at_once > 1


def test_requests_are_cut_by_count_and_bytes(serve: Any, connect: Any) -> None:
    pictures = [picture(seed, (32, 32)) for seed in range(7)]
    with serve(FACTS, Limits(max_images=3)) as server:
        connect(server).encode(pictures)
        assert sorted(one.headers["x-vqtok-shape"] for one in server.posts) == [
            "3,32,32,3",
            "3,32,32,3",
            "32,32,3",
        ]
    with serve(FACTS, Limits(max_body=14_000)) as server:
        connect(server).encode(pictures)
        assert max(len(one.body) for one in server.posts) == 2 * 32 * 32 * 3


def test_a_request_that_is_too_large_for_somebody_is_halved(
    server: Any, connect: Any, told: Any
) -> None:
    def proxy(asked: Any) -> Any:
        large = len(asked.body) > 7000
        return told(413)._replace(body=b"<html>") if large else None

    server.script.extend([proxy] * 20)
    pictures = [picture(seed, (32, 32)) for seed in range(8)]
    assert connect(server).encode(pictures) == [expected(one) for one in pictures]
    assert [len(one.body) // 3072 for one in server.posts] == [8, 4, 2, 2, 4, 2, 2]


def test_pixels_of_one_shape_are_not_halved_for_their_size(
    server: Any, connect: Any, told: Any
) -> None:
    pictures = [picture(seed, (32, 32)) for seed in range(8)]
    said = "picture 0 is 32 wide and 32 high; at most 9 pixels are taken"
    server.script.extend([told(413, "too_many_pixels", said)] * 20)
    found = connect(server).encode(pictures, on_error="return")
    assert [str(one) for one in found] == [
        said.replace("picture 0", f"picture {index}") for index in range(8)
    ]
    assert len(server.posts) == 1


def test_one_of_many_with_too_many_pixels_is_found(server: Any, connect: Any, refuse: Any) -> None:
    pictures = [picture(seed, (32, 32)) for seed in range(3)] + [picture(9, (48, 32))]
    server.script.extend([refuse(413, "too_many_pixels", pictures[3].tobytes())] * 20)
    found = connect(server).encode(pictures, on_error="return")
    assert found[:3] == [expected(one) for one in pictures[:3]]
    assert str(found[3]) == "picture 3: it is refused"
    assert len(server.posts) == 5


def test_later_requests_are_made_smaller_at_once(server: Any, connect: Any, told: Any) -> None:
    def proxy(asked: Any) -> Any:
        return told(413) if len(asked.body) > 500_000 else None

    server.script.extend([proxy] * 20)
    connect(server, per_request=4, concurrency=1).encode([picture(1)] * 12)
    # The second part was there when the first was refused.
    assert [len(one.body) // (3 << 16) for one in server.posts] == [4, 2, 2, 4, 2, 2, 2, 2]


def test_a_picture_that_is_too_large_is_not_sent(serve: Any, connect: Any) -> None:
    with serve(FACTS, Limits(max_pixels=1000)) as server:
        with pytest.raises(ImageError) as error:
            connect(server).encode([WIDE, WIDE])
        assert str(error.value) == (
            "picture 0 is 70 wide and 40 high, 2800 pixels; at most 1000 are taken"
        )
        assert server.posts == []


# --- what fails ----------------------------------------------------------------------------------


def test_a_picture_that_is_none_is_named(server: Any, connect: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(png(WIDE)[:400])
    client = connect(server)
    with pytest.raises(LoadError) as missing:
        client.encode([WIDE, tmp_path / "none.png"])
    assert str(missing.value) == f"there is no file '{tmp_path / 'none.png'}'"
    with pytest.raises(ImageError) as error:
        client.encode([WIDE, b"nothing"])
    assert str(error.value) == "picture 1 is not a picture in a format that Pillow reads here"
    with pytest.raises(ImageError) as shape:
        client.encode([WIDE, np.zeros((2, 2, 2), np.uint8)])
    assert str(shape.value) == (
        "picture 1 is an array of shape (2, 2, 2); a picture is (H, W), (H, W, 1), (H, W, 3) or "
        "(H, W, 4)"
    )


def test_what_the_server_says_of_a_picture_is_said_of_the_callers(
    server: Any, connect: Any
) -> None:
    server.spoil = {7: Failure(400, "not_a_picture", "picture 1 is broken or cut short: why")}
    spoilt = np.full((32, 32, 3), 7, np.uint8)
    client = connect(server, per_request=2)
    with pytest.raises(ImageError) as error:
        client.encode([WIDE[:32, :32]] * 5 + [spoilt])
    assert str(error.value) == "picture 5 is broken or cut short: why"
    cause = error.value.__cause__
    assert isinstance(cause, ServiceError)
    assert (cause.status, cause.code) == (400, "not_a_picture")


def test_a_failure_can_stand_in_the_list(server: Any, connect: Any) -> None:
    server.spoil = {7: Failure(413, "too_large", "too many pixels")}
    good, spoilt = picture(1, (32, 32), (1, 1, 1)), np.full((32, 32, 3), 7, np.uint8)
    sources = [good, spoilt, b"nothing", good]
    found = connect(server).encode(sources, on_error="return")
    assert [type(one) for one in found] == [Codes, ImageError, ImageError, Codes]
    assert str(found[1]) == "picture 1: too many pixels"
    assert str(found[2]) == "picture 2 is not a picture in a format that Pillow reads here"
    many = list(connect(server).encode_many(iter(sources), on_error="return"))
    assert [str(one) for one in many] == [str(one) for one in found]


def test_one_culprit_in_a_request_that_is_refused_whole(
    server: Any, connect: Any, refuse: Any
) -> None:
    spoilt = np.full((32, 32, 3), 7, np.uint8)
    pictures = [picture(seed, (32, 32), (1, 1, 1)) for seed in range(5)] + [spoilt]
    server.script.extend([refuse(422, "wrong_shape", spoilt.tobytes())] * 20)
    found = connect(server).encode(pictures, on_error="return")
    assert found[:5] == [expected(one) for one in pictures[:5]]
    assert str(found[5]) == "picture 5: it is refused"


def test_a_failure_that_may_pass_is_asked_for_again(server: Any, connect: Any, waits: Any) -> None:
    server.spoil = {7: Failure(504, "deadline", "too late")}
    pictures = [picture(1, (32, 32), (1, 1, 1)), np.full((32, 32, 3), 7, np.uint8)]

    def recovered(asked: Any) -> None:
        server.spoil = {}

    server.script.extend([None, recovered])
    assert connect(server).encode(pictures) == [expected(one) for one in pictures]
    assert [one.headers["x-vqtok-shape"] for one in server.posts] == ["2,32,32,3", "32,32,3"]
    assert len(waits) == 1


def test_a_failure_that_does_not_pass(server: Any, connect: Any, waits: Any) -> None:
    server.spoil = {7: Failure(504, "deadline", "too late")}
    pictures = [picture(1, (32, 32), (1, 1, 1)), np.full((32, 32, 3), 7, np.uint8)]
    with pytest.raises(ServiceError) as error:
        connect(server).encode(pictures)
    assert str(error.value) == f"picture 1: {server.url} answered 504 deadline: too late"
    assert (error.value.status, error.value.code) == (504, "deadline")


def test_options_that_are_none(server: Any, connect: Any) -> None:
    client = connect(server)
    with pytest.raises(InputError) as error:
        client.encode(WIDE, on_error="ignore")
    assert str(error.value) == "on_error is 'raise' or 'return'; got 'ignore'"
    with pytest.raises(InputError) as kind:
        client.decode([], output_type="jpg")
    assert str(kind.value) == "output_type is 'pil', 'np' or 'pt'; got 'jpg'"


# --- the way back --------------------------------------------------------------------------------


def test_codes_become_pictures(server: Any, connect: Any) -> None:
    client = connect(server)
    sources = [picture(seed, (32, 32)) for seed in range(3)]
    codes = client.encode(sources)
    shown = [pixels_of(one.ids[0]) for one in codes]
    found = client.decode(codes, output_type="np")
    assert all(map(np.array_equal, found, shown))
    assert found[0].flags.writeable
    (alone,) = client.decode([codes[0]])
    assert np.array_equal(np.asarray(client.decode(codes[0])), shown[0])
    assert np.array_equal(np.asarray(alone), shown[0])
    tensor = client.decode(codes[0], output_type="pt")
    assert tensor.shape == (3, 32, 32)
    assert np.array_equal(tensor.permute(1, 2, 0).numpy(), shown[0])


def test_codes_in_any_layout_of_memory(server: Any, connect: Any) -> None:
    ids = np.asfortranarray(np.arange(16).reshape(2, 4, 2).swapaxes(1, 2))
    codes = Codes(ids, np.zeros((2, 2), np.int32), 4096)
    found = connect(server).decode(codes, output_type="np")
    assert all(map(np.array_equal, found, map(pixels_of, ids)))


@pytest.mark.parametrize("kind", ["array", "tensor", "batch", "list", "grids"])
def test_grids_without_codes_around_them(server: Any, connect: Any, kind: str) -> None:
    client = connect(server)
    ids = np.arange(8, dtype=np.int64).reshape(2, 2, 2)
    given = {
        "array": ids[0],
        "tensor": torch.from_numpy(ids[0]),
        "batch": ids,
        "list": list(ids),
        "grids": Codes(ids, np.zeros((2, 2), np.int32), 4096),
    }[kind]
    found = client.decode(given, output_type="np")
    if kind in ("array", "tensor"):
        assert np.array_equal(found, pixels_of(ids[0]))
    else:
        assert all(map(np.array_equal, found, map(pixels_of, ids)))


def test_a_picture_comes_back_with_its_own_size(serve: Any, connect: Any) -> None:
    with serve(stub_facts(size=None)) as server:
        client = connect(server)
        codes = [
            Codes(np.ones((1, 2, 3), np.int64), np.array([size], np.int32), 4096)
            for size in ((20, 40), (32, 48))
        ]
        found = client.decode(codes, output_type="np")
        assert [one.shape for one in found] == [(20, 40, 3), (32, 48, 3)]


def test_codes_of_another_codebook(server: Any, connect: Any, refuse: Any) -> None:
    client = connect(server)
    said = "these codes were made with the codebook aaaa and cannot be decoded by 2222"
    server.script.append(refuse(409, "codebook_mismatch", b"", said))
    codes = Codes(np.ones((1, 2, 2), np.int64), np.zeros((1, 2), np.int32), 4096, "a" * 64)
    with pytest.raises(MismatchError) as error:
        client.decode(codes)
    assert str(error.value) == said
    assert b"a" * 64 in server.posts[0].body


def test_a_code_out_of_range_is_the_codes_fault(server: Any, connect: Any) -> None:
    client = connect(server)
    codes = [
        Codes(np.full((1, 2, 2), value), np.zeros((1, 2), np.int32), 9999) for value in (1, 5000)
    ]
    server.script.append(None)
    with pytest.raises(CodesError) as error:
        client.decode([one.ids[0] for one in codes])
    assert str(error.value) == (
        "picture 1: the code at [0, 0] is 5000; codes of this tokenizer are 0 to 4095"
    )


def test_nested_lists_are_grids_as_http_has_it(server: Any, connect: Any) -> None:
    client = connect(server)
    grids = [[[5, 6], [7, 8]], [[1, 2], [3, 4]]]
    one = client.decode(grids[0], output_type="np")
    assert np.array_equal(one, pixels_of(np.array(grids[0])))
    for several in (grids, tuple(grids), [grids[0], np.array(grids[1])]):
        found = client.decode(several, output_type="np")
        assert isinstance(found, list)
        assert all(map(np.array_equal, found, map(pixels_of, map(np.array, grids))))
    other = [[[5]], [[1, 2]]]
    found = client.decode(other, output_type="np")
    assert [one.shape for one in found] == [(16, 16, 3), (16, 32, 3)]


AXES = "of one picture have 2 axes here, those of several 3; got the shape"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([607], f"codes {AXES} (1,)"),
        ([[[[1]]]], f"codes {AXES} (1, 1, 1, 1)"),
        ([[5, 6], [7]], "a grid of codes is rows of one length, and these are not"),
        ([[5, "a"]], "codes are rows of whole numbers; got <U21"),
        ([[5, 4096]], "the code at [0, 1] is 4096; codes of this tokenizer are 0 to 4095"),
        (
            [[[5]], [[-1]]],
            "picture 1: the code at [0, 0] is -1; codes of this tokenizer are 0 to 4095",
        ),
        (
            np.full((2, 1, 1), 5000),
            "picture 0: the code at [0, 0] is 5000; codes of this tokenizer are 0 to 4095",
        ),
        (
            np.zeros((16, 16)),
            "latents of one picture have 3 axes here, those of several 4; got the shape (16, 16); "
            "codes are whole numbers, and these are float64",
        ),
    ],
    ids=range(8),
)
def test_arrays_and_lists_that_are_no_codes(
    server: Any, connect: Any, given: Any, said: str
) -> None:
    with pytest.raises(CodesError) as error:
        connect(server).decode(given)
    assert str(error.value) == said


@pytest.mark.parametrize("given", [True, "a.npy", b"abc", None])
def test_what_is_no_grid(server: Any, connect: Any, given: Any) -> None:
    for codes in (given, [given]):
        with pytest.raises(CodesError) as error:
            connect(server).decode(codes)
        assert str(error.value) == f"grids of codes come as a list or as `Codes`; got {given!r}"


def test_latents_and_back(server: Any, connect: Any) -> None:
    client = connect(server)
    sources = [picture(seed, (32, 32)) for seed in range(2)]
    shown = [latents_of(corners(one, False)) for one in sources]
    found = client.latents(sources)
    assert all(map(np.array_equal, (one.values for one in found), shown))
    assert [one.size for one in found] == [(32, 32)] * 2
    assert np.array_equal(client.latents(sources[0]).values, shown[0])
    back = client.decode(found, output_type="np")
    again = [pixels_of(one.ids[0]) for one in client.encode(sources)]
    assert all(map(np.array_equal, back, again))
    assert np.array_equal(client.decode(found[0], output_type="np"), again[0])
    assert np.array_equal(client.decode(found[0].values, output_type="np"), again[0])


def test_latents_remember_their_size(serve: Any, connect: Any) -> None:
    clip, wide = picture(1, (FRAMES + 1, 32, 32)), picture(1, (40, 70))
    for facts, source in (
        (stub_facts(size=32, video=True), clip),
        (stub_facts(size=None), wide),
    ):
        with serve(facts) as server:
            client = connect(server)
            back = client.decode(client.latents(source), output_type="np")
            assert np.array_equal(back, client.reconstruct(source, output_type="np"))
            (alone,) = client.decode([client.latents(source)], output_type="np")
            assert np.array_equal(alone, back)


def test_reconstructions(server: Any, connect: Any) -> None:
    client = connect(server)
    source = picture(1, (32, 32))
    shown = pixels_of(codes_of(corners(source, False)))
    assert np.array_equal(np.asarray(client.reconstruct(source)), shown)
    (found,) = client.reconstruct([source], output_type="np")
    assert np.array_equal(found, shown)


# --- clips ---------------------------------------------------------------------------------------


def test_clips_go_one_by_one(serve: Any, connect: Any) -> None:
    with serve(stub_facts(size=32, video=True)) as server:
        client = connect(server)
        clips = [picture(seed, (2 * FRAMES, 32, 32)) for seed in range(2)]
        found = client.encode(clips)
        assert client.encode(list(clips[0])) == client.encode(clips[0]) == found[0]
        for one, clip in zip(found, clips, strict=True):
            assert np.array_equal(one.ids[0], codes_of(corners(clip, True)))
            assert one.sizes.tolist() == [[2 * FRAMES, 32, 32]]
        (frames,) = client.decode([found[0]])
        assert [frame.size for frame in frames] == [(32, 32)] * 2 * FRAMES
        assert client.decode(found[0], output_type="pt").shape == (2 * FRAMES, 3, 32, 32)
        sent = [one.headers["x-vqtok-shape"] for one in server.posts if "encode" in one.path]
        assert sent == [f"{2 * FRAMES},32,32,3"] * 4


def test_a_video_goes_as_a_file(serve: Any, connect: Any, refuse: Any, tmp_path: Path) -> None:
    movie = b"\0\0\0\x20ftypisom" + bytes(40)
    (tmp_path / "a.mp4").write_bytes(movie)
    with serve(stub_facts(size=32, video=True)) as server:
        server.script.append(refuse(415, "unsupported_media_type", b"", "the clip is unknown"))
        with pytest.raises(ImageError) as error:
            connect(server).encode(tmp_path / "a.mp4")
    assert str(error.value) == f"'{tmp_path / 'a.mp4'}' is unknown"
    assert (server.posts[0].headers["content-type"], server.posts[0].body) == ("video/mp4", movie)


def test_asynchronous_iterables(server: Any) -> None:
    import asyncio

    from vqtok.serve import AsyncClient

    pictures = [picture(seed, (32, 32)) for seed in range(5)]

    async def source() -> Any:
        for one in pictures:
            await asyncio.sleep(0)
            yield one

    async def main() -> list[Codes]:
        async with AsyncClient(server.url, per_request=2) as client:
            assert await client.encode(source()) == [expected(one) for one in pictures]
            return [one async for one in client.encode_many(source())]

    assert asyncio.run(main()) == [expected(one) for one in pictures]
