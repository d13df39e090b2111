from __future__ import annotations

import copy
import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from autoencoders.toys import TOYS
from onnx_toys import Session, bare, causal, check, clips, fast, model_of, pictures, tokenizer
from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference
from quantizers.cases import CASES, SHORT, build
from torch import Tensor, nn

from vqtok import VisualTokenizer
from vqtok.architectures.cnn import NoDecoder
from vqtok.errors import ConfigError, MissingExtraError
from vqtok.export import graphs
from vqtok.export.graphs import write_graphs
from vqtok.export.networks import NOT_FINITE
from vqtok.export.settings import ExportSettings
from vqtok.export.tables import settle
from vqtok.export.tracing import Tensors, trace
from vqtok.quantizers import QUANTIZERS
from vqtok.quantizers.codebook import Codebook
from vqtok.search import nearest

PLAIN = ExportSettings()


@pytest.fixture(scope="module", autouse=True)
def _fast() -> Iterator[None]:
    with fast():
        yield


def sessions(folder: Path) -> dict[str, Session]:
    return {path.stem: Session(path) for path in folder.glob("*.onnx")}


def shapes(path: Path) -> dict[str, list[str | int]]:
    graph = onnx.load(path, load_external_data=False).graph
    return {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }


def weights(path: Path) -> dict[str, np.ndarray]:
    graph = onnx.load(path).graph
    return {value.name: onnx.numpy_helper.to_array(value) for value in graph.initializer}


# --- architectures --------------------------------------------------------------------------------

# Those that differ most; an export takes seconds.
OFTEN = ("conv_residual", "maskgit", "timesformer", "titok", "vit")
ALL = [name if name in OFTEN else pytest.param(name, marks=pytest.mark.slow) for name in TOYS]


@pytest.mark.parametrize("architecture", ALL)
def test_an_architecture(architecture: str, tmp_path: Path) -> None:
    tok = tokenizer(model_of(architecture))
    paths = write_graphs(tok, tmp_path, PLAIN)
    run = sessions(tmp_path)
    for batch, *tokens in ((3, 4, 5, 6), (1, 2, 1, 2)):
        x = clips(tok.model, batch, *tokens, seed=batch)
        codes = check(tok, run["encoder"], run["decoder"], x)
        assert batch == 1 or len(np.unique(codes.ids)) > 10
        if tok.model.causal:
            check(tok, run["picture_encoder"], run["picture_decoder"], x[:, :1])
    for path in paths:
        SymbolicShapeInference.infer_shapes(onnx.load(path))
        graph = onnx.load(path).graph
        read = {name for node in graph.node for name in node.input}
        assert {constant.name for constant in graph.initializer} <= read  # or a runtime warns


def test_a_frame_alone_has_graphs_of_its_own(tmp_path: Path) -> None:
    tok = tokenizer(causal())
    names = ["encoder", "decoder", "picture_encoder", "picture_decoder"]
    paths = write_graphs(tok, tmp_path, PLAIN)
    assert [path.stem for path in paths] == names
    assert shapes(paths[0])["pixels"] == ["batch", "frames", "height", "width", 3]
    assert shapes(paths[2])["pixels"] == ["batch", 1, "height", "width", 3]
    assert shapes(paths[3])["codes"] == ["batch", 1, "grid_height", "grid_width"]
    run = sessions(tmp_path)
    x = clips(tok.model, 3, 4, 5, 6)
    assert len(np.unique(check(tok, run["encoder"], run["decoder"], x).ids)) > 10
    check(tok, run["picture_encoder"], run["picture_decoder"], x[:, :1])


