"""Small folders as `vqtok export` writes them, whose graphs are built by hand: no torch, no model.

A code is the mean of the red in its token's pixels, a quarter of it; a decoder gives it back as
grey. Those of clips add the number of frames that went through together, so that it can be seen.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from vqtok.config_file import write_config
from vqtok.contents import CONFIG
from vqtok.preprocess import Preprocess
from vqtok.prints import of_settings
from vqtok.traits import Traits
from vqtok.types import Fingerprint
from vqtok.vocab import VisualVocab

CODES, STRIDE = 64, 4
SETTINGS = Preprocess(policy="center", size=16, stride=STRIDE)
NATIVE = Preprocess(policy="native", stride=STRIDE)
PICTURES = Traits(CODES, 0, 2, (STRIDE, STRIDE))
WINDOWED = Traits(CODES, 0, 3, (2, STRIDE, STRIDE), window=4)
CAUSAL = Traits(CODES, 0, 3, (2, STRIDE, STRIDE), causal=True)


def print_of(settings: Preprocess = SETTINGS, **others: str) -> Fingerprint:
    """A fingerprint; of what is no preprocessing any digits."""
    parts = {"encoder": "e" * 64, "codebook": "c" * 64, "decoder": "d" * 64, **others}
    return Fingerprint(preprocess=of_settings(settings), **parts)


def folder(
    place: Path,
    traits: Traits = PICTURES,
    settings: Preprocess = SETTINGS,
    *,
    probe: bool = True,
    metadata: Mapping[str, Mapping[str, str | None]] | None = None,
    **config: Any,
) -> Path:
    """Writes a folder; `metadata` changes that of graphs, `config` what config.json says."""
    place.mkdir(parents=True, exist_ok=True)
    found = print_of(settings)
    kinds = {"pixels": "uint8", "codes": "int64"}
    kinds |= {name: config[name] for name in kinds if name in config}
    for role in roles_of(traits):
        props = props_of(role, found, settings, traits) | dict((metadata or {}).get(role, {}))
        write_graph(place / f"{role}.onnx", role, traits, props, **kinds)
    settings.save(place)
    write_config(place, vocab_of(traits), found, None)
    if probe:
        write_probe(place, traits)
    stored = {
        "schema": "vqtok-onnx/1",
        "model_type": "vqtok_onnx",
        "fingerprint": found.to_dict(),
        "precision": "ieee32",
        "decoder_precision": "ieee32",
        "opset": 20,
        "made_with": {"vqtok": "0.1.0"},
        "agreement": None,
        "traits": traits.to_dict(),
        **kinds,
    }
    write_files(place, {**stored, **config})
    return place


def roles_of(traits: Traits) -> list[str]:
    alone = ["picture_encoder", "picture_decoder"] if traits.causal else []
    return ["encoder", "decoder", *alone]


def vocab_of(traits: Traits) -> VisualVocab:
    return VisualVocab(traits.codebook_size, depth=traits.depth)


def write_files(place: Path, stored: Mapping[str, Any]) -> None:
    """config.json, with what the graphs beside it are now."""
    files = {
        file.name: {
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "bytes": file.stat().st_size,
        }
        for file in sorted(place.glob("*.onnx"))
    }
    text = json.dumps({**stored, "files": stored.get("files", files)})
    (place / CONFIG).write_text(text, encoding="utf-8")


def props_of(
    role: str, found: Fingerprint, settings: Preprocess, traits: Traits
) -> dict[str, str | None]:
    return {
        "vqtok.schema": "vqtok-onnx/1",
        "vqtok.role": role,
        "vqtok.fingerprint": json.dumps(found.to_dict()),
        "vqtok.codebook": found.codebook,
        "vqtok.preprocess": json.dumps(settings.to_config()),
        "vqtok.precision": "ieee32",
        "vqtok.traits": json.dumps(traits.to_dict()),
    }


def write_probe(place: Path, traits: Traits, **changes: Any) -> None:
    """Pixels, the codes that the graphs make of them, and no ties."""
    pixels = pixels_of(2, traits.size_of((1, 2, 3)[-len(traits.stride) :]))
    codes = codes_of(pixels, traits)
    arrays = {"pixels": pixels, "codes": codes, "ties": np.zeros(codes.shape, bool), **changes}
    metadata = {"schema": "vqtok-onnx-probe/1"}
    save_file(arrays, place / "probe.safetensors", metadata)


def pixels_of(count: int, size: Sequence[int], seed: int = 0) -> np.ndarray:
    """Noise over shades, (count, *size, 3) uint8."""
    rng = np.random.default_rng(seed)
    shades = rng.integers(0, 200, (count, *size, 1))
    return (shades + rng.integers(0, 50, (count, *size, 3))).astype(np.uint8)


def codes_of(pixels: np.ndarray, traits: Traits) -> np.ndarray:
    """What the encoder makes of pixels that go through it together."""
    red = pixels[..., 0].astype(np.float32)
    for axis, step in enumerate(traits.stride, 1):
        if axis == 1 and traits.causal:
            rest = red[:, 1:].reshape(len(red), -1, step, *red.shape[2:]).mean(2)
            red = np.concatenate([red[:, :1], rest], 1)
            continue
        shape = (*red.shape[:axis], red.shape[axis] // step, step, *red.shape[axis + 1 :])
        red = red.reshape(shape).mean(axis + 1)
    seen = pixels.shape[1] if traits.is_video else 0
    return (np.floor(red / 8) + seen).astype(np.int64)


# --- graphs ---------------------------------------------------------------------------------------


def write_graph(
    file: Path,
    role: str,
    traits: Traits,
    props: Mapping[str, str | None],
    *,
    pixels: str = "uint8",
    codes: str = "int64",
) -> None:
    make = _encoder if role.endswith("encoder") else _decoder
    graph = make(traits, pixels == "uint8", getattr(TensorProto, codes.upper()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    for name, value in props.items():
        if value is not None:
            entry = model.metadata_props.add()
            entry.key, entry.value = name, value
    onnx.save(model, file)


def _encoder(traits: Traits, bytes_: bool, codes: int) -> onnx.GraphProto:
    axes = len(traits.stride)
    last, first = [0, axes + 1, *range(1, axes + 1)], [*range(axes + 2)]
    nodes = [helper.make_node("Cast", ["pixels"], ["x"], to=TensorProto.FLOAT)]
    nodes += [helper.make_node("Transpose", ["x"], ["y"], perm=last if bytes_ else first)]
    nodes += [helper.make_node("Mul", ["y", "scale"], ["z"])]
    nodes += [helper.make_node("Slice", ["z", "zero", "one", "one"], ["red"])]
    nodes += _pooled(traits)
    nodes += [
        helper.make_node("Floor", ["pooled"], ["whole"]),
        helper.make_node("Squeeze", ["whole", "one"], ["flat"]),
        helper.make_node("Shape", ["y"], ["shape"]),
        helper.make_node("Gather", ["shape", "two"], ["seen"]),
        helper.make_node("Cast", ["seen"], ["frames"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["frames", "counts"], ["added"]),
        helper.make_node("Add", ["flat", "added"], ["sum"]),
        helper.make_node("Cast", ["sum"], ["codes"], to=codes),
    ]
    numbers = {
        "scale": np.float32((1 if bytes_ else 255) / 8),
        "counts": np.float32(traits.is_video),
        "zero": np.array([0]),
        "one": np.array([1]),
        "two": np.array(2),
        "lead": np.array([traits.stride[0] - 1, 0]),
        "time": np.array([2]),
    }
    kind = TensorProto.UINT8 if bytes_ else TensorProto.FLOAT
    given = helper.make_tensor_value_info("pixels", kind, [None] * (axes + 2))
    found = helper.make_tensor_value_info("codes", codes, [None] * (axes + 1))
    return _graph(nodes, given, found, numbers)


def _pooled(traits: Traits) -> list[onnx.NodeProto]:
    """Means of each token's pixels; of causal models the first frame is a token by itself."""
    lead = "Pad" if traits.causal else "Identity"
    given = ["red", "lead", "", "time"] if traits.causal else ["red"]
    mode = {"mode": "edge"} if traits.causal else {}
    steps = {"kernel_shape": traits.stride, "strides": traits.stride}
    return [
        helper.make_node(lead, given, ["longer"], **mode),
        helper.make_node("AveragePool", ["longer"], ["pooled"], **steps),
    ]


