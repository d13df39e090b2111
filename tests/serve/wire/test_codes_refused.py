"""Codes and latents that are none, and what is said of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import orjson
import pytest
import safetensors.numpy
from wire_bodies import JSON, NPY, PRINT, SAFETENSORS, codes_of, jsoned, npy, space

from vqtok.serve.wire import (
    CARRIERS,
    Failure,
    Head,
    Limits,
    Space,
    WireError,
    read_tokens,
    row_of,
    write_tokens,
)
from vqtok.types import Codes

LIMITS = Limits()
FAILED = Failure(400, "not_a_picture", "picture 1 is no picture")


def refused(headers: dict[str, str], body: bytes, there: Space | None = None) -> tuple[str, str]:
    with pytest.raises(WireError) as error:
        read_tokens(headers, body, there or space(), LIMITS)
    return error.value.code, str(error.value)


def failed(headers: dict[str, str], body: bytes, there: Space | None = None) -> Failure:
    failures = read_tokens(headers, body, there or space(), LIMITS)
    return next(one for one in failures if isinstance(one, Failure))


def test_a_code_out_of_range_is_named_with_its_place() -> None:
    assert failed(*jsoned(codes=[[0, 1], [16, 2]])) == Failure(
        422,
        "code_out_of_range",
        "the code at [1, 0] is 16; codes of this tokenizer are 0 to 15",
    )
    good, bad = read_tokens(*jsoned(codes=[[[0]], [[-1]]]), space(), LIMITS)
    assert good == codes_of([[0]], space())
    assert bad == Failure(
        422,
        "code_out_of_range",
        "picture 1: the code at [0, 0] is -1; codes of this tokenizer are 0 to 15",
    )


def test_codes_of_another_codebook_are_refused_with_both() -> None:
    other = "e" * 64
    said = (
        "codebook_mismatch",
        f"these codes were made with the codebook {other} and cannot be decoded by a tokenizer "
        f"whose codebook is {PRINT.codebook}",
    )
    headers, body = jsoned(codes=[[0]])
    assert refused({**headers, "x-vqtok-codebook": other}, body) == said
    theirs = replace(PRINT, codebook=other)
    assert refused(*jsoned(codes=[[0]], codebook=other)) == said
    assert refused(*jsoned(codes=[[0]], fingerprint=theirs.to_dict())) == said
    for media in CARRIERS:
        codes = replace(codes_of([[0]], space()), codebook=other)
        body, headers = write_tokens([row_of(codes)], Head(theirs, other, 16), media)
        assert refused(headers, body) == said
        body, headers = write_tokens([row_of(codes)], Head(None, other), media)
        assert refused(headers, body) == said


@pytest.mark.parametrize("media", CARRIERS)
def test_codes_of_a_codebook_of_another_size_are_refused(media: str) -> None:
    rows = [row_of(codes_of([[0]], space()))]
    body, headers = write_tokens(rows, Head(codebook_size=32), media)
    assert refused(headers, body) == (
        "codebook_mismatch",
        "these codes were made with a codebook of 32 codes and cannot be decoded by a tokenizer "
        "whose codebook has 16",
    )


def test_media_that_hold_one_array_say_so() -> None:
    rows = [row_of(codes_of(ids, space())) for ids in ([[0]], [[0, 1]])]
    with pytest.raises(WireError) as error:
        write_tokens(rows, Head(PRINT), NPY)
    assert (error.value.code, str(error.value)) == (
        "not_acceptable",
        "application/x-npy is one array, and these codes have 2 shapes; ask for "
        "application/safetensors or application/json",
    )


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("", "empty", "the body is empty; codes are sent in it"),
        (
            "[[0]]",
            "bad_json",
            "the body is JSON, but a list; an object is needed, such as "
            '{"codes": [[0, 1], [2, 3]]}',
        ),
        (
            '{"code": [[0]]}',
            "missing_part",
            "the JSON has no 'codes' and no 'latents'; it has 'code'. Did you mean 'codes'? "
            "Known: codes, latents, pictures.",
        ),
        (
            '{"codes": [[NaN]]}',
            "bad_json",
            "the body is not JSON: ",  # and what orjson says, which differs with its version
        ),
        (
            '{"codes": [[0]]}\n{"codes": [[1]]}\n',
            "bad_json",
            "the body is several lines of JSON; send it with content-type: application/jsonl",
        ),
        ('{"codes": [[0]]}\nx', "bad_json", "the body is several lines of JSON; "),
        ('{"codes"\n: [[0]]} {}', "bad_json", "the body is not JSON: "),
        ('{"schema": "x", "codes": [[0]]}', "bad_json", "'schema' is 'vqtok-wire/1' here; got 'x'"),
        ('{"pictures": {}}', "bad_json", "'pictures' is a list of objects, one a picture"),
        ('{"pictures": []}', "empty", "the body holds no picture's codes"),
        (
            '{"codes": [[0]], "codebook": "abc"}',
            "bad_json",
            "'codebook' is the codebook's sha256, 64 digits; got 'abc'",
        ),
        (
            '{"codes": [[0]], "depth": true}',
            "bad_json",
            "'depth' is a whole number; got True",
        ),
        (
            '{"codes": [0, 1]}',
            "wrong_shape",
            "codes of one picture have the shape (h, w), those of several one axis before these; "
            "got an array of 1 axes",
        ),
        (
            '{"codes": 5}',
            "wrong_shape",
            "codes of one picture have the shape (h, w), those of several one axis before these; "
            "got an array of 0 axes",
        ),
        (
            '{"codes": ' + "[" * 20 + "0" + "]" * 20 + "}",
            "wrong_shape",
            "lists are more than 8 deep",
        ),
        (
            '{"codes": [' + "[[0]]," * 300 + "[[0]]]}",
            "too_many_images",
            "the body holds 301 pictures; at most 256 are taken at once",
        ),
        (
            "[" + "0," * (1 << 21) + "0]",
            "too_large",
            "JSON of more than 2097152 values is not read; send application/x-npy or "
            "application/safetensors",
        ),
    ],
    ids=range(17),
)
def test_json_that_is_none_of_ours(text: str, code: str, message: str) -> None:
    found = refused({"content-type": JSON}, text.encode())
    assert found[0] == code
    assert found[1].startswith(message) if message.endswith(" ") else found[1] == message


LINE = b'{"key":"a","size":[2,2],"grid":[1,1],"codebook":"","precision":"ieee32","codes":[[1]]}\n'


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (
            LINE + b"[]\n",
            "bad_json",
            "line 2: the body is JSON, but a list; an object is needed, such as "
            '{"codes": [[0, 1], [2, 3]]}',
        ),
        (
            LINE + b'{"pictures": []}',
            "bad_json",
            "line 2: a line is one picture, and this has 'pictures'",
        ),
        (
            LINE + LINE.replace(b'"codebook":""', b'"codebook":"' + b"e" * 64 + b'"'),
            "codebook_mismatch",
            "the lines name several codebooks; codes of one are taken at once",
        ),
        (
            LINE * 257,
            "too_many_images",
            "the body holds 257 pictures; at most 256 are taken at once",
        ),
        (b"\n\n", "empty", "the body holds no picture's codes"),
    ],
    ids=range(5),
)
def test_lines_that_are_none(body: bytes, code: str, message: str) -> None:
    assert refused({"content-type": "application/jsonl"}, body) == (code, message)


def test_a_wrong_code_in_a_line_is_named_with_its_picture() -> None:
    body = LINE + LINE.replace(b"[[1]]", b"[[16]]")
    assert failed({"content-type": "application/jsonl"}, body).message == (
        "picture 1: the code at [0, 0] is 16; codes of this tokenizer are 0 to 15"
    )


def test_an_answer_tells_its_dtype() -> None:
    headers = {"content-type": "application/octet-stream", "x-vqtok-shape": "1,1"}
    with pytest.raises(WireError) as error:
        read_tokens(headers, b"\0\0", space(), LIMITS, answer=True)
    assert str(error.value) == ("raw numbers do not tell their dtype: add the header x-vqtok-dtype")


@pytest.mark.parametrize(
    ("entry", "code", "message"),
    [
        (
            {"codes": [[0, 1], [2]]},
            "wrong_shape",
            "'codes' are rows of one length, and these are not",
        ),
        ({"codes": [[0], 1]}, "wrong_shape", "'codes' are rows of one length, and these are not"),
        (
            {"codes": [[0.5, "a", None, True]]},
            "not_codes",
            "'codes' are rows of whole numbers, as lists; got fractions and null and text and "
            "true or false",
        ),
        ({"codes": [[2**63]]}, "not_codes", "'codes' holds numbers of more than 63 bits"),
        ({"codes": [[0, 2**64]]}, "not_codes", "'codes' holds numbers of more than 63 bits"),
        ({"codes": [[], []]}, "wrong_shape", "there are no codes in the shape (2, 0)"),
        (
            {"codes": [[0, 1]], "grid": [2, 1]},
            "wrong_shape",
            "the grid is said to be [2, 1]; the codes have the shape [1, 2]",
        ),
        ({"codes": [[0]], "size": 5}, "bad_json", "'size' is a list of whole numbers; got 5"),
        (
            {"codes": [[0]], "size": [1, 2, 3]},
            "wrong_shape",
            "a size is height and width in pixels; got (1, 2, 3)",
        ),
        (
            {"codes": [[0]], "size": [1, 10**30]},
            "bad_json",
            "'size' is a list of whole numbers; got [1, 1e+30]",
        ),
        (
            {"codes": [[0]], "scales": [[1]]},
            "bad_json",
            "'scales' is a list of [height, width]; got [[1]]",
        ),
        (
            {"codes": [[0]], "scales": [[0, 1]]},
            "wrong_shape",
            "scales are the height and width of each grid, all at least 1, of codes with one a "
            "token; got ((0, 1),) and depth=0",
        ),
        (
            {"codes": [[0]], "scales": [[1, 1]] * 257},
            "wrong_shape",
            "there are 257 scales; at most 256 are taken",
        ),
        (
            {"codes": [[0]], "size": [1] * 1000},
            "wrong_shape",
            "a size is height and width in pixels; got (1, 1, 1, 1, 1, 1, ...)",
        ),
        ({"grid": [1]}, "missing_part", "there is no 'codes' or 'latents' of it"),
        (
            {"latents": [[[0, "x"]]] * 4},
            "bad_latents",
            "'latents' are rows of numbers, as lists; got text and whole numbers",
        ),
        (
            {"latents": [[[0.5]]]},
            "wrong_shape",
            "latents of one picture have the shape (4, h, w); got (1, 1, 1)",
        ),
        (
            {"latents": [[[1e300]]] * 4},
            "bad_latents",
            "the number at [0, 0, 0] is NaN or infinite in float32",
        ),
        (
            {"error": {"status": 500, "code": "internal", "message": "it is none"}},
            "missing_part",
            "there is nothing of it but an error: 'it is none'",
        ),
        (
            {"error": 7, "status": 9},
            "missing_part",
            "there is nothing of it but an error: 'it failed'",
        ),
    ],
    ids=range(20),
)
def test_a_picture_among_others_that_is_none(
    entry: dict[str, object], code: str, message: str
) -> None:
    failure = failed(*jsoned(pictures=[entry]))
    assert (failure.code, failure.message) == (code, message)
    assert failure.status in (400, 422)
    both = read_tokens(*jsoned(pictures=[entry, {"codes": [[1]]}]), space(), LIMITS)
    assert both[1] == codes_of([[1]], space())
    assert both[0] == failure.named("picture 0")


def test_an_answer_with_failures_can_be_posted_again() -> None:
    rows = [FAILED, row_of(codes_of([[1]], space()))]
    body, headers = write_tokens(rows, Head(PRINT, PRINT.codebook, 16), JSON)
    assert orjson.loads(body)["pictures"][0] == {"status": 400, "error": FAILED._asdict()}
    good = codes_of([[1]], space())
    assert read_tokens(headers, body, space(), LIMITS) == [FAILED.posted.named("picture 0"), good]
    assert read_tokens(headers, body, space(), LIMITS, answer=True) == [FAILED, good]


def test_latents_are_refused_where_there_are_none() -> None:
    there = space(latent_channels=None)
    assert refused(*jsoned(latents=[[[0.5]]]), there) == (
        "missing_part",
        "the JSON has no 'codes'; it has 'latents'. Known: codes, pictures.",
    )
    floats = npy(np.zeros((1, 2), np.float32))
    assert failed({"content-type": NPY}, floats, there) == Failure(
        422, "not_codes", "codes are whole numbers; got float32"
    )


def test_scales_are_counted_before_they_are_read() -> None:
    told = ("wrong_shape", "there are 300000 scales; at most 256 are taken")
    failure = failed(*jsoned(codes=[[0]], scales=["none"] * 300_000))
    assert (failure.code, failure.message) == told
    body = safetensors.numpy.save(
        {"codes": np.zeros((1, 1), np.uint16)}, {"scales": ",".join(["0"] * 300_000)}
    )
    assert refused({"content-type": SAFETENSORS}, body) == told


def test_a_size_that_pictures_share_is_read_no_further_than_sizes_go() -> None:
    body = {"codes": [[[0]], [[1]]], "size": [*range(9), *["none"] * 1000]}
    first, second = read_tokens(*jsoned(**body), space(), LIMITS)
    for index, one in enumerate((first, second)):
        assert one == Failure(
            422,
            "wrong_shape",
            f"picture {index}: a size is height and width in pixels; got (0, 1, 2, 3, 4, 5, ...)",
        )


def test_sizes_of_clips_and_of_pictures_that_are_clips() -> None:
    there = space(axes=3, video=True)
    for size in ([8, 8], [1, 8, 8]):
        (codes,) = read_tokens(*jsoned(codes=[[0]], size=size), there, LIMITS)
        assert isinstance(codes, Codes)
        assert codes.sizes.tolist() == [size]
    assert failed(*jsoned(codes=[[0]], size=[8]), there) == Failure(
        422,
        "wrong_shape",
        "a size is height and width, of a clip the frames before them, in pixels; got (8,)",
    )
