"""What looks like a collapse, when it is said, and when it stops a run."""

from __future__ import annotations

import math
from typing import Any

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from vqtok.errors import CollapseError
from vqtok.training.collapse import Trained, Watch, perplexity_floor
from vqtok.training.settings import Loss, Settings

HEALTHY = {
    "l1": 0.1,
    "loss": 0.2,
    "usage": 0.9,
    "perplexity": 400.0,
    "top_share": 0.01,
    "obtuse": 0.02,
    "e_norm": 1.0,
    "q_norm": 1.0,
    "relative_error": math.nan,  # a measurement, and no loss
    "grad_norm": 2.5,
}
STRICT = Settings(
    codebook={"start": "normal", "dead_codes": "off"}, estimator_args={"strict": True}
)
HELP = "Try codebook.start=data, codebook.dead_codes=resample or estimator_args.max_angle=90"


def watch(on_collapse: Any = "warn", settings: Settings = STRICT, young: bool = False) -> Watch:
    """A watch over 1024 codes, past the first checks unless it is `young`."""
    made = Watch(1024, on_collapse, settings)
    for step in range(0 if young else 3):
        assert made.check(step, HEALTHY) == []
    return made


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        (
            {"l1": math.nan, "loss": -math.inf},
            "nonfinite",
            "Among the losses l1 is nan and loss is -inf. Go on from an earlier checkpoint with a "
            "lower optimizer.lr, a lower optimizer.clip_norm or precision=fp32.",
        ),
        (
            {"e_norm": 3.1e-5},
            "short_latents",
            "The encoder's vectors have a mean length of 3.1e-05. Try a lower "
            "codebook.commitment_weight, a lower optimizer.lr or estimator=ste: a rotated gradient "
            "shortens vectors.",
        ),
        (
            {"q_norm": 0.0},
            "short_codes",
            f"The codes in use have a mean length of 0.0e+00. {HELP} without strict.",
        ),
        (
            {"obtuse": 0.8855},
            "obtuse",
            "88.5% of the vectors are more than 90 degrees away from their codes. "
            f"{HELP} without strict.",
        ),
        (
            {"top_share": 0.51},
            "one_code",
            f"51.0% of the tokens have one and the same code. {HELP} without strict.",
        ),
        (
            {"perplexity": 10.2},
            "perplexity",
            "The perplexity is 10.20, with 1024 codes and a floor of 10.24. "
            f"{HELP} without strict.",
        ),
    ],
)
def test_what_is_found(change: dict[str, float], kind: str, said: str) -> None:
    found = watch().check(50, {**HEALTHY, **change})
    assert [(one.kind, str(one)) for one in found] == [(kind, said)]
    assert f"{found[0].seen} {found[0].advice}" == said


def test_what_is_just_allowed_or_not_measured_is_no_finding() -> None:
    edge = {"obtuse": 0.1, "top_share": 0.5, "perplexity": 10.24, "e_norm": 1e-4, "q_norm": 1e-4}
    assert watch().check(50, {**HEALTHY, **edge}) == []
    assert watch().check(50, {"loss": 1.0}) == []
    unknown = dict.fromkeys(edge, math.nan)
    assert watch().check(50, {**HEALTHY, **unknown}) == []


@pytest.mark.parametrize(
    ("size", "floor"), [(2, 1), (3, 1.5), (4, 2), (64, 2), (200, 2), (1024, 10.24), (65536, 655.36)]
)
def test_the_floor_of_perplexity(size: int, floor: float) -> None:
    assert perplexity_floor(size) == pytest.approx(floor)


COLLAPSED = {**HEALTHY, "perplexity": 1.0, "top_share": 1.0, "obtuse": 0.9, "q_norm": 0.0}


def test_a_codebook_that_has_not_started_is_left_alone() -> None:
    young = watch(young=True)
    for step in range(10):
        assert young.check(step, COLLAPSED, is_open=True) == []
    broken = {**COLLAPSED, "loss": math.nan, "e_norm": 0.0}
    kinds = [one.kind for one in young.check(10, broken, is_open=True)]
    assert kinds == ["nonfinite", "short_latents"]


def test_the_first_checks_of_a_codebook_say_nothing_of_its_usage() -> None:
    young = watch(young=True)
    young.check(0, HEALTHY, is_open=True)
    kinds = [[one.kind for one in young.check(step, COLLAPSED)] for step in range(4)]
    assert kinds == [["obtuse", "short_codes"], [], [], ["one_code", "perplexity"]]


def test_a_finding_is_repeated_after_twenty_checks_or_when_it_comes_back() -> None:
    one = watch()
    bad = {**HEALTHY, "obtuse": 0.5}
    said = [step for step in range(45) if one.check(step, bad)]
    assert said == [0, 20, 40]
    assert one.check(45, HEALTHY) == []
    assert [step for step in range(46, 60) if one.check(step, bad)] == [46]