def _decoder(traits: Traits, bytes_: bool, codes: int) -> onnx.GraphProto:
    axes = len(traits.stride)
    kind = TensorProto.UINT8 if bytes_ else TensorProto.FLOAT
    last, first = [0, *range(2, axes + 2), 1], [*range(axes + 2)]
    scales = np.array([1, 1, *traits.stride], np.float32)
    nodes = [
        helper.make_node("Cast", ["codes"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x", "scale"], ["y"]),
        helper.make_node("Unsqueeze", ["y", "one"], ["z"]),
        helper.make_node("Concat", ["z", "z", "z"], ["grey"], axis=1),
        helper.make_node(
            "Resize",
            ["grey", "", "scales"],
            ["large"],
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        ),
        helper.make_node("Slice", ["large", "start", "end", "time"], ["cut"]),
        helper.make_node("Transpose", ["cut"], ["turned"], perm=last if bytes_ else first),
        helper.make_node("Cast", ["turned"], ["pixels"], to=kind),
    ]
    lead = traits.stride[0] - 1 if traits.causal else 0
    numbers = {
        "scale": np.float32(4 if bytes_ else 4 / 255),
        "one": np.array([1]),
        "scales": scales,
        "start": np.array([lead]),
        "end": np.array([1 << 40]),
        "time": np.array([2]),
    }
    given = helper.make_tensor_value_info("codes", codes, [None] * (axes + 1))
    found = helper.make_tensor_value_info("pixels", kind, [None] * (axes + 2))
    return _graph(nodes, given, found, numbers)


def _graph(nodes: Any, given: Any, found: Any, numbers: Mapping[str, Any]) -> onnx.GraphProto:
    stored = [numpy_helper.from_array(np.asarray(v), name) for name, v in numbers.items()]
    return helper.make_graph(nodes, "by hand", [given], [found], stored)
