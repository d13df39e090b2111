"""Pictures and clips that come in, in every medium."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from wire_bodies import (
    LIMITS,
    NPY,
    PNG,
    RAW,
    SAFETENSORS,
    b64,
    form,
    jsoned,
    noise,
    npy,
    part,
    png,
    raw,
)

from vqtok.serve.wire import (
    Failure,
    WireError,
    picture_reader,
    read_pictures,
)


def test_a_file_is_handed_on_as_it_came() -> None:
    data = png()
    assert read_pictures({"content-type": "image/png"}, data, LIMITS) == [
        (data, "the picture", False)
    ]
    assert read_pictures({"content-type": "image/jpeg"}, data, LIMITS)[0].data == data


@pytest.mark.parametrize(
    "data", [b"%!PS-Adobe", b"#EXTM3U\nhttp://internal/", b"ffconcat version 1.0", b"8BPS", b""]
)
def test_files_of_other_kinds_reach_no_decoder(data: bytes) -> None:
    uploads = read_pictures(*form(part(data), part(png())), LIMITS)
    start = f"begins with {data[:8].hex(' ')}" if data else "is empty"
    assert uploads[0].data == Failure(
        400,
        "not_a_picture",
        "picture 0 (cat.png) is in no format that is taken (jpeg, png, webp, gif, bmp, tiff, avif; "
        f"clips: mp4, mov, webm, mkv, avi, mpeg): it {start}",
    )
    assert uploads[1].data == png()


HEIC = (b"heic", b"heix", b"hevc", b"mif1")


@pytest.mark.parametrize("brand", HEIC)
@pytest.mark.parametrize("media", ["", "image/jpeg", "image/*", RAW])
def test_heic_is_told_by_its_name(brand: bytes, media: str) -> None:
    headers = {"content-type": media} if media else {}
    body = b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1miaf" + bytes(50)
    (upload,) = read_pictures(headers, body, LIMITS, video=True)
    said = "the picture is HEIC, which is not taken; send JPEG, PNG or WebP"
    assert upload.data == Failure(400, "not_a_picture", said)


def test_avif_of_a_general_brand_is_no_heic() -> None:
    body = b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif" + bytes(50)
    assert read_pictures({"content-type": "image/avif"}, body, LIMITS)[0] == (
        body,
        "the picture",
        False,
    )


@pytest.mark.parametrize("headers", [{}, {"content-type": ""}, {"content-type": RAW}])
def test_what_a_body_is_can_be_told_by_its_first_bytes(headers: dict[str, str]) -> None:
    pixels = noise(2, 3, 3)
    _, document = jsoned(images=[b64(png())])
    assert read_pictures(headers, png(), LIMITS)[0].data == png()
    assert read_pictures(headers, b"\n " + document, LIMITS)[0].data == png()
    for body in (npy(pixels), safetensors.numpy.save({"pixels": pixels})):
        found: Any = read_pictures(headers, body, LIMITS)[0].data
        assert np.array_equal(found, pixels)


def test_a_body_that_nobody_knows_is_refused() -> None:
    with pytest.raises(WireError) as error:
        read_pictures({}, b"hello", LIMITS)
    assert (error.value.code, str(error.value)) == (
        "unsupported_media_type",
        "the request does not say what it sends; add -H 'content-type: image/jpeg': this takes "
        "pictures (image/jpeg, ...), clips (video/mp4, ...), application/octet-stream, "
        "application/x-npy, application/safetensors, application/json, multipart/form-data",
    )
    with pytest.raises(WireError) as encoding:
        read_pictures({"content-encoding": "gzip"}, png(), LIMITS)
    assert encoding.value.code == "unsupported_encoding"


@pytest.mark.parametrize("video", [False, True])
@pytest.mark.parametrize("media", [NPY, SAFETENSORS, RAW])
def test_arrays_are_pictures_or_clips(media: str, video: bool) -> None:
    def uploads(*shape: int) -> list[tuple[Any, str, bool]]:
        array = noise(*shape)
        body = {
            NPY: lambda: npy(array),
            SAFETENSORS: lambda: safetensors.numpy.save({"pixels": array}),
            RAW: array.tobytes,
        }[media]()
        headers = raw(",".join(map(str, shape))) if media == RAW else {"content-type": media}
        return [
            (data.tolist(), name, clip)  # type: ignore[union-attr]
            for data, name, clip in read_pictures(headers, body, LIMITS, video=video)
        ]

    one, four, five = noise(2, 1, 3).tolist(), noise(2, 2, 1, 3), noise(2, 2, 2, 1, 3)
    assert uploads(2, 1, 3) == [(one, "the picture", False)]
    if video:
        assert uploads(2, 2, 1, 3) == [(four.tolist(), "the picture", True)]
        named = zip(five.tolist(), ("picture 0", "picture 1"), strict=True)
        assert uploads(2, 2, 2, 1, 3) == [(clip, name, True) for clip, name in named]
    else:
        named = zip(four.tolist(), ("picture 0", "picture 1"), strict=True)
        assert uploads(2, 2, 1, 3) == [(picture, name, False) for picture, name in named]


def test_raw_pixels_tell_their_shape_before_they_come() -> None:
    reader = picture_reader(raw("2,4,5,3"), LIMITS)
    assert (reader.count, reader.shape) == (2, (4, 5, 3))
    pixels = noise(2, 4, 5, 3)
    body = pixels.tobytes()
    assert reader.feed(body[:60]) != []
    assert len(reader.feed(body[60:])) == 1
    assert reader.end() == []


def test_json_takes_files_data_urls_and_frames() -> None:
    data = png()
    uploads = read_pictures(
        *jsoned(images=[b64(data), "data:image/png;base64," + b64(data)]), LIMITS
    )
    assert uploads == [(data, "picture 0", False), (data, "picture 1", False)]
    assert read_pictures(*jsoned(image=b64(data)), LIMITS) == [(data, "the picture", False)]
    clip = jsoned(pictures=[{"frames": [b64(data)] * 2}])
    assert read_pictures(*clip, LIMITS) == [([data, data], "the picture", True)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"images": [5]},
            "the picture: a picture in JSON is a file in base64; got 5",
        ),
        (
            {"images": ["a b"]},
            "the picture: a picture in JSON is a file in base64: Only base64 data is allowed",
        ),
        ({"pictures": [{}]}, "the picture: a picture in JSON is a file in base64; got None"),
        (
            {"pictures": [{"codes": [[1]], "grid": [1, 1]}]},
            "the picture: these are codes; /v1/decode takes them",
        ),
        (
            {"pictures": [{"latents": [[[0.5]]]}]},
            "the picture: these are latents; /v1/decode takes them",
        ),
        ({"frames": "R0"}, "the picture: 'frames' is a list of files in base64"),
        ({"frames": [""] * 6}, "the picture has 6 frames; at most 5 are taken"),
    ],
    ids=range(7),
)
def test_pictures_in_json_that_are_none(fields: Any, message: str) -> None:
    (upload,) = read_pictures(*jsoned(**fields), LIMITS)
    assert isinstance(upload.data, Failure)
    assert upload.data.message == message


@pytest.mark.parametrize(
    ("headers", "body", "code", "message"),
    [
        (
            {"content-type": PNG},
            b"",
            "empty",
            "the body is empty; a picture is sent in it",
        ),
        (
            {"content-type": PNG},
            bytes(100_001),
            "too_large",
            "the body has more than the 100000 bytes that are taken at once",
        ),
        (
            {"content-type": RAW},
            b"x",
            "missing_header",
            "raw pixels do not tell their shape; for a file send its own content-type instead: add "
            "the header x-vqtok-shape",
        ),
        (
            raw("2,2,4"),
            b"",
            "wrong_shape",
            "x-vqtok-shape is (height, width, 3), of several pictures with their number before "
            "that; got '2,2,4'",
        ),
        (
            raw("1,1,3", **{"x-vqtok-dtype": "float32"}),
            b"",
            "bad_header",
            "raw pixels are uint8; got x-vqtok-dtype: 'float32'",
        ),
        (
            raw("9999999999,1,1,3"),
            b"",
            "too_many_images",
            "the body holds 9999999999 pictures or more; at most 4 are taken at once",
        ),
        (
            raw("99999,99999,3"),
            b"",
            "too_many_pixels",
            "the picture is 99999 wide and 99999 high, 9999800001 pixels; at most 1000 are taken",
        ),
        (
            raw("2,1,3"),
            b"12345",
            "truncated",
            "the body ends after 5 bytes; it is to be 6 bytes, as x-vqtok-shape says",
        ),
        (
            raw("2,1,3"),
            b"1234567",
            "wrong_shape",
            "the body is longer than 6 bytes, as x-vqtok-shape says",
        ),
        (
            {"content-type": NPY},
            npy(noise(5, 1, 1, 3)),
            "too_many_images",
            "the body holds 5 pictures or more; at most 4 are taken at once",
        ),
        (
            {"content-type": SAFETENSORS},
            safetensors.numpy.save({"pixel": noise(1, 1, 3)}),
            "missing_part",
            "the safetensors file needs a tensor 'pixels', or 'pixels.0', 'pixels.1' and so on; "
            "got 'pixel'",
        ),
        (*jsoned(images=[]), "empty", "the list of pictures is empty"),
        (*jsoned(images="R0"), "bad_json", "'images' is a list of files in base64"),
        (
            *jsoned(image_list=[]),
            "missing_part",
            "the JSON has no 'images' and no 'image' and no 'frames'; it has 'image_list'. Did you "
            "mean 'images'? Known: frames, image, images, pictures.",
        ),
    ],
    ids=range(14),
)
def test_bodies_that_are_none(headers: Any, body: bytes, code: str, message: str) -> None:
    with pytest.raises(WireError) as error:
        read_pictures(headers, body, LIMITS)
    assert (error.value.code, str(error.value)) == (code, message)


@pytest.mark.parametrize(
    ("array", "status", "message"),
    [
        (
            noise(2, 2),
            422,
            "the picture is (height, width, 3), of several pictures with their number before "
            "that; got an array of (2, 2)",
        ),
        (
            noise(40, 40, 3),
            413,
            "the picture is 40 wide and 40 high, 1600 pixels; at most 1000 are taken",
        ),
    ],
    ids=range(2),
)
def test_arrays_that_are_no_pictures(array: Any, status: int, message: str) -> None:
    (upload,) = read_pictures({"content-type": NPY}, npy(array), LIMITS)
    assert isinstance(upload.data, Failure)
    assert (upload.data.status, upload.data.message) == (status, message)


def test_clips_have_a_longest_length() -> None:
    (upload,) = read_pictures({"content-type": NPY}, npy(noise(6, 1, 1, 3)), LIMITS, video=True)
    assert upload.data == Failure(
        413, "too_many_frames", "the picture has 6 frames; at most 5 are taken"
    )


@pytest.mark.parametrize("part", ["codes", "latents"])
def test_codes_are_sent_elsewhere(part: str) -> None:
    with pytest.raises(WireError) as error:
        read_pictures(*jsoned(**{part: [[1, 2]]}), LIMITS)
    told = ("not_a_picture", f"these are {part}; /v1/decode takes them")
    assert (error.value.code, str(error.value)) == told
    with_pixels = jsoned(**{part: [[1, 2]], "image": "R0lGODlh"})
    assert read_pictures(*with_pixels, LIMITS)[0].data == b"GIF89a"