def test_each_kind_counts_for_itself() -> None:
    one = watch()
    one.check(0, {**HEALTHY, "obtuse": 0.5})
    found = one.check(1, {**HEALTHY, "obtuse": 0.5, "top_share": 0.9})
    assert [finding.kind for finding in found] == ["one_code"]


def test_a_collapse_stops_a_run_at_the_third_check_in_a_row() -> None:
    one = watch("stop")
    bad = {**HEALTHY, "top_share": 0.75}
    for pattern in (bad, bad, HEALTHY, bad, bad):
        one.check(50, pattern)
    with pytest.raises(CollapseError) as error:
        one.check(300, bad)
    assert str(error.value) == (
        "stopped at step 300 after 3 checks in a row: 75.0% of the tokens have one and the same "
        f"code. {HELP} without strict."
    )


def test_a_loss_that_is_no_number_stops_a_run_at_once() -> None:
    with pytest.raises(CollapseError) as error:
        watch("stop").check(50, {**HEALTHY, "l1": math.nan})
    assert str(error.value) == (
        "stopped at step 50: Among the losses l1 is nan. Go on from an earlier checkpoint with a "
        "lower optimizer.lr, a lower optimizer.clip_norm or precision=fp32."
    )


def test_a_run_that_is_to_go_on_goes_on() -> None:
    one = watch()
    for step in range(30):
        one.check(step, {**COLLAPSED, "loss": math.nan})


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        (Settings(), "a codebook.decay nearer to 1, a lower optimizer.lr or estimator=ste"),
        (Settings(estimator="ste"), "a lower optimizer.lr"),
        (
            Settings(estimator="rotation", estimator_args={"max_angle": 120}),
            "estimator_args.max_angle=90 without strict, a codebook.decay nearer to 1 or a lower "
            "optimizer.lr",
        ),
        (
            Settings(codebook={"codebook_update": "gradient"}),
            "a lower optimizer.lr or estimator=ste",
        ),
        (Settings(quantizer="lfq"), "a lower optimizer.lr"),
        (Settings(quantizer="simvq"), "a lower optimizer.lr or loss.entropy=0.05"),
        (Settings(quantizer="lfq", loss=Loss(entropy=0.1)), "a lower optimizer.lr"),
    ],
)
def test_advice_names_what_the_run_has_not(settings: Settings, advice: str) -> None:
    (found,) = watch(settings=settings).check(50, {**HEALTHY, "obtuse": 0.5})
    assert found.advice == f"Try {advice}."


VAR = Trained("multiscale", {"codebook_update": "gradient"}, "ste", {}, settable=False)
ROTATED = Trained("vector", {"start": "normal", "dead_codes": "off"}, "rotation", {}, False)


@pytest.mark.parametrize(
    ("trained", "advice"),
    [
        (VAR, "a lower optimizer.lr"),
        (ROTATED, "a lower optimizer.lr or estimator=ste"),
        (ROTATED._replace(quantizer="bsq"), "a lower optimizer.lr"),
    ],
)
def test_advice_for_a_tokenizer_that_is_gone_on_with(trained: Trained, advice: str) -> None:
    (found,) = Watch(1024, "warn", Settings(), trained).check(50, {**HEALTHY, "obtuse": 0.5})
    assert str(found) == (
        f"50.0% of the vectors are more than 90 degrees away from their codes. Try {advice}."
    )


def test_latents_that_get_short_without_a_rotation() -> None:
    (found,) = Watch(1024, "warn", Settings(), VAR).check(50, {**HEALTHY, "e_norm": 1e-5})
    assert found.advice == "Try a lower optimizer.lr."


def test_gumbels_codes_are_not_found_by_angles() -> None:
    assert watch(settings=Settings(quantizer="gumbel")).check(50, {**HEALTHY, "obtuse": 0.9}) == []


def test_what_a_model_is_trained_as() -> None:
    model = tiny.model(quantizer_args={"start": "kaiming"}, estimator="ste")
    assert Trained.of(model, settable=False) == ("vector", {"start": "kaiming"}, "ste", {}, False)


@given(st.lists(st.booleans(), min_size=1, max_size=50), st.integers(0, 49))
def test_a_resumed_watch_says_what_one_never_stopped_says(bad: list[bool], stop: int) -> None:
    whole, first, second = (Watch(1024) for _ in range(3))
    figures = [COLLAPSED if one else HEALTHY for one in bad]
    expected = [whole.check(step, one) for step, one in enumerate(figures)]
    got = [first.check(step, one) for step, one in enumerate(figures[:stop])]
    second.load_state_dict(first.state_dict())
    got += [second.check(step, one) for step, one in enumerate(figures[stop:], stop)]
    assert got == expected
