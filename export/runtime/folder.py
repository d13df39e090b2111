"""A folder that `vqtok export` wrote: whether its files are whole, and belong together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vqtok.config_file import CONFIG_FILE, print_in, read_config, vocab_in
from vqtok.contents import CONFIG, GRAPHS, exported_files, is_exported
from vqtok.errors import ConfigError, LoadError, MismatchError, VqtokError
from vqtok.export.runtime.headers import properties
from vqtok.preprocess import CONFIG_NAME, Preprocess
from vqtok.prints import of_settings
from vqtok.traits import Traits
from vqtok.types import Fingerprint
from vqtok.vocab import VisualVocab

__all__ = ["PARITY", "PROBE", "SCHEMA", "Exported", "opened", "sha256"]

# Of the folder and of each graph in it.
SCHEMA = "vqtok-onnx/1"
PROBE, PARITY = "probe.safetensors", "parity.json"
# What config.json tells -> what is taken for it.
KINDS = {"pixels": ("uint8", "float"), "codes": ("int64", "int32")}


@dataclass(frozen=True)
class Exported:
    """What a folder's config.json says, once it is known to be true.

    precision, decoder_precision  of ids and of pixels
    pixels  "uint8" (N, [T,] H, W, 3) or "float" (N, 3, [T,] H, W) in [0, 1]
    codes   the type of ids: "int64" or "int32"
    agreement  of the probe's ids that are no near ties, the share that the graphs gave as torch did
               where they were exported; None where nobody has measured it
    files   of the graphs, and what lies beside them: name -> sha256
    """

    path: Path
    fingerprint: Fingerprint
    traits: Traits
    precision: str
    decoder_precision: str
    pixels: str
    codes: str
    agreement: float | None
    files: Mapping[str, str]

    @property
    def roles(self) -> tuple[str, ...]:
        """Which graphs there are: "encoder", "decoder", and maybe those of lone pictures."""
        return tuple(name.removesuffix(".onnx") for name in GRAPHS if name in self.files)

    def file(self, role: str) -> Path:
        """Where a graph is."""
        return self.path / f"{role}.onnx"

    def check_unchanged(self, role: str) -> None:
        """Raises where a graph, or what lies beside it, was replaced since the folder was read."""
        for name in (f"{role}.onnx", f"{role}.onnx.data"):
            said = self.files.get(name)
            if said is not None and (here := sha256(self.path / name)) != said:
                raise MismatchError(
                    f"{self.path / name} was replaced since this tokenizer was loaded: its sha256 "
                    f"was {said} and is {here} now"
                )

    @cached_property
    def settings(self) -> Preprocess:
        """The preprocessing that it was exported with."""
        return Preprocess.load(self.path)

    @cached_property
    def vocab(self) -> VisualVocab:
        """The vocabulary that it was exported with."""
        stored = read_config(self.path)
        vocab = vocab_in(self.path, stored)
        if vocab is None:
            raise LoadError(f"{self.path} lacks {CONFIG_FILE}")
        return vocab


def opened(folder: Path) -> Exported:
    """What is in a folder, where its files are those that were written, and of one tokenizer.

    It reads them all, to hash them. `MismatchError` where two of them differ, and the fault of a
    file where one is not whole.
    """
    if not is_exported(folder):
        raise ConfigError(
            f"{folder} holds no ONNX graphs, which `vqtok export` writes of a tokenizer"
        )
    config = _config(folder)
    found = _described(folder.absolute(), config)  # for a process may go elsewhere
    _check_files(folder, found.files)
    for role in found.roles:
        _check_graph(found, role)
    _check_beside(found)
    return found


def _config(folder: Path) -> dict[str, Any]:
    file = folder / CONFIG
    config = json.loads(file.read_text(encoding="utf-8"))
    if config.get("schema") != SCHEMA:
        raise LoadError(
            f"{file} has the schema {config.get('schema')!r}; this version reads {SCHEMA!r}"
        )
    exported_files(folder)
    return dict(config)


def _described(folder: Path, config: Mapping[str, Any]) -> Exported:
    file = folder / CONFIG
    try:
        for name, known in KINDS.items():
            if config[name] not in known:
                raise LoadError(f"{name} is {' or '.join(known)}; got {config[name]!r}")
        _check_told(config)
        return Exported(
            path=folder,
            fingerprint=Fingerprint.from_dict(config["fingerprint"]),
            traits=Traits.from_dict(config["traits"]),
            precision=str(config["precision"]),
            decoder_precision=str(config["decoder_precision"]),
            pixels=config["pixels"],
            codes=config["codes"],
            agreement=config["agreement"],
            files={name: said["sha256"] for name, said in sorted(config["files"].items())},
        )
    except (KeyError, TypeError) as error:
        raise LoadError(f"{file} does not say what it should: {error}") from None
    except LoadError as error:
        raise LoadError(f"{file}: {error}") from None


def _check_told(config: Mapping[str, Any]) -> None:
    """Raises where what others read of it, or hold graphs to, is not there."""
    opset, made, agreement = (config[name] for name in ("opset", "made_with", "agreement"))
    if type(opset) is not int or opset < 1:
        raise LoadError(f"opset is a whole number, at least 1; got {opset!r}")
    if not isinstance(made, dict) or not all(isinstance(one, str) for one in made.values()):
        raise LoadError(f"made_with has the version of each package; got {made!r}")
    if agreement is not None and (type(agreement) not in (int, float) or not 0 <= agreement <= 1):
        raise LoadError(f"agreement is a share from 0 to 1, or null; got {agreement!r}")


def sha256(file: Path) -> str:
    """Of a file's bytes, in hexadecimal digits."""
    with file.open("rb") as stored:
        return hashlib.file_digest(stored, "sha256").hexdigest()


