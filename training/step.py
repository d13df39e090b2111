"""One optimizer step: autoencoder, then discriminator, then codebook, over all micro-batches.

Everything that a step draws comes from the seed, its number, the micro-batch and the rank, so that
a run goes on after a stop as if there had been none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from vqtok.errors import ConfigError, did_you_mean
from vqtok.estimators import Loss
from vqtok.metrics.pixels import from_uint8
from vqtok.quantizers import Quantizer
from vqtok.training.averaging import Average
from vqtok.training.freeze import freeze, set_training
from vqtok.training.judge import Judge
from vqtok.training.losses.alignment import Alignment, load_teacher
from vqtok.training.objective import Objective
from vqtok.training.parts import make_optimizer, restore
from vqtok.training.reduce import rank
from vqtok.training.schedule import annealed, learning_rate
from vqtok.training.settings import Settings
from vqtok.training.sums import joined
from vqtok.types import CodeSums

__all__ = ["Outcome", "Step"]


class Outcome(NamedTuple):
    """What one step shows of itself, on this process alone."""

    terms: dict[str, Tensor]  # scalars by name, means over micro-batches
    count: Tensor  # type: ignore[assignment]  # (Q, K) tokens on each code of each codebook
    latents: Tensor  # (B, D, *grid) of the last micro-batch, before quantization
    codes: Tensor  # (B, *grid[, Q]) of the same


class Step:
    """The networks of a run, and how they move.

    model    the autoencoder as it is, on the device; `wrapped` is the same under DDP
    judge    the discriminator with its losses and optimizer, or None
    average  the running mean of the weights, or None
    """

    def __init__(self, accelerator: Accelerator, settings: Settings, model: Any) -> None:
        self.accelerator = accelerator
        self.settings = settings
        freeze(model, settings.freeze)
        self.objective = Objective(settings.loss, model.quantize).to(accelerator.device)
        self.judge = Judge.made(accelerator, settings, model)
        self._check_estimator(model)
        self._check_anneal(model)
        if settings.compile:
            _compile(model)
        self.align = self._make_alignment(model)
        own = [*model.parameters(), *(self.align.parameters() if self.align else ())]
        self.parameters = [parameter for parameter in own if parameter.requires_grad]
        optimizer = make_optimizer(self.parameters, settings.optimizer)
        self.model = model.to(accelerator.device)
        self.wrapped, self.optimizer = accelerator.prepare(self.model, optimizer)
        self.wrapped_align = accelerator.prepare(self.align) if self.align else None
        self.average = Average(self.model, settings.average) if settings.average else None
        self.generator = torch.Generator(accelerator.device)

    def run(self, step: int, micro_batches: Iterable[Tensor]) -> Outcome:
        """The step number `step` on uint8 pixels (b, C, *size), a tensor a micro-batch."""
        self._prepare(step)
        outcomes, sums = [], []
        for number, pixels in enumerate(micro_batches):
            self._seed(step, number)
            x = from_uint8(pixels.to(self.accelerator.device, non_blocking=True))
            with self.accelerator.accumulate(*self._accumulating()):
                outcome, part = self._micro_step(step, x)
            outcomes.append(outcome)
            sums.append(part)
        self._move_codebook(sums)
        if self.judge is not None:
            self.judge.end_step(step)
        if self.average is not None:
            self.average.update(self.model)
        return _together(outcomes)

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, but for its number."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "align": self.align.project.state_dict() if self.align else None,
            "average": self.average.state_dict() if self.average else None,
            "judge": self.judge.state_dict() if self.judge else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what `state_dict` gave."""
        parts = {"loss.align": self.align, "average": self.average, "discriminator": self.judge}
        for (setting, part), name in zip(parts.items(), ("align", "average", "judge"), strict=True):
            if (part is None) != (state[name] is None):
                begun = "without" if part is not None else "with"
                raise ConfigError(
                    f"the run was begun {begun} {setting}, which cannot change when it is resumed"
                )
        try:
            self.model.load_state_dict(state["model"])
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise ConfigError(
                "the checkpoint is that of another model; architecture, network, quantizer and "
                f"codebook cannot change when a run is resumed: {reason}"
            ) from error
        restore(self.optimizer, state["optimizer"], self.settings.optimizer)
        if self.align is not None:  # its teacher is no part of the run
            self.align.project.load_state_dict(state["align"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if self.judge is not None:
            self.judge.load_state_dict(state["judge"])

    # --- inside ---------------------------------------------------------------------------------

    def _prepare(self, step: int) -> None:
        settings = self.settings
        set_training(self.model, settings.freeze)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(settings.optimizer, step, settings.steps)
        for name, anneal in settings.anneal.items():
            getattr(self.model.quantize, name).fill_(annealed(anneal, step))
        if self.judge is not None:
            self.judge.begin_step(step)

    def _seed(self, step: int, number: int) -> None:
        named = f"{self.settings.seed} {step} {number} {rank()}".encode()
        seed = int.from_bytes(hashlib.sha256(named).digest()[:7])
        torch.manual_seed(seed)
        self.generator.manual_seed(seed)

    def _accumulating(self) -> list[nn.Module]:
        wrapped = [self.wrapped, self.wrapped_align, self.judge.wrapped if self.judge else None]
        return [module for module in wrapped if module is not None]

    def _micro_step(self, step: int, x: Tensor) -> tuple[Outcome, CodeSums | None]:
        out = self.wrapped(x, loss=self._loss_at(step, x), generator=self.generator)
        terms = self.objective.reconstruction(out.sample, x)
        reconstruction = self.objective.total(terms)
        total = reconstruction + out.commit_loss
        others = self.objective.latents(out.latents, self.model.quantize)
        if others:
            total = total + self.objective.total(others)
        if self.wrapped_align is not None:
            others["align"] = self.wrapped_align(out.latents, x)
            total = total + self.settings.loss.align.weight * others["align"]  # type: ignore[union-attr]
        if self.judge is not None:
            share, judged = self.judge.share(step, out.sample, x, reconstruction)
            total = total + share
            others |= judged
        self.accelerator.backward(total)
        self._step_optimizer(others)
        if self.judge is not None:
            others |= self.judge.learn(step, x, out.sample.detach())
        terms |= out.quantized.losses | others | {"loss": total}
        count = _count(out.quantized.codes, self.model.quantize)
        shown = {name: term.detach() for name, term in terms.items()}
        outcome = Outcome(shown, count, out.latents.detach(), out.quantized.codes)
        return outcome, out.quantized.sums

    def _step_optimizer(self, shown: dict[str, Tensor]) -> None:
        clip = self.settings.optimizer.clip_norm
        if clip is not None and self.accelerator.sync_gradients:
            shown["grad_norm"] = self.accelerator.clip_grad_norm_(self.parameters, clip)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _loss_at(self, step: int, x: Tensor) -> Loss | None:
        """For estimators that need it: quantized vectors -> what is propagated back of them."""
        if not self.model.quantize.estimator.needs_loss:
            return None

        def loss(vectors: Tensor) -> Tensor:
            rec = self.model.decode(vectors, force_not_quantize=True).sample
            total = self.objective.total(self.objective.reconstruction(rec, x))
            if self.judge is not None:
                total = total + self.judge.share(step, rec, x, total)[0]
            return total / self.settings.accumulate  # as accelerate's backward does

        return loss

    @torch.no_grad()
    def _move_codebook(self, sums: list[CodeSums | None]) -> None:
        parts = [part for part in sums if part is not None]
        if parts and "codebook" not in self.settings.freeze:
            self.model.quantize.step(joined(parts))

    def _make_alignment(self, model: Any) -> Alignment | None:
        wanted = self.settings.loss.align
        if wanted is None:
            return None
        dim = model.quantize.dim
        teacher = load_teacher(wanted.teacher)
        seen = model.config.in_channels, self.settings.data.size
        made = Alignment(teacher, dim, wanted.margin, wanted.cosine_margin, *seen)
        return made.to(self.accelerator.device)

    def _check_anneal(self, model: Any) -> None:
        buffers = model.quantize.named_buffers(recurse=False)
        known = [name for name, value in buffers if not value.ndim and value.is_floating_point()]
        for name in self.settings.anneal:
            if name not in known:
                raise ConfigError(
                    f"anneal names {name!r}, and the quantizer {self.settings.quantizer!r} has no "
                    f"such number. {did_you_mean(name, known)}"
                )

    def _check_estimator(self, model: Any) -> None:
        name, discriminator = model.quantize.estimator.name, self.settings.discriminator
        if not model.quantize.estimator.needs_loss:
            return
        if self.settings.compile:
            raise ConfigError(
                f"the estimator {name!r} differentiates the decoder a second time, which compiled "
                "networks do not allow; set compile=false"
            )
        if discriminator is not None and discriminator.adaptive:
            raise ConfigError(
                f"the estimator {name!r} needs the loss before the pass whose gradients "
                "discriminator.adaptive weighs it by; set discriminator.adaptive=false"
            )


def _compile(model: Any) -> None:
    """Compiles the networks in place, so that the names of their weights stay."""
    # The adaptive weight goes through the decoder's backward pass a second time.
    torch._functorch.config.donated_buffer = False
    model.encoder.compile()
    model.decoder.compile()


def _count(codes: Tensor, quantizer: Quantizer) -> Tensor:
    """Codes (B, *grid) or (B, *grid, Q) -> (1, K) or (Q, K): how often each occurs.

    Without a look at the values, which would make the host wait for the device in each step.
    """
    books = codes.flatten(0, -2).T if quantizer.depth else codes.view(1, -1)
    size = len(books), quantizer.codebook_size
    counts = torch.zeros(size, dtype=torch.int64, device=codes.device)
    return counts.scatter_add_(1, books, torch.ones_like(books))


def _together(outcomes: list[Outcome]) -> Outcome:
    names = dict.fromkeys(name for outcome in outcomes for name in outcome.terms)
    terms = {}
    for name in names:  # grad_norm is there for the last micro-batch alone
        values = [outcome.terms[name] for outcome in outcomes if name in outcome.terms]
        terms[name] = torch.stack(values).mean(0)
    count = torch.stack([outcome.count for outcome in outcomes]).sum(0)
    return Outcome(terms, count, outcomes[-1].latents, outcomes[-1].codes)
