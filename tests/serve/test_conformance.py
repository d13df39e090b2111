"""Schemathesis: requests made from the description, answers held against it."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from serve_server import Served, serving
from serve_stubs import StubEngine, stub_facts
from wire_bodies import npy

from vqtok.serve.http.openapi import openapi
from vqtok.serve.http.openapi_parts import PNG
from vqtok.serve.wire.media import FILES, LINES, NPY, RAW, SAFETENSORS

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")

EXAMPLES = 4  # of each operation, beside those that Schemathesis makes of each parameter


FILE = base64.b64decode(PNG)
CODES = np.array([[1, 4095]], np.uint16)
LATENTS = np.ones((2, 1, 2), np.float32)
PIXELS = np.zeros((2, 4, 4, 3), np.uint8)
# Valid bodies, or none at all, which a description cannot say of what is no text.
BODIES = {
    **dict.fromkeys(FILES, (FILE,)),
    LINES: (b'{"codes": [[1, 4095]]}\n' * 2,),
    NPY: (npy(CODES), npy(CODES[None]), npy(LATENTS), npy(PIXELS)),
    RAW: (CODES.tobytes(), LATENTS.tobytes(), PIXELS.tobytes()),
    SAFETENSORS: (
        safetensors.numpy.save({"codes": CODES, "pixels": PIXELS}),
        safetensors.numpy.save({"latents": LATENTS}),
    ),
}
for media, bodies in BODIES.items():
    schemathesis.openapi.media_type(media, st.sampled_from(bodies) | st.binary(max_size=20))


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    clips = StubEngine(stub_facts("clips", size=16, video=True))
    engines = {"stub": StubEngine(stub_facts(size=16)), "clips": clips}
    with serving(engines, slots=8) as found:
        yield found


def described() -> dict[str, Any]:
    """With the names of models that are there and of one that is not."""
    document = openapi()
    document["components"]["parameters"]["model"]["schema"] = {"enum": ["stub", "clips", "none"]}
    return document


schema = schemathesis.openapi.from_dict(described())
checks = schemathesis.checks
# Not negative_data_rejection: headers that a medium has no use for are not looked at.
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.unsupported_method,
    checks.allow_header_conformance,
]


@schema.parametrize()
@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
def test_answers_are_as_described(case: Any, served: Served) -> None:
    case.call_and_validate(base_url=served.url, checks=CHECKS)


def test_all_slots_are_free_afterwards(served: Served) -> None:
    until = time.monotonic() + 10
    while not served.free() and time.monotonic() < until:
        time.sleep(0.05)
    assert served.free()
