from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
import torch
from onnx_toys import fast
from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference
from torch import Tensor, nn

from vqtok.export.norms import in_stages
from vqtok.export.tracing import Tensors, trace


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def staged(norm: nn.GroupNorm) -> nn.Sequential:
    made = nn.Sequential(norm)
    in_stages(made)
    assert type(made[0]) is not nn.GroupNorm
    return made


@pytest.mark.parametrize("shape", [(3, 12, 35), (3, 12, 5, 7), (3, 12, 2, 5, 7)])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("groups", [1, 4, 12])
def test_it_is_torchs(shape: tuple[int, ...], affine: bool, groups: int) -> None:
    norm = nn.GroupNorm(groups, 12, eps=1e-3, affine=affine)
    if affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    x = drawn(*shape) + 3
    expected = norm(x)
    assert torch.allclose(staged(norm)(x), expected, atol=1e-6)


def test_half_precision() -> None:
    """Squares that float16 does not hold."""
    norm = nn.GroupNorm(2, 4).half()
    x = (drawn(2, 4, 8, 8) * 1000).half()
    made = staged(norm)(x)
    expected = nn.functional.group_norm(x.float(), 2)
    assert made.dtype == torch.float16
    assert torch.allclose(made.float(), expected, atol=2e-3)


def run(path: Path, x: Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    made: np.ndarray = session.run(None, {"x": x.numpy()})[0]
    return made


def test_a_graph_of_large_groups(tmp_path: Path) -> None:
    """As exact as torch's, which ONNX Runtime's own is not; and shapes follow from open sides."""
    norm = nn.GroupNorm(2, 8)
    x = drawn(1, 8, 160, 240) * 0.01 + 1  # rows of 153,600 numbers
    true = norm.double()(x.double()).detach().numpy()
    norm.float()
    axes = {0: "batch", 2: "height", 3: "width"}
    errors = {}
    for name, module in (("plain", nn.Sequential(norm)), ("staged", staged(norm))):
        path = tmp_path / f"{name}.onnx"
        with fast():
            graph = trace(module.eval(), Tensors("x", drawn(2, 8, 6, 10), axes), "y", axes, 20)
        onnx_ir.save(graph, path)
        errors[name] = float(np.sqrt(np.square(run(path, x) - true).mean()))
    assert errors["staged"] < errors["plain"] * 0.8
    SymbolicShapeInference.infer_shapes(onnx.load(path))
    operators = [node.op_type for node in onnx.load(path).graph.node]
    assert operators.count("ReduceMean") == 4 and "InstanceNormalization" not in operators
