"""What comes of a probe, in words."""

from __future__ import annotations

import logging

import pytest

from vqtok.errors import LoadError, MismatchError
from vqtok.verdicts import ProbeResult, accepted

TIES = ProbeResult("near ties", tokens=100, ids_equal=98, near_ties=2, latent_error=5e-7)


def test_in_words() -> None:
    assert str(TIES) == "near ties (2): 98 of 100 probe ids equal, latents within 5.0e-07"
    assert str(ProbeResult("exact", 9, 9, latent_error=None)) == "exact: 9 of 9 probe ids equal"
    assert str(ProbeResult("refused", 9, 8, pixels_equal=False)) == (
        "refused: 8 of 9 probe ids equal, latents within 0.0e+00, pixels resized otherwise"
    )
    assert str(ProbeResult("unchecked")) == (
        "unchecked: the folder holds no probe of these weights"
    )


def test_a_summary_is_read_again() -> None:
    for result in (TIES, ProbeResult("exact"), ProbeResult("unchecked")):
        again = ProbeResult.from_summary(result.summary)
        assert (again.verdict, again.near_ties) == (result.verdict, result.near_ties)
    for text in ("fine", "exact (x)", ""):
        with pytest.raises(LoadError) as error:
            ProbeResult.from_summary(text)
        assert str(error.value) == (
            f"{text!r} is no summary of a probe, such as 'exact' or 'near ties (2)'"
        )


def test_what_is_refused_goes_no_further(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "vqtok.verdicts"):
        assert accepted(TIES, "here") is TIES
    assert caplog.messages == [f"probe: {TIES}"]
    refused = ProbeResult("refused", 9, 1)
    with pytest.raises(MismatchError) as error:
        accepted(refused, "here")
    assert str(error.value) == (
        "the tokenizer in 'here' does not compute here what it did where it was saved: refused: "
        "1 of 9 probe ids equal, latents within 0.0e+00"
    )
