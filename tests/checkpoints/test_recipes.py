from __future__ import annotations

from vqtok.checkpoints.recipes import untold


def test_a_note_on_what_nobody_tells() -> None:
    assert untold({"a": 1, "b": None}, {"a": 2, "b": 3}) == ()
    assert untold({"a": 1}, {"a": 2, "b": 3, "c": 4}) == (
        "Nothing tells b=3 and c=4, as the source has it by default. Ids depend on that.",
    )