@pytest.mark.slow
@pytest.mark.parametrize("label", CASES)
@pytest.mark.parametrize("architecture", TOYS)
def test_an_architecture_with_a_quantizer(architecture: str, label: str, tmp_path: Path) -> None:
    case = CASES[label]
    model = model_of(architecture)
    several = case.name == "multiscale"
    if several and (len(model.stride) == 3 or model.only_size is not None):
        pytest.skip("scales are those of a picture's grid")
    settings = {"vq_embed_dim": case.dim, "num_vq_embeddings": case.codebook_size}
    if architecture == "emu3":  # whose decoder's norms see the codes
        settings["latent_channels"] = case.dim
    kind = {"quantizer": case.name, "quantizer_args": case.settings}
    config = {name: value for name, value in model.config.items() if name[0] != "_"}
    made = type(model).from_config({**config, **settings, **kind}).eval()
    made.quantize = build(case).eval()
    tok = tokenizer(made, 4 * model.stride[-1] if several else None)
    write_graphs(tok, tmp_path, PLAIN)
    run = sessions(tmp_path)
    x = clips(tok.model, 3, 4, *((4, 4) if several else (5, 6)))
    check(tok, run["encoder"], run["decoder"], x)


# --- quantizers -----------------------------------------------------------------------------------

# Without those that differ in training alone.
ALIKE = [
    label
    for label in CASES
    if CASES[label].name != "multiscale" and not label.endswith(("gradient", "entropy"))
]


class Finding(nn.Module):
    """Latents (B, 6, h, w) -> the codes of all quantizers but multiscale, (B, h, w, count)."""

    def __init__(self) -> None:
        super().__init__()
        self.quantizers = nn.ModuleList(build(CASES[label]).eval() for label in ALIKE)

    def forward(self, x: Tensor) -> Tensor:
        each = [quantizer.encode(x[:, : quantizer.dim]) for quantizer in self.quantizers]
        return torch.cat([ids if ids.ndim == 4 else ids[..., None] for ids in each], 3)


