"""The description of the HTTP interface is whole, true to the routes, and written down."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vqtok import __version__
from vqtok.serve.http.openapi import openapi, text
from vqtok.serve.http.openapi_parts import PICTURES_EXAMPLE, PNG, TOKENS_EXAMPLE
from vqtok.serve.wire import MEDIA, STATUS, Limits, Space, read_codes, read_pictures, read_pixels

COMMITTED = Path(__file__).parents[2] / "docs/spec/openapi.json"
AGAIN = (
    "python -c 'from vqtok.serve.http.openapi import text; print(text(), end=\"\")' "
    "> docs/spec/openapi.json"
)


def test_it_is_written_down() -> None:
    if not COMMITTED.is_file():
        pytest.skip("docs/ is not there, as where the package is tested installed")
    assert COMMITTED.read_text(encoding="utf-8") == text(), f"write it again: {AGAIN}"


def values(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node:
        if isinstance(child, dict | list):
            yield from values(child)


def resolved(document: dict[str, Any], pointer: str) -> Any:
    node: Any = document
    for name in pointer.removeprefix("#/").split("/"):
        node = node[name]
    return node


@pytest.mark.parametrize("auth", [False, True])
def test_every_reference_leads_somewhere_and_every_part_is_used(auth: bool) -> None:
    document = openapi(auth=auth)
    used = {node["$ref"] for node in values(document) if "$ref" in node}
    assert all(resolved(document, pointer) for pointer in used)
    parts = {
        f"#/components/{kind}/{name}"
        for kind, named in document["components"].items()
        if kind != "securitySchemes"
        for name in named
    }
    unused = {"#/components/responses/Error405", "#/components/headers/Allow"}
    if not auth:
        unused |= {"#/components/responses/Error401", "#/components/responses/Error404"}
    assert parts - used <= unused | {"#/components/responses/Error404"}


def test_operations_have_names_of_their_own() -> None:
    names = [node["operationId"] for node in values(openapi()) if "operationId" in node]
    assert len(names) == len(set(names)) == 16


def test_it_says_which_version_and_whose() -> None:
    info = openapi()["info"]
    assert info["version"] == __version__
    assert info["license"] == {"name": "Apache 2.0", "identifier": "Apache-2.0"}


def test_formats_are_those_that_each_answer_can_have() -> None:
    document = openapi()
    for verb, name in (("encode", "codes"), ("decode", "pictures"), ("reconstruct", "pictures")):
        operation = document["paths"][f"/v1/{verb}"]["post"]
        refs = [one["$ref"] for one in operation["parameters"]]
        assert [ref for ref in refs if "format" in ref] == [
            f"#/components/parameters/format_of_{name}"
        ]
        formats = resolved(document, f"#/components/parameters/format_of_{name}")["schema"]["enum"]
        answer = resolved(document, operation["responses"]["200"]["$ref"])
        assert {MEDIA[one][0] for one in formats} == answer["content"].keys()


def test_alternatives_have_names() -> None:
    unnamed = [
        one
        for node in values(openapi()["components"]["schemas"])
        for one in node.get("anyOf", [])
        if one.get("type") == "object"
    ]
    assert unnamed == []  # generators make up names for these, twice the same


def test_every_error_of_the_wire_is_told() -> None:
    told = openapi()["components"]["responses"]
    for code, status in STATUS.items():
        assert code in told[f"Error{status}"]["description"]


def test_examples_are_read_as_they_stand() -> None:
    import orjson

    headers = {"content-type": "application/json"}
    codes, failure = read_codes(
        headers, orjson.dumps(TOKENS_EXAMPLE), Space(1024, codebook="c" * 64), Limits()
    )
    assert codes.ids.tolist() == [[[12, 7], [803, 12]]]  # type: ignore[union-attr]
    assert failure.code == "not_a_picture"  # type: ignore[union-attr]
    (row,) = read_pixels(headers, orjson.dumps(PICTURES_EXAMPLE))
    assert np.array_equal(row.parts["pixels"], [[[255] * 3]])  # type: ignore[union-attr]
    (upload,) = read_pictures(headers, orjson.dumps({"images": [PNG]}), Limits())
    assert upload.data == base64.b64decode(PNG)
    assert Image.open(io.BytesIO(base64.b64decode(PNG))).size == (1, 1)


def test_a_key_is_asked_for_where_there_is_one() -> None:
    paths = openapi(auth=True)["paths"]
    assert openapi(auth=True)["security"] == [{"bearer": []}, {"key": []}]
    open_ones = {path for path, item in paths.items() if item.get("get", {}).get("security") == []}
    assert open_ones == {"/live", "/ready", "/startup", "/openapi.json", "/", "/docs"}
    asked = {
        path for path, item in paths.items() for one in item.values() if "401" in one["responses"]
    }
    assert asked == paths.keys() - open_ones
    assert "security" not in openapi()
