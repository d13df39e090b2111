from __future__ import annotations

import torch
from checkpoints.samples.taming import judge

from vqtok.checkpoints.extras import sorted_extras


def test_the_discriminator_goes_on_from_its_own_weights() -> None:
    """Not from the running means of them, whichever family it is."""
    own = {f"loss.discriminator.{key}": tensor for key, tensor in judge().items()}
    means = {f"model_ema.lossdiscriminator{k.replace('.', '')}": t + 1 for k, t in judge().items()}
    found, dropped = sorted_extras(own | means)
    assert torch.equal(found["blocks.0.0.weight"], own["loss.discriminator.main.0.weight"])
    assert dropped == dict.fromkeys(means, "a running mean of a part of the loss")


def test_why_each_is_dropped() -> None:
    reasons = {
        "loss.perceptual_loss.lin0.model.1.weight": "LPIPS' network, which training brings itself",
        "loss.discriminator.main.0.loc": "a discriminator of a kind that training has not",
        "loss.logvar": "a part of the loss",
        "model_ema.losslogvar": "a running mean of a part of the loss",
        "model_ema.decay": "a number that running means are taken with",
        "model_ema.num_updates": "a number that running means are taken with",
        "model_ema.decoderconv_inweight": "a running mean, taken in place of the weight itself",
        "colorize": "colours for showing segmentation maps",
        "step": "no part of the autoencoder",
    }
    assert sorted_extras(dict.fromkeys(reasons, torch.ones(()))) == ({}, reasons)