class Looking(Finding):
    """These codes -> the vectors that they stand for, (B, all dimensions, h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        parts = x.split([quantizer.depth or 1 for quantizer in self.quantizers], 3)
        pairs = zip(self.quantizers, parts, strict=True)
        return torch.cat([q.decode(ids if q.depth else ids[..., 0]) for q, ids in pairs], 1)


AXES = {0: "batch", 2: "height", 3: "width"}


@pytest.fixture(scope="module")
def made_by_all(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Tensor, Tensor]]:
    """Of each quantizer what torch and the graph make of one batch: codes, and their vectors.

    One graph for all of them, which is a minute less.
    """
    import onnx_ir

    folder = tmp_path_factory.mktemp("quantizers")
    finding, looking = Finding(), Looking()
    x = torch.randn(3, 6, 5, 7, generator=torch.Generator().manual_seed(7))
    codes = finding(x)
    there = codes, looking(codes)
    here = []
    for module, given, axes, block in (
        (finding, x, AXES, 16),
        (looking, codes, {0: "batch", 1: "height", 2: "width"}, None),
    ):
        settled = copy.deepcopy(module).eval()
        settle(settled, block)
        example = given[:2, :, :3, :4] if block else given[:2, :3, :4]
        graph = trace(settled, Tensors("x", example, axes), "y", {0: "batch"}, PLAIN.opset)
        onnx_ir.save(graph, folder / "graph.onnx")
        run = Session(folder / "graph.onnx").run
        here.append(torch.from_numpy(run(None, {"x": given.numpy()})[0]))
    counts = [q.depth or 1 for q in finding.quantizers]
    dims = [q.dim for q in finding.quantizers]
    return {
        f"{label}, {what}": pair
        for what, axis, sizes, both in (
            ("codes", 3, counts, (there[0], here[0])),
            ("vectors", 1, dims, (there[1], here[1])),
        )
        for label, *pair in zip(ALIKE, *(each.split(sizes, axis) for each in both), strict=True)
    }


@pytest.mark.parametrize("label", ALIKE)
def test_a_quantizer(label: str, made_by_all: dict[str, tuple[Tensor, Tensor]]) -> None:
    there, here = made_by_all[f"{label}, codes"]
    assert torch.equal(there, here) and len(there.unique()) > 3
    there, here = made_by_all[f"{label}, vectors"]
    assert torch.allclose(there, here, atol=1e-6) and there.std() > 0.1


def test_every_quantizer_is_tested() -> None:
    assert {case.name for case in CASES.values()} == set(QUANTIZERS)


SCALES = {
    # One of a single code, and the convolution after it.
    "small": CASES["multiscale"]._replace(settings={"scales": (1, 2), "phis": 1}),
    "multiscale": CASES["multiscale"],
    "by direction": CASES["multiscale, by direction"],
}


@pytest.mark.parametrize(
    "label", ["small", *(pytest.param(name, marks=pytest.mark.slow) for name in list(SCALES)[1:])]
)
def test_codes_of_several_scales(label: str, tmp_path: Path) -> None:
    case = SCALES[label]
    scales = case.settings["scales"]
    side = 4 * scales[-1]
    tok = tokenizer(bare(case), side)
    path = write_graphs(tok, tmp_path, PLAIN)[0]
    count = sum(scale**2 for scale in scales)
    assert shapes(path) == {"pixels": ["batch", side, side, 3], "codes": ["batch", count]}
    run = sessions(tmp_path)
    for batch in (1, 5):
        check(tok, run["encoder"], run["decoder"], pictures(batch, side, side))


def test_several_scales_are_of_one_size(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        write_graphs(tokenizer(bare(CASES["multiscale"])), tmp_path, PLAIN)
    assert str(error.value) == (
        "codes of several scales do not tell their grid, so their graphs are for pictures of one "
        "size, and the policy 'native' keeps each picture's own: export "
        "tok.with_preprocess(policy='center', size=...)"
    )


# --- what is written ------------------------------------------------------------------------------

LARGER = CASES["vector"]._replace(codebook_size=64)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[VisualTokenizer, Path]:
    """Graphs of 64 codes, searched 16 at a time."""
    tok = tokenizer(bare(LARGER))
    folder = tmp_path_factory.mktemp("plain")
    write_graphs(tok, folder, ExportSettings(search_block=16))
    return tok, folder


def test_files(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With large weights beside the graphs; nothing is said, and the model stays as it is."""
    monkeypatch.setattr(graphs, "LARGE", 100)
    model = bare(CASES["vector"])
    tok = tokenizer(model)
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    folder, seen = tmp_path / "new" / "folder", list[str]()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        paths = write_graphs(tok, folder, PLAIN, seen.append)
    assert capfd.readouterr() == ("", "") and not warned
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert seen == ["encoder.onnx", "decoder.onnx"] == [path.name for path in paths]
    assert {path.name for path in folder.iterdir()} == {*seen, *(f"{name}.data" for name in seen)}
    after = model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert model.training and next(model.parameters()).requires_grad
    model.eval()
    run = sessions(folder)
    check(tok, run["encoder"], run["decoder"], pictures(2, 8, 12))


def test_nothing_is_said_of_this_machine(plain: tuple[VisualTokenizer, Path]) -> None:
    for path in plain[1].iterdir():
        graph = onnx.load(path).graph
        parts = (graph, *graph.node, *graph.value_info, *graph.input, *graph.output)
        assert not any(part.metadata_props or part.doc_string for part in parts)


def test_axes(plain: tuple[VisualTokenizer, Path]) -> None:
    _, folder = plain
    pixels = ["batch", "height", "width", 3]
    codes = ["batch", "grid_height", "grid_width"]
    assert shapes(folder / "encoder.onnx") == {"pixels": pixels, "codes": codes}
    assert shapes(folder / "decoder.onnx") == {"codes": codes, "pixels": pixels}


def test_each_half_has_its_own_weights_once(plain: tuple[VisualTokenizer, Path]) -> None:
    _, folder = plain
    encoder, decoder = weights(folder / "encoder.onnx"), weights(folder / "decoder.onnx")
    assert "model.quant_conv.weight" in encoder and "model.decoder.weight" in decoder
    assert not any(name.startswith("model.decoder") for name in encoder)
    assert not any(name.startswith(("model.encoder", "model.quant_conv")) for name in decoder)
    for held in (encoder, decoder):
        large = [value.tobytes() for value in held.values() if value.size > 8]
        assert len(set(large)) == len(large)


