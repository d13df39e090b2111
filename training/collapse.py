"""Tells of a codebook or latents that collapse while they train, and of what helps against it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from vqtok.errors import CollapseError
from vqtok.estimators import ESTIMATORS
from vqtok.metrics.quantization import Statistics
from vqtok.quantizers import QUANTIZERS
from vqtok.training.settings import Settings

__all__ = ["Finding", "Trained", "Watch", "perplexity_floor"]

OBTUSE = 0.1  # share of angles beyond 90 degrees
ON_ONE_CODE = 0.5  # share of the tokens
SHORTEST = 1e-4  # mean length of vectors
PATIENCE = 3  # checks in a row that find the same, before a run is stopped
AGAIN = 20  # checks in a row after which a warning is repeated
YOUNG = 3  # first checks of a started codebook, in which few codes may do
# Figures of a log line that are no losses.
MEASURED = {*Statistics._fields, "usage", "perplexity", "top_share", "lr"}
TABLES = ("vector", "residual", "grouped", "multiscale")
# Whose codes are found by scores of their own and not by where a vector points.
UNDIRECTED = ("gumbel",)
# Of the others those that take loss.entropy.
ENTROPY = ("simvq",)


class Finding(NamedTuple):
    """Something that looks like a collapse."""

    kind: str
    seen: str  # a sentence with figures
    advice: str  # a sentence on what to try

    def __str__(self) -> str:
        return f"{self.seen} {self.advice}"


class Trained(NamedTuple):
    """What is trained, for advice that fits: a codebook, and the gradient through it.

    settable  whether the settings of the codebook are those of the run: with init they are not
    """

    quantizer: str
    codebook: Mapping[str, Any]
    estimator: str
    estimator_args: Mapping[str, Any]
    settable: bool = True

    @classmethod
    def by(cls, settings: Settings) -> Trained:
        """What settings make anew."""
        kind = settings.estimator or QUANTIZERS[settings.quantizer].default_estimator
        return cls(settings.quantizer, settings.codebook, kind, settings.estimator_args)

    @classmethod
    def of(cls, model: Any, *, settable: bool) -> Trained:
        """What a model is."""
        args, given = model.config.quantizer_args or {}, model.config.estimator_args or {}
        return cls(model.config.quantizer, args, model.quantize.estimator.name, given, settable)


class Watch:
    """Looks at the figures of a run, check by check.

    A finding is given when it is new, and again after 20 checks in a row with it. With
    `on_collapse` "stop" the third check in a row is a `CollapseError`, and NaN or infinity in a
    loss is one at once. All processes see the same figures, so all stop at the same step.

    settings, trained  make the advice fit the run; without `trained`, by the settings alone
    """

    def __init__(
        self,
        codebook_size: int,
        on_collapse: Literal["warn", "stop"] = "warn",
        settings: Settings | None = None,
        trained: Trained | None = None,
    ) -> None:
        self.codebook_size = codebook_size
        self.on_collapse = on_collapse
        self.settings = settings or Settings()
        self.trained = trained or Trained.by(self.settings)
        self.checks = 0  # of a codebook that has started
        self.in_a_row: dict[str, int] = {}

    def check(
        self, step: int, figures: Mapping[str, float], is_open: bool = False
    ) -> list[Finding]:
        """What is new in the figures of a log line, those of all processes, as of this step.

        perplexity, top_share  of the tokens since the last line; `top_share` is on the most used
                               code. Of several codebooks, the worst or the mean
        obtuse, e_norm, q_norm as in `vqtok.metrics.quantization.Statistics`

        Other names are losses, but for known measurements. What is not there is not checked. While
        vectors pass unquantized (`is_open`), codes mean nothing and are left alone.
        """
        self.checks += not is_open
        found = _in_losses(figures) + _in_latents(figures, self.trained)
        if not is_open:
            found += self._in_codebook(figures)
        self.in_a_row = {one.kind: self.in_a_row.get(one.kind, 0) + 1 for one in found}
        if self.on_collapse == "stop":
            for one in found:
                self._stop_at(step, one)
        return [one for one in found if self.in_a_row[one.kind] % AGAIN == 1]

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints."""
        return {"checks": self.checks, "in_a_row": dict(self.in_a_row)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` gave."""
        self.checks = state["checks"]
        self.in_a_row = dict(state["in_a_row"])

    def _stop_at(self, step: int, one: Finding) -> None:
        times = self.in_a_row[one.kind]
        if one.kind == "nonfinite" or times >= PATIENCE:
            since = f" after {times} checks in a row" if times > 1 else ""
            raise CollapseError(f"stopped at step {step}{since}: {one}")

    def _in_codebook(self, figures: Mapping[str, float]) -> list[Finding]:
        found = []
        advice = f"Try {_joined(_remedies(self.trained, self.settings), 'or')}."
        obtuse, norm = figures.get("obtuse", 0.0), figures.get("q_norm", 1.0)
        if obtuse > OBTUSE and self.trained.quantizer not in UNDIRECTED:
            seen = f"{obtuse:.1%} of the vectors are more than 90 degrees away from their codes."
            found.append(Finding("obtuse", seen, advice))
        if norm < SHORTEST:
            seen = f"The codes in use have a mean length of {norm:.1e}."
            found.append(Finding("short_codes", seen, advice))
        return found + (self._in_usage(figures, advice) if self.checks > YOUNG else [])

    def _in_usage(self, figures: Mapping[str, float], advice: str) -> list[Finding]:
        found = []
        top, spread = figures.get("top_share", 0.0), figures.get("perplexity", math.inf)
        if top > ON_ONE_CODE:
            seen = f"{top:.1%} of the tokens have one and the same code."
            found.append(Finding("one_code", seen, advice))
        floor = perplexity_floor(self.codebook_size)
        if spread < floor:
            seen = (
                f"The perplexity is {spread:.2f}, with {self.codebook_size} codes and a floor of "
                f"{floor:.4g}."
            )
            found.append(Finding("perplexity", seen, advice))
        return found


def perplexity_floor(codebook_size: int) -> float:
    """Under it a codebook has collapsed: 1 % of its size, at least 2; half of a tiny one."""
    return min(max(2, 0.01 * codebook_size), codebook_size / 2)


def _in_losses(figures: Mapping[str, float]) -> list[Finding]:
    losses = {name: value for name, value in figures.items() if name not in MEASURED}
    broken = [f"{name} is {value}" for name, value in losses.items() if not math.isfinite(value)]
    if not broken:
        return []
    advice = (
        "Go on from an earlier checkpoint with a lower optimizer.lr, a lower optimizer.clip_norm "
        "or precision=fp32."
    )
    return [Finding("nonfinite", f"Among the losses {_joined(broken, 'and')}.", advice)]


def _in_latents(figures: Mapping[str, float], trained: Trained) -> list[Finding]:
    norm = figures.get("e_norm", 1.0)
    if not norm < SHORTEST:
        return []
    rotates = ESTIMATORS[trained.estimator].rotates
    worth = {
        "a lower codebook.commitment_weight": trained.settable,
        "a lower optimizer.lr": True,
        "estimator=ste": rotates,
    }
    advice = f"Try {_joined([remedy for remedy, fits in worth.items() if fits], 'or')}"
    advice += ": a rotated gradient shortens vectors." if rotates else "."
    seen = f"The encoder's vectors have a mean length of {norm:.1e}."
    return [Finding("short_latents", seen, advice)]


def _remedies(trained: Trained, settings: Settings) -> list[str]:
    """Settings that help a codebook and are not those of the run, the surest first."""
    if trained.quantizer not in TABLES:
        entropy = trained.quantizer in ENTROPY and not settings.loss.entropy
        return ["a lower optimizer.lr", *(["loss.entropy=0.05"] if entropy else [])]
    own, given = trained.codebook, trained.estimator_args
    unguarded = given.get("strict") or given.get("max_angle", 90) > 90
    rotates = ESTIMATORS[trained.estimator].rotates
    averaged = own.get("codebook_update", "ema") == "ema"
    decay = own.get("decay", 0.8 if rotates else 0.99)
    new = trained.settable
    worth = {
        "codebook.start=data": new and own.get("start", "data") != "data",
        "codebook.dead_codes=resample": new and own.get("dead_codes", "resample") == "off",
        "estimator_args.max_angle=90 without strict": rotates and unguarded,
        "a codebook.decay nearer to 1": new and averaged and decay < 0.97,
        "a lower optimizer.lr": True,
        "estimator=ste": rotates,
    }
    return [remedy for remedy, fits in worth.items() if fits][:3]


def _joined(words: list[str], last: str) -> str:
    """Words as a list in a sentence, with `last` before the last."""
    return f" {last} ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