def _check_files(folder: Path, files: Mapping[str, str]) -> None:
    for name, said in files.items():
        file = folder / name
        if not file.is_file():
            raise LoadError(f"{folder} lacks {name}, which its {CONFIG} names")
        if (digest := sha256(file)) != said:
            raise MismatchError(f"{file} has the sha256 {digest}, and {CONFIG} says {said}")


def _check_graph(found: Exported, role: str) -> None:
    """Raises where a graph is that of another tokenizer, or another part."""
    file = found.file(role)
    stored = properties(file)
    encodes = role.endswith("encoder")
    checks: dict[str, tuple[Callable[[str], Any], Any]] = {
        "schema": (str, SCHEMA),
        "role": (str, role),
        "fingerprint": (_fingerprint, found.fingerprint),
        "codebook": (str, found.fingerprint.codebook),
        "preprocess": (_settings, found.settings),
        "precision": (str, found.precision if encodes else found.decoder_precision),
        "traits": (_traits, found.traits),
    }
    for name, (read, expected) in checks.items():
        text = stored.get(f"vqtok.{name}")
        try:
            here = None if text is None else read(text)
        except (ValueError, VqtokError) as error:
            raise LoadError(f"{file}: vqtok.{name} is {text!r}: {error}") from error
        if here != expected:
            raise MismatchError(
                f"{file} has the {name} {_said(here)}, and the folder's is {_said(expected)}; they "
                "are not of one export"
            )


def _fingerprint(text: str) -> Fingerprint:
    return Fingerprint.from_dict(json.loads(text))


def _settings(text: str) -> Preprocess:
    return Preprocess.from_config(json.loads(text))


def _traits(text: str) -> Traits:
    return Traits.from_dict(json.loads(text))


def _said(value: Any) -> str:
    return "(none)" if value is None else str(value)


def _check_beside(found: Exported) -> None:
    """Raises where preprocessing or vocabulary are another tokenizer's, or act otherwise here."""
    folder, print_ = found.path, found.fingerprint
    here = of_settings(found.settings)
    if here != print_.preprocess:
        raise MismatchError(
            f"{folder / CONFIG_NAME} makes pixels of the print {here}, and {CONFIG} says "
            f"{print_.preprocess}: it is another, or pictures are resized otherwise on this machine"
        )
    named = print_in(folder, read_config(folder), None)
    if named != print_:
        raise MismatchError(
            f"{folder / CONFIG_FILE} names the fingerprint {_said(named)}, and {CONFIG} {print_}"
        )