def test_codes_are_searched_in_blocks(plain: tuple[VisualTokenizer, Path]) -> None:
    tok, folder = plain
    run = sessions(folder)
    check(tok, run["encoder"], run["decoder"], pictures(2, 40, 44))
    widths = [value.shape for value in weights(folder / "encoder.onnx").values()]
    assert widths.count((4, 16)) == 4 and (4, 64) not in widths
    operators = {node.op_type for node in onnx.load(folder / "encoder.onnx").graph.node}
    assert not operators & {"Loop", "Scan", "If"}


def test_float_pixels_and_short_codes(tmp_path: Path) -> None:
    tok = tokenizer(bare(CASES["vector"]))
    write_graphs(tok, tmp_path, ExportSettings(pixels="float", codes="int32"))
    run = sessions(tmp_path)
    x = pictures(3, 20, 24)
    floats = np.ascontiguousarray(np.moveaxis(x, -1, 1) / np.float32(255))
    codes = tok.codec.encode(x)
    ids = run["encoder"](floats)
    assert ids.dtype == np.int32 and np.array_equal(ids, codes.ids)
    made = run["decoder"](ids)
    assert made.dtype == np.float32 and made.min() >= 0 and made.max() <= 1
    assert np.abs(np.moveaxis(made, 1, -1) * 255 - tok.codec.decode(codes)).max() < 0.501
    assert shapes(tmp_path / "encoder.onnx")["pixels"] == ["batch", 3, "height", "width"]
    floats[1, 0, 0, 0] = np.nan  # one latent of the second picture is no number then
    ids = run["encoder"](floats)
    assert (ids[1] == NOT_FINITE).all() and np.array_equal(ids[[0, 2]], codes.ids[[0, 2]])


def test_half_precision_leaves_the_search_alone(tmp_path: Path) -> None:
    """And a table that three searches share is held once."""
    tok = tokenizer(bare(CASES["residual, shared"]))
    write_graphs(tok, tmp_path, ExportSettings(dtype="fp16", decoder_dtype="fp32"))
    encoder, decoder = (weights(tmp_path / f"{name}.onnx") for name in ("encoder", "decoder"))
    named = {name: value for name, value in encoder.items() if name.startswith("model.")}
    assert {name: value.dtype == np.float16 for name, value in named.items()} == {
        name: "quantize" not in name for name in named
    }
    assert not any(value.dtype == np.float16 for value in decoder.values())
    for held in (encoder, decoder):
        assert [value.shape for value in held.values()].count((16, 4)) == 1
    run = sessions(tmp_path)
    x = pictures(3, 24, 28)
    # A CPU computes in float32 with weights that are rounded.
    assert (run["encoder"](x) == tok.codec.encode(x).ids).mean() > 0.9


def test_a_model_without_a_decoder(tmp_path: Path) -> None:
    model = bare(CASES["fsq"])
    model.decoder = NoDecoder()
    tok = tokenizer(model)
    (path,) = write_graphs(tok, tmp_path, PLAIN)
    x = pictures(2, 8, 12)
    assert path.name == "encoder.onnx" and np.array_equal(Session(path)(x), tok.codec.encode(x).ids)


@pytest.mark.parametrize(
    ("module", "what"),
    [("onnx", "ONNX graphs are checked"), ("onnxscript", "ONNX graphs are made")],
)
def test_without_the_extra(
    module: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tok = tokenizer(bare(CASES["vector"]))
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError) as error:
        write_graphs(tok, tmp_path, PLAIN)
    assert str(error.value) == (
        f"{what} with {module}, which is not installed: pip install 'vqtok[export]'"
    )


def test_what_torch_cannot_export(tmp_path: Path) -> None:
    class Searching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            ids = nearest(x.flatten(2)[0].mT, torch.ones(2, 3))
            return x * ids.float().mean()

    model = bare(CASES["vector"])
    model.encoder = Searching()
    with pytest.raises(ConfigError) as error:
        write_graphs(tokenizer(model), tmp_path, PLAIN)
    message, _, reason = str(error.value).partition(": ")
    assert message == (
        f"torch {torch.__version__} makes no encoder.onnx of AutoencoderVQConvResidual with the "
        "quantizer 'vector'"
    )
    assert "torch.ops.vqtok.nearest.default" in reason and "\n" not in reason


