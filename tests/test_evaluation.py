from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_weights import VARIABLES, random_weights
from torch import Tensor, nn

from vqtok.autoencoders.video import AutoencoderVQTimesformer
from vqtok.codec import TorchCodec
from vqtok.errors import ConfigError, ImageError, InputError, MismatchError
from vqtok.evaluation import Evaluation, Metrics, WeightFiles, choose, compared, evaluate, run
from vqtok.evaluation.parts import PARTS, Rfid, Rfvd
from vqtok.evaluation.report import table
from vqtok.metrics.frechet import Moments, frechet_distance
from vqtok.metrics.inception import CLASSES, Features
from vqtok.metrics.pixels import psnr, ssim
from vqtok.metrics.quantization import statistics
from vqtok.metrics.usage import code_usage
from vqtok.metrics.weights import MissingWeights
from vqtok.quantizers import QUANTIZERS

PLAIN = ("psnr", "ssim_uniform7", "ssim_gaussian11", "usage", "quantization", "bits_per_pixel")


@pytest.fixture(autouse=True)
def no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """None on this machine."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "none"))


class Set(NamedTuple):
    """Pictures (N, 3, S, S), what became of them, codes (N, 2, 2, 2) of 64, vectors and codes."""

    pixels: Tensor
    back: Tensor
    codes: Tensor
    e: Tensor
    q: Tensor

    def part(self, rows: Any) -> tuple[Tensor, ...]:
        return tuple(tensor[rows] for tensor in self)


def noise(n: int, side: int = 12, seed: int = 0) -> Set:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (n, 3, side, side), generator=generator, dtype=torch.uint8)
    shift = torch.randint(0, 9, pixels.shape, generator=generator, dtype=torch.uint8)
    codes = torch.randint(0, 64, (n, 2, 2, 2), generator=generator)
    e, q = (torch.randn(n, 4, 2, 2, generator=generator) for _ in range(2))
    return Set(pixels, pixels.clamp(max=240) + shift, codes, e, q)


def measured(data: Set, names: tuple[str, ...] = PLAIN, rows: Any = slice(None)) -> Evaluation:
    evaluation = Evaluation(64, 2, Metrics.load(names))
    evaluation.add(*data.part(rows))
    return evaluation


def flat(value: Any) -> list[float]:
    """All numbers in a result, in order."""
    if isinstance(value, dict):
        return [number for inner in value.values() for number in flat(inner)]
    if isinstance(value, list):
        return [number for inner in value for number in flat(inner)]
    return [value]


# --- figures --------------------------------------------------------------------------------------


def test_figures_are_those_of_the_metrics() -> None:
    data = noise(5)
    found = measured(data).result()
    x, y = (t.permute(0, 2, 3, 1).numpy() for t in data[:2])
    error = np.square(x.astype(float) - y).mean()
    rows = [t.movedim(1, -1) for t in (data.e, data.q)]
    exact = statistics(*rows)
    assert found["metrics"].pop("quantization") == pytest.approx(exact._asdict(), rel=0.3)
    assert found == {
        "metrics": {
            "psnr": pytest.approx(psnr(x, y).mean(), rel=1e-12),
            "psnr_of_mean_mse": pytest.approx(10 * np.log10(255**2 / error), rel=1e-12),
            "ssim_uniform7": pytest.approx(ssim(x, y).mean(), rel=1e-12),
            "ssim_gaussian11": pytest.approx(ssim(x, y, "gaussian11").mean(), rel=1e-12),
            "usage": [
                dict(
                    zip(
                        ("whole", "per_batch_of_256", "window_of_65536", "perplexity"),
                        code_usage(data.codes[..., level], 64),
                        strict=True,
                    )
                )
                for level in range(2)
            ],
            "bits_per_pixel": 4 * 2 * 6 / 144,
        },
        "names": {},
        "reasons": {},
        "notes": {},
        "counts": {"pictures": 5},
    }


def test_quantization_is_that_of_the_vectors() -> None:
    data = noise(5)
    found = measured(data, ("quantization",)).result()["metrics"]["quantization"]
    exact = statistics(*(t.movedim(1, -1) for t in (data.e, data.q)))._asdict()
    for name in exact:
        if not name.startswith("scale"):
            assert found[name] == pytest.approx(exact[name], rel=1e-12)


def test_the_two_ways_to_a_mean() -> None:
    """Errors of 1 and of 4 everywhere."""
    zero = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    back = zero + torch.tensor([1, 4], dtype=torch.uint8).view(2, 1, 1, 1)
    evaluation = Evaluation(64, 0, Metrics.load(["psnr"]))
    evaluation.add(zero, back, torch.zeros(2, 1, 1, dtype=torch.int64))
    top = 20 * math.log10(255)
    assert evaluation.result()["metrics"] == {
        "psnr": pytest.approx(top - 10 * math.log10(4)),
        "psnr_of_mean_mse": pytest.approx(top - 10 * math.log10(17 / 2)),
    }


def test_usage_by_hand() -> None:
    """Of two codebooks of four: 1, 1, 1, 1 and 0, 1, 2, 2."""
    codes = torch.tensor([[[[1, 0], [1, 1]]], [[[1, 2], [1, 2]]]])
    data = noise(2)
    evaluation = Evaluation(4, 2, Metrics.load(["usage"]))
    evaluation.add(data.pixels, data.back, codes)
    first, second = evaluation.result()["metrics"]["usage"]
    assert (first["whole"], first["perplexity"]) == (0.25, pytest.approx(1))
    entropy = math.log(4) / 2 + math.log(2) / 2
    assert (second["whole"], second["perplexity"]) == (0.75, pytest.approx(math.exp(entropy)))


def test_floats_are_rounded_once() -> None:
    data = noise(3)
    signed = (data.back.float() - 127.5) / 127.5
    evaluation = Evaluation(64, 2, Metrics.load(PLAIN))
    evaluation.add(data.pixels, signed + 1e-3, *data[2:])
    assert evaluation.result() == measured(data).result()


def test_arrays_have_their_channels_last() -> None:
    data = noise(3)
    arrays = [t.permute(0, 2, 3, 1).numpy() for t in data[:2]]
    evaluation = Evaluation(64, 2, Metrics.load(PLAIN))
    evaluation.add(*arrays, *data[2:])
    assert evaluation.result() == measured(data).result()


# --- parts ----------------------------------------------------------------------------------------


@settings(max_examples=10)
@given(st.permutations(range(12)), st.integers(1, 5), st.integers(1, 3))
def test_batches_order_and_processes_change_nothing(
    order: list[int], size: int, ranks: int
) -> None:
    data = noise(12)
    metrics = Metrics.load(PLAIN)
    each = [Evaluation(64, 2, metrics) for _ in range(ranks)]
    for turn, start in enumerate(range(0, 12, size)):
        rows = order[start : start + size]
        each[turn % ranks].add(*data.part(rows), places=rows)
    for other in each[1:]:
        each[0].merge(pickle.loads(pickle.dumps(other.state())))
    whole, joined = measured(data).result(), each[0].result()
    assert flat(joined["metrics"]) == pytest.approx(flat(whole["metrics"]), rel=1e-12)
    assert joined["counts"] == whole["counts"]


def test_sums_without_places_follow_each_other() -> None:
    data = noise(300, side=7)
    one = measured(data, ("psnr", "usage"))
    several = Evaluation(64, 2, Metrics.load(("psnr", "usage")))
    for start in range(0, 300, 77):
        several.add(*data.part(slice(start, start + 77)))
    assert several.result() == one.result()  # the same bits


def test_what_cannot_be_merged() -> None:
    one = measured(noise(2), ("usage",))
    with pytest.raises(InputError) as error:
        one.merge(measured(noise(2), ("usage",)))
    assert str(error.value) == "the picture at place 0 counts once; it came twice"
    with pytest.raises(MismatchError) as other:
        one.merge(Evaluation(32, 0, Metrics.load(["psnr"], is_video=True)))
    assert str(other.value) == (
        "evaluations that are merged are of one kind; got usage of pictures in 64 codes at depth "
        "2 and psnr of clips in 32 codes at depth 0"
    )


def test_a_figure_that_one_part_lacks_is_lacking() -> None:
    metrics = Metrics.load()
    data = noise(2)
    whole, lacking = Evaluation(64, 2, metrics), Evaluation(64, 2, metrics)
    whole.add(*data)
    lacking.add(*data[:3], places=[2, 3])
    whole.merge(lacking)
    found = whole.result()
    assert found["metrics"]["quantization"] is None
    assert found["reasons"]["quantization"] == "this codec keeps its vectors to itself"


# --- what cannot be had ---------------------------------------------------------------------------


def test_missing_weights_are_null_with_a_reason() -> None:
    metrics = Metrics.load()
    assert metrics.names == PLAIN
    evaluation = Evaluation(64, 2, metrics)
    evaluation.add(*noise(2))
    found = evaluation.result()
    lacking = ["lpips_vgg", "lpips_alex", "rfid", "ris"]
    assert sorted(found["reasons"]) == sorted(lacking)
    assert found["reasons"]["lpips_vgg"].startswith("no weights of VGG16 (the network of LPIPS")
    for name in (*lacking, "ris_deviation"):
        assert found["metrics"][name] is None
    assert list(found["metrics"]) == [
        key for part in PARTS.values() if part is not Rfvd for key in part.figures
    ]
    lines = table(found)
    assert [line.split() for line in lines if line.startswith("rFID")] == [["rFID-2", "-"]]
    assert lines[-1] == f"rfid, ris: {found['reasons']['rfid']}"


@pytest.mark.parametrize("name", ["lpips", "lpips_alex", "rfid", "ris"])
def test_missing_weights_of_a_metric_by_name_are_an_error(name: str) -> None:
    with pytest.raises(MissingWeights, match=r"^no weights of "):
        Metrics.load([name])
    with pytest.raises(MissingWeights, match=r"^no weights of I3D"):
        Metrics.load(["rfvd"], is_video=True)


def test_a_path_that_leads_nowhere_is_an_error(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "none.pth")
    for weights in (WeightFiles(inception=nowhere), WeightFiles(lpips=nowhere)):
        with pytest.raises(MissingWeights) as error:
            Metrics.load(weights=weights)
        assert f"the path given says {nowhere}, which is not there" in str(error.value)


def test_weights_of_one_lpips_network(tmp_path: Path) -> None:
    file = random_weights(tmp_path, "alexnet")
    metrics = Metrics.load(weights=WeightFiles(lpips=str(tmp_path)))
    assert "lpips_alex" in metrics.names
    assert sorted(metrics.reasons) == ["lpips_vgg", "rfid", "ris"]
    assert sorted(metrics.files) == ["alexnet", "lpips"]
    assert metrics.files["alexnet"]["file"] == file.name
    data = noise(3, side=40)
    found = [lpips_of(metrics, data.part(rows)) for rows in (slice(None), slice(1), slice(1, None))]
    assert found[0] == pytest.approx((found[1] + 2 * found[2]) / 3, rel=1e-5)
    assert found[0] > 0 and lpips_of(metrics, (data.pixels, data.pixels, *data[2:])) == 0


def lpips_of(metrics: Metrics, part: tuple[Tensor, ...]) -> float:
    evaluation = Evaluation(64, 2, metrics)
    evaluation.add(*part)
    value: float = evaluation.result()["metrics"]["lpips_alex"]
    return value


def test_small_pictures_lack_a_window() -> None:
    data = noise(2, side=8)
    evaluation = Evaluation(64, 2, Metrics.load())
    evaluation.add(*data)
    found = evaluation.result()
    why = "SSIM with the window 'gaussian11' needs pictures of at least 11 x 11 pixels; got 8 x 8"
    assert found["reasons"]["ssim_gaussian11"] == why
    assert found["metrics"]["ssim_gaussian11"] is None
    assert (
        found["metrics"]["ssim_uniform7"]
        == ssim(*(t.permute(0, 2, 3, 1).numpy() for t in data[:2])).mean()
    )
    with pytest.raises(ImageError) as error:
        measured(data, ("ssim_gaussian11",))
    assert str(error.value) == why


def test_numbers_that_json_does_not_have() -> None:
    pixels = noise(2).pixels
    vectors = torch.ones(2, 4, 1, 1)
    evaluation = Evaluation(64, 0, Metrics.load(["psnr", "quantization"]))
    evaluation.add(pixels, pixels, torch.zeros(2, 1, 1, dtype=torch.int64), vectors, vectors)
    found = evaluation.result()
    assert found["metrics"]["psnr"] is found["metrics"]["psnr_of_mean_mse"] is None
    assert found["metrics"]["quantization"]["relative_error"] is None
    undefined = "not defined for what was seen: too little, or all of it alike"
    assert found["reasons"] == {
        "psnr": "infinite: something came back without any error",
        "psnr_of_mean_mse": "infinite: something came back without any error",
        "quantization.relative_error": undefined,
    }
    assert table(found)[-2:] == [
        "psnr, psnr_of_mean_mse: infinite: something came back without any error",
        f"quantization.relative_error: {undefined}",
    ]


def test_nothing_has_no_figures() -> None:
    for ask in (measured(noise(0), ("bits_per_pixel",)).result, lambda: evaluate(tiny.model(), [])):
        with pytest.raises(InputError) as error:
            ask()
        assert str(error.value) == "an evaluation is that of one picture at least; there was none"


def test_what_is_no_batch() -> None:
    evaluation = Evaluation(64, 2, Metrics.load(["psnr"]))
    data = noise(2)
    with pytest.raises(ImageError) as error:
        evaluation.add(data.pixels, data.back[:, :, :5], data.codes)
    assert str(error.value) == (
        "pixels and reconstruction have one shape; as (N, T, H, W, C) they are (2, 1, 12, 12, 3) "
        "and (2, 1, 5, 12, 3)"
    )
    with pytest.raises(InputError) as other:
        evaluation.add(data.pixels, data.back, data.codes[:1], places=[1, 2, 3])
    assert str(other.value) == ("2 pictures need as many grids of codes and places; got 1 and 3")
    with pytest.raises(ImageError) as third:
        evaluation.add(data.pixels[0], data.back[0], data.codes)
    assert str(third.value) == (
        "to be compared are tensors (N, C, H, W) or (N, C, T, H, W), or uint8 arrays with "
        "channels last; got uint8 (3, 12, 12)"
    )
    with pytest.raises(InputError) as fourth:
        clips = data.pixels[:, :, None].expand(-1, -1, 2, -1, -1)
        evaluation.add(clips, clips, data.codes)
    assert str(fourth.value) == "these are clips; their metrics are loaded with is_video=True"


def test_choosing() -> None:
    assert choose(["lpips", "psnr"]) == ["psnr", "lpips_vgg", "lpips_alex"]
    assert set(choose(None)) | {"rfvd"} == set(PARTS)
    assert set(choose(None, is_video=True)) == set(PARTS) - {"rfid", "ris"}
    with pytest.raises(ConfigError) as error:
        choose(["fid"])
    assert str(error.value) == (
        "there is no metric called 'fid'. Did you mean 'rfid'? Known: bits_per_pixel, lpips, "
        "lpips_alex, lpips_vgg, psnr, quantization, rfid, rfvd, ris, ssim, ssim_gaussian11, "
        "ssim_uniform7, usage."
    )
    with pytest.raises(ConfigError) as still:
        choose(["rfvd"])
    assert str(still.value) == "'rfvd' is a metric of clips; these are pictures"
    with pytest.raises(ConfigError) as moving:
        choose(["rfid"], is_video=True)
    assert str(moving.value) == "'rfid' is a metric of pictures; these are clips"


# --- distances of sets ----------------------------------------------------------------------------


class Seen(nn.Module):
    """Stands for Inception: means over colours, and logits that name the brightest third."""

    calls = 0

    def features(self, pictures: Tensor) -> Features:
        self.calls += 1
        assert pictures.dtype == torch.uint8 and pictures.shape[1:] == (3, 12, 12)
        means = pictures.double().flatten(2).mean(2)
        logits = torch.zeros(len(pictures), CLASSES)
        logits[range(len(pictures)), means.argmax(1)] = 1e3
        return Features(means, logits)


def inception() -> Metrics:
    seen = Seen()
    return Metrics(("rfid", "ris"), networks={"rfid": seen, "ris": seen})


def test_rfid_is_the_distance_and_is_called_by_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rfid, "width", 3)
    data, metrics = noise(20), inception()
    evaluation = Evaluation(64, 2, metrics)
    for start in (0, 12):
        evaluation.add(*data.part(slice(start, start + 12)))
    found = evaluation.result()
    assert metrics.networks["rfid"].calls == 4  # once a set and batch, for both figures
    sets = []
    for pictures in data[:2]:
        moments = Moments(3)
        moments.add(Seen().features(pictures).pool3)
        sets.append(moments)
    assert found["metrics"]["rfid"] == pytest.approx(frechet_distance(*sets), rel=1e-9)
    assert found["metrics"]["ris"] > 1
    assert found["names"] == {"rfid": "rFID-20", "ris": "rIS-20"}
    evaluation.count = 50_000
    assert evaluation.result()["names"] == {"rfid": "rFID", "ris": "rIS"}
    assert any(line.startswith("rIS, mean of 10 splits  ") for line in table(evaluation.result()))


def test_the_inception_score_of_one_kind_of_picture_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Rfid, "width", 3)
    red = torch.zeros(10, 3, 12, 12, dtype=torch.uint8)
    red[:, 0] = 9
    evaluation = Evaluation(64, 2, inception())
    evaluation.add(red, red, noise(10).codes)
    found = evaluation.result()
    assert found["metrics"] == {
        "rfid": 0,
        "ris": pytest.approx(1),
        "ris_deviation": pytest.approx(0, abs=1e-9),
    }
    assert found["notes"] == {}


def test_too_few_pictures_for_a_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rfid, "width", 3)
    evaluation = Evaluation(64, 2, inception())
    evaluation.add(*noise(2))
    found = evaluation.result()
    note = (
        "2 are too few for a covariance of 3 features, which takes more than 3: the figure says "
        "little"
    )
    assert found["notes"] == {"rfid": note}
    assert found["metrics"]["ris"] is None  # ten splits of two pictures
    assert table(found)[-1] == f"rfid: {note}"


def test_ranks_join_to_one_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rfid, "width", 3)
    data, metrics = noise(20), inception()
    whole = Evaluation(64, 2, metrics)
    whole.add(*data)
    ranks = [Evaluation(64, 2, metrics) for _ in range(2)]
    for rank, evaluation in enumerate(ranks):
        evaluation.add(*data.part(slice(rank, None, 2)), places=range(rank, 20, 2))
    state = ranks[1].state()
    assert len(pickle.dumps(state)) < 200_000  # sums, not a network
    ranks[0].merge(state)
    assert flat(ranks[0].result()["metrics"]) == pytest.approx(
        flat(whole.result()["metrics"]), rel=1e-9
    )


def test_weights_without_a_classifier_have_no_score(tmp_path: Path) -> None:
    from vqtok.metrics.inception import NO_LOGITS, Inception

    file = tmp_path / "fid_inception_2015_12_05.safetensors"
    file.write_bytes(b"")
    weights = WeightFiles(inception=str(file))
    bare = Inception(classifier=False)
    with (
        mock.patch.object(Inception, "to", lambda self, device: self),
        mock.patch.dict(
            "vqtok.evaluation.chosen.LOADERS", dict.fromkeys(("rfid", "ris"), lambda _: bare)
        ),
    ):
        metrics = Metrics.load(weights=weights)
        assert "rfid" in metrics.names and metrics.reasons["ris"] == NO_LOGITS
        with pytest.raises(MissingWeights) as error:
            Metrics.load(["ris"], weights=weights)
    assert str(error.value) == NO_LOGITS


# --- models ---------------------------------------------------------------------------------------


def test_a_model_and_its_codec() -> None:
    tok = tiny.tokenizer()
    pixels = noise(6, side=16).pixels
    model = tok.model.train()
    found = evaluate(model, pixels.split(4), PLAIN)
    assert model.training
    assert evaluate(tok.model.eval(), pixels.split(1), PLAIN)["counts"] == {"pictures": 6}
    other = evaluate(TorchCodec(tok.model, tok.fingerprint), pixels.split(4), None)
    assert other["reasons"]["quantization"] == "this codec keeps its vectors to itself"
    for name in ("psnr", "ssim_uniform7", "ssim_gaussian11", "usage", "bits_per_pixel"):
        assert other["metrics"][name] == found["metrics"][name]
    assert found["metrics"]["bits_per_pixel"] == 6 / 16
    assert 0 < found["metrics"]["quantization"]["relative_error"] < 9


def test_a_pass_is_what_the_tokenizer_does() -> None:
    model = tiny.model()
    pixels = noise(3, side=16).pixels
    done = run(model, pixels)
    codes = model.encode_codes(pixels)
    assert torch.equal(done.codes, codes)
    assert torch.equal(done.reconstruction.clamp(-1, 1), model.decode_codes(codes))
    assert torch.equal(done.q, model.quantize.decode(codes))
    with torch.no_grad():
        latents = model.encode((pixels.float() - 127.5) * (1 / 127.5)).latents
    assert torch.equal(done.e, compared(model.quantize, latents))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("vector", {"use_cosine_sim": True}),
        ("grouped", {"groups": 2, "use_cosine_sim": True}),
        ("residual", {"num_quantizers": 2}),
    ],
)
def test_vectors_are_those_that_codes_were_chosen_for(name: str, arguments: Any) -> None:
    quantizer = QUANTIZERS[name](4, 16, start="kaiming", **arguments)
    latents = noise(3).e
    found = compared(quantizer, latents)
    if name == "residual":
        assert torch.equal(found, latents)
        return
    parts = found.chunk(arguments.get("groups", 1), 1)
    assert all(torch.allclose(part.norm(dim=1), torch.ones(3, 2, 2)) for part in parts)
    assert torch.equal(quantizer.encode(found), quantizer.encode(latents))


def test_clips() -> None:
    torch.manual_seed(0)
    model = AutoencoderVQTimesformer(
        latent_channels=16,
        depth=1,
        heads=2,
        mlp_dim=16,
        sample_size=16,
        sample_frames=3,
        num_vq_embeddings=64,
        vq_embed_dim=4,
        quantizer_args={"start": "kaiming"},
    ).eval()
    clips = torch.stack([noise(3, side=16, seed=seed).pixels.transpose(0, 1) for seed in range(4)])
    found = evaluate(model, clips.split(3))
    back = run(model, clips).reconstruction
    scores = []
    for one, other in zip(clips, back, strict=True):
        frames = other.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
        pair = (t.permute(1, 2, 3, 0).numpy() for t in (one, frames))
        scores.append(psnr(*pair).mean())
    assert found["metrics"]["psnr"] == pytest.approx(np.mean(scores), rel=1e-3)
    assert found["counts"] == {"clips": 4, "frames": 12}
    assert found["metrics"]["bits_per_pixel"] == 6 / 4
    assert found["names"] == {"rfvd": "rFVD-4, 3 frames"}
    assert sorted(found["reasons"]) == ["lpips_alex", "lpips_vgg", "rfvd"]
    assert table(found)[:3:2] == ["clips                                 4", table(found)[2]]
    assert table(found)[2].startswith("PSNR, mean over clips  ")


class Moving(nn.Module):
    """Stands for I3D."""

    def features(self, clips: Tensor) -> Tensor:
        assert clips.dtype == torch.uint8 and clips.shape[1:] == (2, 12, 12, 3)
        return clips.double().mean((1, 2, 3))


def test_rfvd_is_the_distance_of_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rfvd, "width", 3)
    data = noise(8)
    clips = [torch.stack([t, t.flip(3)], 2) for t in data[:2]]
    metrics = Metrics(("rfvd",), is_video=True, networks={"rfvd": Moving()})
    evaluation = Evaluation(64, 2, metrics)
    evaluation.add(*clips, data.codes)
    means = [t.double().mean((2, 3, 4)) for t in clips]
    sets = [Moments(3), Moments(3)]
    for moments, rows in zip(sets, means, strict=True):
        moments.add(rows)
    assert evaluation.result()["metrics"]["rfvd"] == pytest.approx(frechet_distance(*sets))
