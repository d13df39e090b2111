"""The vector quantizer against others' and against closed forms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from quantizers.vectors import draws, latents, quantizer
from torch import Tensor
from torch.nn import functional as F

from vqtok.errors import ConfigError
from vqtok.estimators import ESTIMATORS
from vqtok.quantizers import to_rows

# --- ids, losses and gradients ------------------------------------------------------------------

GRADIENT: dict[str, Any] = {"codebook_update": "gradient", "dead_codes": "off"}


@pytest.mark.parametrize("legacy", [True, False])
def test_it_computes_what_diffusers_computes(legacy: bool) -> None:
    from diffusers.models.autoencoders.vae import VectorQuantizer as Theirs

    ours = quantizer(**GRADIENT, commitment_weight=0.25, legacy_beta=legacy)
    theirs = Theirs(16, 4, beta=0.25, legacy=legacy, sane_index_shape=True)
    theirs.embedding.load_state_dict(ours.embedding.state_dict())
    z, y = latents().requires_grad_(), latents().requires_grad_()
    out = ours(z)
    q, loss, (_, _, ids) = theirs(y)
    assert torch.equal(out.codes, ids)
    torch.testing.assert_close(out.z, q)
    torch.testing.assert_close(ours.total_loss(out.losses), loss)
    (out.z.square().mean() + ours.total_loss(out.losses)).backward()
    (q.square().mean() + loss).backward()
    torch.testing.assert_close(z.grad, y.grad)
    torch.testing.assert_close(ours.embedding.weight.grad, theirs.embedding.weight.grad)


@pytest.mark.parametrize("legacy", [True, False])
def test_it_computes_what_taming_computes(legacy: bool) -> None:
    reason = "taming-transformers-rom1504 is not installed"
    taming = pytest.importorskip("taming.modules.vqvae.quantize", reason=reason)
    ours = quantizer(**GRADIENT, commitment_weight=0.25, legacy_beta=legacy)
    theirs = taming.VectorQuantizer2(16, 4, beta=0.25, legacy=legacy, sane_index_shape=True)
    theirs.embedding.load_state_dict(ours.embedding.state_dict())
    out = ours(latents())
    q, loss, (_, _, ids) = theirs(latents())
    assert torch.equal(out.codes, ids)
    torch.testing.assert_close(out.z, q)
    torch.testing.assert_close(ours.total_loss(out.losses), loss)


@pytest.mark.parametrize("cosine", [True, False])
def test_losses_in_float64(cosine: bool) -> None:
    ours = quantizer(**GRADIENT, use_cosine_sim=cosine, commitment_weight=0.5, codebook_weight=3.0)
    out = ours(latents())
    e, codes = to_rows(latents()).double(), ours.embedding.weight.detach().double()
    if cosine:
        e, codes = F.normalize(e, dim=1), F.normalize(codes, dim=1)
    apart = (e[:, None] - codes).square().sum(2)
    assert torch.equal(out.codes.flatten(), apart.argmin(1))
    error = apart.amin(1).mean().float() / 4
    torch.testing.assert_close(out.losses["commit"].detach(), error)
    torch.testing.assert_close(out.losses["codebook"].detach(), error)
    torch.testing.assert_close(ours.total_loss(out.losses).detach(), 3.5 * error)


@pytest.mark.parametrize("estimator", ["ste", "rotation", "reflection"])
def test_the_encoder_gets_the_gradient_of_its_estimator(estimator: str) -> None:
    ours = quantizer(estimator=estimator)
    z = latents().requires_grad_()
    out = ours(z)
    slope = latents(seed=2)
    out.z.backward(slope)
    e = to_rows(latents()).requires_grad_()
    ESTIMATORS[estimator](e, ours.embedding.weight[out.codes.flatten()]).backward(to_rows(slope))
    torch.testing.assert_close(to_rows(z.grad), e.grad)


@pytest.mark.parametrize("estimator", ["exact", "hessian"])
def test_estimators_that_need_the_loss_get_it_on_latents(estimator: str) -> None:
    ours = quantizer(estimator=estimator)
    weights = latents(seed=3)

    def loss(x: Tensor) -> Tensor:
        return (x.square() * weights).sum() / 2

    z = latents().requires_grad_()
    loss(ours(z, loss=loss).z).backward()
    # A quadratic loss is its own second-order expansion.
    torch.testing.assert_close(z.grad, weights * latents())


def test_a_gradient_codebook_learns_from_the_codebook_loss_alone() -> None:
    ours = quantizer(codebook_update="gradient", estimator="rotation")
    out = ours(latents().requires_grad_())
    (out.z.square().sum() + out.losses["commit"]).backward()
    assert ours.embedding.weight.grad is None
    ours(latents()).losses["codebook"].backward()
    counts = out.codes.flatten().bincount(minlength=16)
    assert torch.equal(ours.embedding.weight.grad.abs().sum(1) > 0, counts > 0)


def test_running_means_are_no_business_of_the_optimizer() -> None:
    ours = quantizer()
    assert not ours.embedding.weight.requires_grad
    assert list(ours(latents()).losses) == ["commit"]


def test_without_gradients_no_estimator_runs() -> None:
    ours = quantizer(estimator="diveq")
    with torch.no_grad():
        out = ours(latents())
    assert torch.equal(out.z, ours.decode(out.codes))


# --- running means ------------------------------------------------------------------------------


@pytest.mark.parametrize("cosine", [True, False])
def test_running_means_are_those_of_vector_quantize_pytorch(cosine: bool) -> None:
    from vector_quantize_pytorch import VectorQuantize

    theirs = VectorQuantize(
        4, codebook_size=16, decay=0.8, eps=1e-5, use_cosine_sim=cosine, rotation_trick=False
    )
    ours = quantizer(decay=0.8, dead_codes="off", use_cosine_sim=cosine)
    book = theirs._codebook
    ours.load_state_dict(
        {
            "embedding.weight": book.embed[0],
            "count": book.cluster_size[0],
            "total": book.embed_avg[0],
            "steps": torch.tensor(0),
        }
    )
    for step in range(5):
        z = latents(seed=step)
        out = ours(z)
        _, ids, _ = theirs(to_rows(z)[None])
        ours.step(out.sums)
        assert torch.equal(out.codes.flatten(), ids[0])
        torch.testing.assert_close(ours.embedding.weight, book.embed[0])
        torch.testing.assert_close(ours.count, book.cluster_size[0])
        torch.testing.assert_close(ours.total, book.embed_avg[0])


def test_running_means_in_float64() -> None:
    ours = quantizer(decay=0.7, eps=0.01, dead_codes="off")
    count, total = torch.ones(16).double(), ours.embedding.weight.double()
    for step in range(3):
        z = latents(seed=step)
        ids, e = ours(z).codes.flatten(), to_rows(z).double()
        hits = F.one_hot(ids, 16).double()
        count = 0.7 * count + 0.3 * hits.sum(0)
        total = 0.7 * total + 0.3 * hits.T @ e
        ours.step(ours(z).sums)
        smooth = (count + 0.01) / (count.sum() + 0.16) * count.sum()
        expected = (total / smooth[:, None]).float()
        torch.testing.assert_close(ours.embedding.weight.detach(), expected)
        assert int(ours.steps) == step + 1


def test_cosine_codes_stay_units() -> None:
    ours = quantizer(use_cosine_sim=True, start="kaiming")
    for step in range(3):
        torch.testing.assert_close(ours.embedding.weight.norm(dim=1), torch.ones(16))
        ours.step(ours(latents(seed=step)).sums, draws())


def test_zero_counts_make_unused_codes_jump() -> None:
    """Their running means are divided by a count of next to nothing."""
    lengths = {}
    for zero in (True, False):
        ours = quantizer(zero_counts=zero, dead_codes="off", decay=0.8)
        sums = ours(latents(batch=1, side=3)).sums
        unused = sums.count == 0
        before = ours.embedding.weight.norm(dim=1)
        ours.step(sums)
        lengths[zero] = (ours.embedding.weight.norm(dim=1) / before)[unused]
    assert unused.any()
    jump = torch.full_like(lengths[True], 0.8 / 1e-5)
    torch.testing.assert_close(lengths[True], jump, rtol=1e-3, atol=0)
    torch.testing.assert_close(lengths[False], torch.ones_like(lengths[False]), rtol=1e-3, atol=0)


def test_decay_follows_the_estimator() -> None:
    assert quantizer(estimator="rotation").decay == 0.8
    assert quantizer(estimator="rotation_no_scale").decay == 0.8
    assert quantizer().decay == 0.99
    assert quantizer(decay=0.5).decay == 0.5


# --- settings -----------------------------------------------------------------------------------


def test_a_normal_start_under_rotation_warns() -> None:
    with pytest.warns(UserWarning) as caught:
        quantizer(dead_codes="off", estimator="rotation")
    assert [str(warning.message) for warning in caught] == [
        "a codebook that starts at N(0, 1) has collapsed to a single code under the estimator "
        "'rotation' without replacement of dead codes; start='data' or dead_codes='resample' "
        "avoids it"
    ]
    quantizer(dead_codes="off")
    quantizer(estimator="rotation")
    quantizer(dead_codes="off", estimator="rotation", start="kaiming")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"codebook_update": "emma"},
            "there is no codebook_update called 'emma'. Did you mean 'ema'? Known: ema, gradient.",
        ),
        (
            {"dead_codes": "sample"},
            "there is no dead_codes rule called 'sample'. Did you mean 'resample'? "
            "Known: cvq, off, resample.",
        ),
        (
            {"start": "date"},
            "a codebook cannot start as 'date'. Did you mean 'data'? "
            "Known: data, kaiming, normal, uniform.",
        ),
        ({"decay": 1.0}, "decay lies in [0, 1); got 1.0"),
        (
            {"start": "data", "kmeans_iters": 0},
            "a start from data takes at least one batch; got kmeans_iters=0",
        ),
        (
            {"legacy_beta": True},
            "legacy_beta weighs the codebook loss, and running means have none; it goes with "
            "codebook_update='gradient'",
        ),
        (
            {"dim": 0},
            "a quantizer has at least one dimension and two codes; got dim=0 and codebook_size=16",
        ),
        (
            {"codes": 1},
            "a quantizer has at least one dimension and two codes; got dim=4 and codebook_size=1",
        ),
        (
            {"estimator": "rotation", "estimator_args": {"max_angel": 30}},
            "the estimator 'rotation' has no setting 'max_angel'. Did you mean 'max_angle'? "
            "Known: max_angle, max_scale, strict.",
        ),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        quantizer(**settings)
    assert str(error.value) == message
