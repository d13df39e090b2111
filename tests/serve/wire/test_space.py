"""What a model's facts say of its codes."""

from __future__ import annotations

import sys
from subprocess import run

import pytest
from serve_stubs import stub_facts

from vqtok.serve.wire import Space


@pytest.mark.parametrize(
    ("changes", "code_axes", "code_shape", "vector_axes", "vector_shape"),
    [
        ({}, (2,), "(h, w)", 3, "(2, h, w)"),
        ({"size": None}, (2,), "(h, w)", 3, "(2, h, w)"),
        ({"depth": 4}, (3,), "(h, w, 4)", 3, "(2, h, w)"),
        ({"video": True}, (2, 3), "(t, h, w)", 4, "(2, t, h, w)"),
        ({"video": True, "size": None}, (2, 3), "(t, h, w)", 4, "(2, t, h, w)"),
        ({"axes": 1, "only_size": (256, 256), "only_grid": (32,)}, (1,), "(L,)", 2, "(2, L)"),
        ({"axes": 1, "scale_sides": (1, 2, 16)}, (1,), "(L,)", 3, "(2, h, w)"),
    ],
    ids=["picture", "any size", "depth", "clip", "clip of any size", "sequence", "scales"],
)
def test_shapes(
    changes: dict[str, object],
    code_axes: tuple[int, ...],
    code_shape: str,
    vector_axes: int,
    vector_shape: str,
) -> None:
    facts = stub_facts(**changes)  # type: ignore[arg-type]
    space = Space.of(facts)
    assert (space.code_axes, space.code_shape) == (code_axes, code_shape)
    assert (space.vector_axes, space.vector_shape) == (vector_axes, vector_shape)
    assert space.codebook == facts.fingerprint.codebook
    assert (space.codebook_size, space.video) == (facts.traits.codebook_size, facts.traits.is_video)


def test_importing_the_wire_brings_no_framework_and_no_torch() -> None:
    code = (
        "import sys, vqtok.serve.wire; "
        "print([m for m in ('torch', 'starlette', 'fastapi', 'litserve', 'httpx', 'av') "
        "if m in sys.modules])"
    )
    done = run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
