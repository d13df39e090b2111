"""Figures of lpips, torchmetrics and torch-fidelity; run by an interpreter that has these.

    python run.py FOLDER

FOLDER holds given.safetensors (a, b: uint8 pictures (N, 3, H, W); p, q: vectors (N, D)) and the
weights that `vqtok` was given, under its own names; the figures go to FOLDER/oracle.safetensors.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import lpips
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torchmetrics.functional.image.lpips import _LPIPS
from torchmetrics.image.fid import FrechetInceptionDistance

TRUNKS = {"vgg": "lpips_vgg16_features", "alex": "lpips_alexnet_features"}
FIDELITY = "frechet_inception_distance"


def distances(folder: Path, a: Tensor, b: Tensor) -> dict[str, Tensor]:
    """LPIPS of both packages over the trunks in the folder, and the packages' heads."""
    x, y = (t.float() / 127.5 - 1 for t in (a, b))
    found = {}
    for net, file in TRUNKS.items():
        weights = load_file(folder / f"{file}.safetensors")
        packages = {
            "lpips": lpips.LPIPS(net=net, pnet_rand=True, verbose=False),
            "torchmetrics": _LPIPS(net=net, pnet_rand=True),
        }
        for name, package in packages.items():
            fill(package.net, weights)
            found[f"{name}.{net}"] = package(x, y).detach().flatten()
        for i in range(5):
            head = getattr(packages["lpips"], f"lin{i}").model[1].weight
            found[f"head.{net}.lin{i}"] = head.detach().clone()
    return found


def fill(trunk: nn.Module, weights: dict[str, Tensor]) -> None:
    """The packages cut `features` into slices; the layers keep their numbers."""
    own = trunk.state_dict()
    trunk.load_state_dict({name: weights[name.partition(".")[2]] for name in own})


def fidelity(folder: Path, a: Tensor, b: Tensor) -> dict[str, Tensor]:
    """Features, FID and the Inception score of torch-fidelity, and torchmetrics' FID."""
    file = str(folder / "inception.pth")
    wanted = ["2048", "logits_unbiased"]
    net = FeatureExtractorInceptionV3("net", wanted, feature_extractor_weights_path=file)
    (pool_a, logits), (pool_b, _) = net(a), net(b)
    found = {"pool3": pool_a, "logits": logits, "fid": frechet(pool_a, pool_b)}
    for splits in (1, 4):
        # In order: a part of every fourth picture, as a part in a row.
        order = np.argsort(np.arange(len(logits)) % splits, kind="stable")
        score = isc_features_to_metric(logits[order], splits, shuffle=False)
        found[f"score.{splits}"] = torch.tensor(list(score.values()), dtype=torch.float64)
    metric = FrechetInceptionDistance(antialias=False, feature_extractor_weights_path=file)
    metric = metric.set_dtype(torch.float64)
    metric.update(a, real=True)
    metric.update(b, real=False)
    found["fid.torchmetrics"] = metric.compute()
    return found


def frechet(a: Tensor, b: Tensor) -> Tensor:
    statistics = [fid_features_to_statistics(t.double()) for t in (a, b)]
    distance = fid_statistics_to_metric(*statistics, verbose=False)[FIDELITY]
    return torch.tensor(distance, dtype=torch.float64)


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    given = load_file(folder / "given.safetensors")
    pictures = given["a"], given["b"]
    with torch.no_grad():
        found = distances(folder, *pictures) | fidelity(folder, *pictures)
    found["frechet"] = frechet(given["p"], given["q"])
    save_file({n: t.double().contiguous() for n, t in found.items()}, folder / "oracle.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
