"""What a tokenizer is, as four sha256: preprocessing, encoder, codebook, decoder (`vqtok-fp/1`).

Hashed are integers and stored weights, never computed ids or latents: honest float32 runs differ
in their last bits, and a hash does not forgive. `vqtok.probe` checks behaviour, with bounds.

Weights count as their float32 values. Half-precision files widen exactly, so a float16 file, the
float32 copy that a loaded model saves and a stock export of either carry one print. Left out is
what changes neither ids nor pixels: class names, versions, scaling and shift, the estimator,
loss weights, running means.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vqtok.autoencoders import AUTOENCODERS, AutoencoderBase
from vqtok.autoencoders.loading import class_of
from vqtok.autoencoders.weights import read_json, stored_tensors, weight_files
from vqtok.errors import LoadError
from vqtok.preprocess import Preprocess
from vqtok.prints import digest, of_settings
from vqtok.quantizers import QUANTIZERS, TRAINING_STATE, Quantizer
from vqtok.types import Fingerprint

__all__ = ["of_codebook", "of_folder", "of_model", "of_settings"]

WEIGHTS = {
    "encoder": ("encoder.", "quant_conv."),
    "codebook": ("quantize.",),
    "decoder": ("post_quant_conv.", "decoder."),
}


def of_model(model: AutoencoderBase, settings: Preprocess) -> Fingerprint:
    """The print of a model in memory, in the dtype that its weights are stored in.

    It reads every weight. A model that is trained on has another print afterwards.
    """
    return _combine(type(model), model.config, model.state_dict().items(), settings)


def of_folder(folder: Path, settings: Preprocess, variant: str | None = None) -> Fingerprint:
    """The print of a saved model, read from its files a tensor at a time."""
    config = read_json(folder / "config.json")
    weights = stored_tensors(weight_files(folder, variant))
    return _combine(class_of(config), config, weights, settings)


def of_codebook(quantizer: Quantizer, kind: str, settings: Mapping[str, Any]) -> str:
    """The part of a print that the codebook has, of a quantizer that is in no model.

    kind, settings  its name in `QUANTIZERS`, and what a model has as `quantizer_args`
    """
    config = {
        "quantizer": kind,
        "quantizer_args": settings,
        "vq_embed_dim": quantizer.dim,
        "num_vq_embeddings": quantizer.codebook_size,
    }
    prints = {
        f"quantize.{name}": _tensor_print(tensor)
        for name, tensor in quantizer.state_dict().items()
        if not _only_trains(name)
    }
    return digest(_codebook_settings(config), prints)


def _combine(
    kind: type[AutoencoderBase],
    config: Mapping[str, Any],
    weights: Iterable[tuple[str, Tensor]],
    settings: Preprocess,
) -> Fingerprint:
    prints: dict[str, dict[str, str]] = {part: {} for part in WEIGHTS}
    for name, tensor in weights:
        if _only_trains(name):
            continue
        part = next((p for p, starts in WEIGHTS.items() if name.startswith(starts)), None)
        if part is None:
            raise LoadError(
                f"the weights hold {name!r}, which belongs to no part of a tokenizer; parts start "
                f"with {', '.join(start for starts in WEIGHTS.values() for start in starts)}"
            )
        prints[part][name] = _tensor_print(tensor)
    whole = {**_defaults(kind), **config}
    return Fingerprint(
        preprocess=of_settings(settings),
        encoder=digest(_settings(kind, whole, kind.ENCODER_SETTINGS), prints["encoder"]),
        codebook=digest(_codebook_settings(whole), prints["codebook"]),
        decoder=digest(_settings(kind, whole, kind.DECODER_SETTINGS), prints["decoder"]),
    )


def _only_trains(name: str) -> bool:
    return name.rsplit(".", 1)[-1] in TRAINING_STATE


def _tensor_print(tensor: Tensor) -> str:
    if tensor.dtype in (torch.float16, torch.bfloat16):
        tensor = tensor.float()
    data = tensor.detach().cpu().contiguous()
    head = f"{str(data.dtype).removeprefix('torch.')} {list(data.shape)} "
    return hashlib.sha256(head.encode() + data.numpy().tobytes()).hexdigest()


def _settings(
    kind: type[AutoencoderBase], config: Mapping[str, Any], names: Iterable[str]
) -> dict[str, Any]:
    """The settings of one part that are not `kind`'s default, and its architecture's name.

    That of the convolutional one is left out: its prints are older than the other architectures.
    """
    defaults = _defaults(kind)
    whole = kind.canonical({name: _plain(config[name]) for name in defaults})
    own = {name: whole[name] for name in names if whole[name] != _plain(defaults[name])}
    architecture = next(name for name in AUTOENCODERS if issubclass(kind, AUTOENCODERS[name]))
    return own if architecture == "cnn" else {**own, "architecture": architecture}


def _codebook_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    kind = config["quantizer"]
    given = config["quantizer_args"] or {}
    own = {
        name: _plain(given[name])
        for name, default in QUANTIZERS[kind].identity.items()
        if name in given and _plain(given[name]) != _plain(default)
    }
    dim = config["vq_embed_dim"] or config["latent_channels"]
    return {"quantizer": kind, "dim": dim, "codebook_size": config["num_vq_embeddings"], **own}


def _defaults(kind: type[AutoencoderBase]) -> dict[str, Any]:
    parameters = inspect.signature(kind.__init__).parameters
    return {name: given.default for name, given in parameters.items() if name != "self"}


def _plain(value: Any) -> Any:
    """As JSON would give it back: tuples are lists."""
    return json.loads(json.dumps(value))