# --- other projects' weights ----------------------------------------------------------------------


def converted(kind: str) -> Any:
    from checkpoints.built import built
    from checkpoints.test_diffusers_vq import reference, with_codes
    from checkpoints.test_taming import planned

    if kind == "taming":
        return built(planned())
    from vqtok.checkpoints import Foreign
    from vqtok.checkpoints.diffusers_vq import plan

    theirs = with_codes(reference(kind))
    return built(plan(Foreign(theirs.state_dict(), dict(theirs.config), "model.safetensors")))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["taming", "movq", "amused"])
def test_converted_weights(kind: str, tmp_path: Path) -> None:
    tok = tokenizer(converted(kind))
    write_graphs(tok, tmp_path, PLAIN)
    run = sessions(tmp_path)
    codes = check(tok, run["encoder"], run["decoder"], clips(tok.model, 3, 6, 7))
    assert len(np.unique(codes.ids)) > 10


@pytest.mark.slow
@pytest.mark.parametrize("opset", [18, 21, 23])
@pytest.mark.parametrize("label", SHORT)
def test_opsets(opset: int, label: str, tmp_path: Path) -> None:
    case = CASES[label]
    tok = tokenizer(bare(case), 16 if case.name == "multiscale" else None)
    for path in write_graphs(tok, tmp_path, ExportSettings(opset=opset)):
        assert onnx.load(path).opset_import[0].version == opset
    run = sessions(tmp_path)
    check(tok, run["encoder"], run["decoder"], pictures(3, 16, 16))


# --- what graphs refuse ---------------------------------------------------------------------------


@pytest.mark.parametrize("pixels", ["uint8", "float"])
def test_sides_off_the_stride(pixels: Any, tmp_path: Path) -> None:
    write_graphs(tokenizer(bare(CASES["vector"])), tmp_path, ExportSettings(pixels=pixels))
    run = sessions(tmp_path)["encoder"]
    for size in ((10, 12), (12, 10), (13, 15)):
        x = pictures(2, *size)
        given = x if pixels == "uint8" else np.moveaxis(x, -1, 1) / np.float32(255)
        with pytest.raises(Exception, match="Name:'sides_are_multiples_of_4'"):
            run(np.ascontiguousarray(given))


def test_frames_off_the_stride(tmp_path: Path) -> None:
    write_graphs(tokenizer(causal()), tmp_path, PLAIN)
    name = "Name:'frames_are_1_plus_a_multiple_of_2_at_least_3_sides_are_multiples_of_2'"
    with pytest.raises(Exception, match=name):
        sessions(tmp_path)["encoder"](pictures(1, 6, 8, 8))


@pytest.mark.parametrize("label", ["vector", "fsq"])
@pytest.mark.parametrize("codes", ["int32", "int64"])
def test_ids_out_of_range(label: str, codes: Any, tmp_path: Path) -> None:
    model = bare(CASES[label])
    count = model.quantize.codebook_size
    write_graphs(tokenizer(model), tmp_path, ExportSettings(codes=codes))
    run = sessions(tmp_path)["decoder"]
    ids = np.zeros((2, 3, 4), codes)
    run(ids)
    for wrong in (NOT_FINITE, count):
        ids[1, 2, 3] = wrong
        with pytest.raises(Exception, match=f"Name:'ids_lie_in_0_to_{count - 1}'"):
            run(ids)


def test_a_search_of_another_kind() -> None:
    class Other(Codebook):
        def forward(self, x: Tensor, *others: Any, **settings: Any) -> Tensor:
            return x

    with pytest.raises(ConfigError) as error:
        settle(nn.Sequential(Other(4, 2)), 16)
    assert str(error.value) == (
        "graphs do not know the forward of Other: a Codebook with a forward of its own has no "
        "search that they can hold"
    )
