"""The discriminator of a run: what it says to the autoencoder, and how it learns itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from vqtok.errors import ConfigError
from vqtok.training.kept import keep
from vqtok.training.losses import GAN_LOSSES
from vqtok.training.losses.adaptive import adaptive_weight
from vqtok.training.losses.feature_matching import feature_matching
from vqtok.training.losses.lecam import LeCAM
from vqtok.training.losses.r1 import r1_penalty
from vqtok.training.parts import (
    check_size,
    kept_of,
    make_discriminator,
    make_optimizer,
    restore,
)
from vqtok.training.reduce import mean_over_ranks
from vqtok.training.schedule import (
    discriminator_learns,
    discriminator_weight,
    learning_rate,
)
from vqtok.training.settings import Discriminator, Settings

__all__ = ["Judge"]


class Judge:
    """A discriminator, its losses and its optimizer.

    The autoencoder asks the network as it is, with its gradients off: asked through DDP, it would
    gather gradients that nobody wants. It learns by one forward through DDP on pictures and
    reconstructions together.

    origin  what became of the discriminator that the tokenizer which init names keeps; None where
            there is no such tokenizer
    args    the settings that its network was made with
    has_learnt  whether, when the run ends, it is more than what was drawn
    """

    def __init__(
        self, accelerator: Accelerator, settings: Settings, wanted: Discriminator, model: Any
    ) -> None:
        self.accelerator = accelerator
        self.settings = wanted
        self.steps = settings.steps
        self.last_layer = model.last_layer
        self.loss = GAN_LOSSES[wanted.loss]
        self.lecam = LeCAM(wanted.lecam_decay).to(accelerator.device) if wanted.lecam else None
        kept = kept_of(settings)
        self.origin = None if kept is None else kept.said(wanted)
        self.args = wanted.args if kept is None else kept.args(wanted)
        went_on = kept is not None and kept.fits(wanted)
        self.has_learnt = went_on or discriminator_learns(wanted, settings.steps - 1)
        network = make_discriminator(wanted, model.config.in_channels, kept)
        check_size(wanted, network, settings.data)
        network.to(accelerator.device)
        optimizer = make_optimizer(network.parameters(), wanted.optimizer)
        self.network = network
        self.wrapped, self.optimizer = accelerator.prepare(network, optimizer)
        self.means: list[Tensor] = []

    @classmethod
    def made(cls, accelerator: Accelerator, settings: Settings, model: Any) -> Judge | None:
        """The judge that the settings ask for, if they ask for one."""
        wanted = settings.discriminator
        if wanted is None:
            return None
        if wanted.adaptive and not model.last_layer.requires_grad:
            raise ConfigError(
                "discriminator.adaptive weighs gradients of the decoder's last layer, which is "
                "frozen; set discriminator.adaptive=false"
            )
        return cls(accelerator, settings, wanted, model)

    def begin_step(self, step: int) -> None:
        """Sets the rate."""
        self.network.train()
        self.means = []
        # Its own first step is the first of its warm-up.
        first = max(0, self.settings.start - self.settings.warm_up)
        rate = learning_rate(self.settings.optimizer, max(0, step - first), self.steps - first)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def share(
        self, step: int, rec: Tensor, x: Tensor, reconstruction: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What its judgement of `rec` adds to the autoencoder's loss, and figures to show."""
        weight = discriminator_weight(self.settings, step)
        if not weight:
            return rec.new_zeros(()), {}
        self.network.requires_grad_(False)
        matched = None
        if self.settings.feature_matching:
            logits, features = self.network(rec, features=True)
            with torch.no_grad():
                _, real = self.network(x, features=True)
            matched = feature_matching(real, features)
        else:
            logits = self.network(rec)
        judged = self.loss.generator(logits.float())
        if self.settings.adaptive:
            ratio = self._ratio(reconstruction, judged)
            share = weight * ratio * judged
            shown = {"gan": judged, "gan_weight": weight * ratio}
        else:
            share, shown = weight * judged, {"gan": judged}
        if matched is not None:
            share = share + self.settings.feature_matching * matched
            shown["feature_matching"] = matched
        return share, shown

    def learn(self, step: int, x: Tensor, rec: Tensor) -> dict[str, Tensor]:
        """One micro-batch of its own training; figures to show."""
        if not discriminator_learns(self.settings, step):
            return {}
        self.network.requires_grad_(True)
        penalised = bool(self.settings.r1) and step % self.settings.r1_every == 0
        x = x.detach().requires_grad_(penalised)
        real, fake = self.wrapped(torch.cat([x, rec.to(x.dtype)]), parts=2).float().chunk(2)
        loss = self.loss.discriminator(real, fake)
        shown = {"disc": loss, "disc_real": real.mean(), "disc_fake": fake.mean()}
        if self.lecam is not None:
            shown["lecam"] = self.lecam(real, fake)
            loss = loss + self.settings.lecam * shown["lecam"]
        if penalised:
            shown["r1"] = r1_penalty(real, x)
            # Half the squared norm, as often as it is left out.
            loss = loss + self.settings.r1 / 2 * self.settings.r1_every * shown["r1"]
        self.means.append(torch.stack([real.mean(), fake.mean()]).detach())
        self.accelerator.backward(loss)
        clip = self.settings.optimizer.clip_norm
        if clip is not None and self.accelerator.sync_gradients:
            self.accelerator.clip_grad_norm_(self.network.parameters(), clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return shown

    def end_step(self, step: int) -> None:
        """Lets LeCAM's means follow those of the whole step."""
        if self.lecam is not None and self.means:
            real, fake = mean_over_ranks(torch.stack(self.means).mean(0))
            self.lecam.update(real, fake)

    def keep(self, folder: Path) -> None:
        """Writes the network beside a tokenizer, for runs that go on from both."""
        if self.has_learnt:
            keep(self.network, self.settings.name, self.args, folder)

    def state_dict(self) -> dict[str, Any]:
        """See `Step.state_dict`."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "lecam": self.lecam.state_dict() if self.lecam else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Step.load_state_dict`."""
        self.network.load_state_dict(state["network"])
        restore(self.optimizer, state["optimizer"], self.settings.optimizer)
        if self.lecam is not None and state["lecam"] is not None:
            self.lecam.load_state_dict(state["lecam"])

    def _ratio(self, reconstruction: Tensor, judged: Tensor) -> Tensor:
        """By how much the reconstruction's gradient outweighs the judgement's, over all ranks."""
        grads = [
            torch.autograd.grad(loss, self.last_layer, retain_graph=True)[0]
            for loss in (reconstruction, judged)
        ]
        mine, other = mean_over_ranks(torch.stack(grads))
        return adaptive_weight(mine, other)
