"""A plan's model, with every weight accounted for; and how close two things are."""

from __future__ import annotations

import torch
from torch import Tensor

from vqtok.autoencoders import AUTOENCODERS, AutoencoderBase
from vqtok.checkpoints import Plan
from vqtok.quantizers import TRAINING_STATE

__all__ = ["agree", "built", "same_ids"]


def built(plan: Plan) -> AutoencoderBase:
    """The model in eval, which misses no weight but training state, and leaves none over."""
    model = AUTOENCODERS[plan.architecture](**plan.settings).eval()
    missing, left = model.load_state_dict(plan.weights, strict=False)
    assert not left
    assert {key.rsplit(".", 1)[-1] for key in missing} <= TRAINING_STATE
    return model


def agree(ours: Tensor, theirs: Tensor, share: float = 1e-5) -> bool:
    """Whether two results differ by no more than rounding, and are worth comparing."""
    assert theirs.std() > 1e-2
    return bool((ours - theirs).abs().max() <= share * max(1.0, float(theirs.abs().max())))


def same_ids(ours: Tensor, theirs: Tensor, at_least: int = 10) -> bool:
    """Whether two searches found the same ids of many codes."""
    assert len(theirs.unique()) >= at_least
    return torch.equal(ours.flatten(), theirs.flatten().to(torch.int64))
