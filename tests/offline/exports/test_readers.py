"""Exports read by the trainers' own readers, unchanged.

They need packages that do not go together with ours, and checkouts, so these tests run where
VQTOK_READERS names a folder with

    mds          a virtual environment: pip install mosaicml-streaming        (0.13.0)
    litdata      a virtual environment: pip install litdata                   (0.2.76)
    megatron     a virtual environment: pip install megatron-core torch       (0.16.1)
    webdataset   a virtual environment: pip install webdataset torch          (1.0.2)
    LlamaGen     github.com/FoundationVision/LlamaGen                         (ce98ec4)
    1d-tokenizer github.com/bytedance/1d-tokenizer                            (942a96f)
    LightningDiT github.com/hustvl/LightningDiT                               (2725fed)
    1xgpt        github.com/1x-technologies/1xgpt                             (0069734)

in parentheses what they were last run with. Of checkouts only the reader's class is run, whose
module imports much that tokens do not need. A reader that is not there is skipped.
"""

from __future__ import annotations

import ast
import json
import linecache
import math
import os
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from token_lists import TokenList, clips, stacked, token_list
from token_rows import row

from vqtok.offline.exports import EXPORTS

pytest.importorskip("pyarrow")

READERS = os.environ.get("VQTOK_READERS")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(READERS is None, reason="VQTOK_READERS names no folder of readers"),
]
LARGE: dict[str, Any] = {"tokenizer": {"codebook_size": 1 << 18}, "dtype": "uint32"}
Array = np.ndarray[Any, Any]


def reader(name: str) -> Path:
    path = Path(READERS or "") / name
    if not path.exists():
        pytest.skip(f"there is no {path}")
    return path


def ask(name: str, program: str, *arguments: object) -> dict[str, Array]:
    """What a program in an environment of its own puts into `found`, by name."""
    python = reader(name) / "bin" / "python"
    out = Path(str(arguments[0])).parent / "found.npz"
    whole = (
        "import sys, numpy as np\nimport torch\nfound = {}\nif __name__ == '__main__':\n"
        + "".join(f"    {line}\n" for line in program.strip().splitlines())
        + "    np.savez(sys.argv[1], **found)\n"
    )
    script = out.with_name("program.py")
    script.write_text(whole)
    command = [str(python), "-W", "ignore", str(script), str(out), *map(str, arguments)]
    home = {**os.environ, "HOME": str(out.parent), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=home, timeout=600)
    assert done.returncode == 0, done.stderr
    with np.load(out) as stored:
        return dict(stored)


def class_of(project: str, file: str, name: str, **names: Any) -> Any:
    """One class of a checkout, with what it takes from its module's imports."""
    text = (reader(project) / file).read_text(encoding="utf-8")
    found = next(
        node
        for node in ast.parse(text).body
        if isinstance(node, ast.ClassDef) and node.name == name
    )
    space = {"np": np, "torch": torch, "os": os, "Dataset": torch.utils.data.Dataset, **names}
    exec(compile(ast.Module([found], []), file, "exec"), space)
    return space[name]


def equal(found: Any, wanted: Any) -> bool:
    """To the bit."""
    return bool(np.array_equal(np.asarray(found), np.asarray(wanted)))


# --- checkouts ----------------------------------------------------------------------------------


def test_llamagen(tmp_path: Path) -> None:
    kind = class_of("LlamaGen", "dataset/imagenet.py", "CustomDataset")
    tokens = token_list(views=("center", "hflip"), labels=("cat", "ant", "bee"))
    out = tmp_path / "imagenet_code_c2i_flip"
    EXPORTS["llamagen"](tokens, out)
    data = kind(f"{out}/imagenet16_codes", f"{out}/imagenet16_labels")
    codes = stacked(tokens).reshape(3, 2, 16)
    for number, label in enumerate((2, 0, 1)):
        seen = set()
        for seed in range(16):
            torch.manual_seed(seed)
            x, y = data[number]
            assert x.dtype == y.dtype == torch.int64
            assert (tuple(x.shape), y.tolist()) == ((1, 16), [label])
            seen.add([equal(x[0], view) for view in codes[number]].index(True))
        assert seen == {0, 1}
    assert len(data) == 1_281_167  # whatever there is, as our warning says


def test_llamagen_of_one_view(tmp_path: Path) -> None:
    kind = class_of("LlamaGen", "dataset/imagenet.py", "CustomDataset")
    tokens = token_list(**LARGE)
    EXPORTS["llamagen"](tokens, tmp_path / "codes")
    data = kind(*(f"{tmp_path}/codes/imagenet16_{what}" for what in ("codes", "labels")))
    for number, codes in enumerate(stacked(tokens)):
        x, y = data[number]
        assert equal(x.reshape(-1), codes.reshape(-1))
        assert y.tolist() == [tokens.rows[number].label]


def test_rar(tmp_path: Path) -> None:
    tokens = token_list(views=("center", "hflip"), labels=(700, 3, 12))
    EXPORTS["rar"](tokens, tmp_path / "out")
    with ExitStack() as stack:  # the reader leaves it to the garbage collector
        kind = class_of(
            "1d-tokenizer",
            "data/webdataset_reader.py",
            "PretoeknizedDataSetJSONL",
            json=json,
            linecache=linecache,
            open=lambda *given: stack.enter_context(open(*given)),
        )
        data = kind(str(tmp_path / "out" / "pretokenized.jsonl"))
    assert len(data) == 6
    for number, each in enumerate(tokens.rows):
        label, ids = data[number]
        assert label.item() == each.label
        assert each.codes is not None
        assert equal(ids, each.codes.reshape(-1))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_lightningdit(dtype: str, tmp_path: Path) -> None:
    kind = class_of(
        "LightningDiT",
        "datasets/img_latent_dataset.py",
        "ImgLatentDataset",
        glob=glob,
        safe_open=safe_open,
        tqdm=iter,
    )
    tokens = token_list(views=("center", "hflip"), what="latents", labels=(7, 3, 5))
    EXPORTS["lightningdit"](tokens, tmp_path / "out", dtype=dtype)
    before = sorted(path.name for path in (tmp_path / "out").iterdir())
    raw = kind(str(tmp_path / "out"), latent_norm=False)
    normal = kind(str(tmp_path / "out"), latent_norm=True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == before
    latents = stacked(tokens, "latents").reshape(3, 2, 4, 4, 4)
    mean, std = normal.compute_latent_stats().values()
    torch.testing.assert_close(normal._latent_mean, mean.float(), rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(normal._latent_std, std.float(), rtol=2e-3, atol=2e-3)
    for number, label in enumerate((7, 3, 5)):
        seen = set()
        for seed in range(16):
            np.random.seed(seed)
            x, y = raw[number]
            np.random.seed(seed)
            scaled, _ = normal[number]
            assert (str(x.dtype), y.item()) == (f"torch.{dtype}", label)
            which = [equal(x, view) for view in latents[number]].index(True)
            wanted = (x - normal._latent_mean[0]) / normal._latent_std[0]
            assert equal(scaled, wanted)
            seen.add(which)
        assert seen == {0, 1}
    assert len(raw) == 3


def test_1xgpt(tmp_path: Path) -> None:
    kind = class_of(
        "1xgpt",
        "data.py",
        "RawTokenDataset",
        TorchDataset=torch.utils.data.Dataset,
        Path=Path,
        json=json,
        math=math,
        random=random,
    )
    tokens = clips((3, 2, 5), **LARGE)
    EXPORTS["1xgpt"](tokens, tmp_path / "out", hz=15.0)
    data = kind(tmp_path / "out", window_size=2, stride=1)
    windows = [
        each.codes[start : start + 2]
        for each in tokens.rows
        if each.codes is not None
        for start in range(len(each.codes) - 1)
    ]
    assert len(data) == len(windows) == 7
    for number, codes in enumerate(windows):
        assert equal(data[number]["input_ids"], codes.reshape(-1))
    hz, side, size = (data.metadata[name] for name in ("hz", "s", "vocab_size"))
    assert (hz / 15, side, size) == (1, 4, 1 << 18)


# --- environments -------------------------------------------------------------------------------


def several(grid: tuple[int, ...] = (4, 6), **changes: Any) -> TokenList:
    """One row of another shape."""
    tokens = token_list(labels=None, **changes)
    tokens.rows[1] = row("b", tokens.plan, 7, grid, label=None)
    return tokens


MEGATRON = """
from megatron.core.datasets.indexed_dataset import IndexedDataset
data = IndexedDataset(sys.argv[2])
for number in range(len(data)):
    found[str(number)] = data[number]
found["documents"] = data.document_indices
found["whole"] = np.memmap(sys.argv[2] + ".bin", data.index.dtype, "r")
"""


@pytest.mark.parametrize("end_id", [None, 1 << 18])
@pytest.mark.parametrize("changes", [{}, LARGE])
def test_megatron(end_id: int | None, changes: dict[str, Any], tmp_path: Path) -> None:
    tokens = several(**changes)
    EXPORTS["megatron"](tokens, tmp_path / "out", end_id=end_id)
    found = ask("megatron", MEGATRON, tmp_path / "out" / "tokens")
    tail = [] if end_id is None else [end_id]
    wanted = [[*each.codes.reshape(-1).tolist(), *tail] for each in tokens.rows]  # type: ignore[union-attr]
    assert [found[str(number)].tolist() for number in range(3)] == wanted
    assert found["documents"].tolist() == [0, 1, 2, 3]
    assert found["whole"].tolist() == [id_ for ids in wanted for id_ in ids]
    assert found["0"].dtype == (np.int32 if end_id or changes else np.uint16)


MDS = """
from streaming import StreamingDataset
data = StreamingDataset(local=sys.argv[2], shuffle=False, batch_size=1, validate_hash="sha1")
for number in range(len(data)):
    for name, value in data[number].items():
        found[f"{number}/{name}"] = np.asarray(value)
"""


@pytest.mark.parametrize(
    "made",
    [
        lambda: token_list(views=("center", "hflip"), labels=("cat", "ant", "bee")),
        lambda: several(**LARGE),
        lambda: several((4, 300)),
        lambda: token_list(tokenizer={"depth": 4}),
        clips,
    ],
)
def test_mds(made: Callable[[], TokenList], tmp_path: Path) -> None:
    tokens = made()
    tokens.rows[0] = tokens.rows[0]._replace(text="a cät")
    EXPORTS["mds"](tokens, tmp_path / "out")
    found = ask("mds", MDS, tmp_path / "out")
    classes = sorted({each.label for each in tokens.rows if isinstance(each.label, str)})
    for number, each in enumerate(tokens.rows):
        codes = found[f"{number}/codes"]
        assert each.codes is not None
        assert codes.dtype == each.codes.dtype
        assert equal(codes, each.codes)
        for name in ("key", "view"):
            assert str(found[f"{number}/{name}"]) == getattr(each, name)
        assert str(found[f"{number}/text"]) == (each.text or "")
        if isinstance(each.label, str):
            assert found[f"{number}/label"] == classes.index(each.label)


LITDATA = """
from litdata import StreamingDataset, TokensLoader
data = StreamingDataset(sys.argv[2], item_loader=TokensLoader(block_size=int(sys.argv[3])))
found["blocks"] = np.stack([data[number].numpy() for number in range(len(data))])
found["again"] = np.stack([block.numpy() for block in data])
"""


@pytest.mark.parametrize("end_id", [None, 1 << 18])
@pytest.mark.parametrize("changes", [{}, LARGE])
def test_litdata(
    end_id: int | None, changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["vqtok.offline.exports.litdata"], "CHUNK", 200)
    tokens = token_list(tuple("abcdefg"), **changes)
    EXPORTS["litdata"](tokens, tmp_path / "out", end_id=end_id)
    assert len(list((tmp_path / "out").glob("*.bin"))) > 1
    size = json.loads((tmp_path / "out" / "origin.json").read_bytes())["block_size"]
    found = ask("litdata", LITDATA, tmp_path / "out", size)
    wanted = stacked(tokens).reshape(7, 16).astype(np.int64)
    if end_id is not None:
        wanted = np.pad(wanted, ((0, 0), (0, 1)), constant_values=end_id)
    assert found["blocks"].dtype == (np.int32 if end_id or changes else np.uint16)
    assert equal(found["blocks"], wanted)
    assert equal(found["again"], wanted)


WEBDATASET = """
import glob, webdataset
tars = sorted(glob.glob(sys.argv[2] + "/*.tar"))
data = webdataset.WebDataset(tars, shardshuffle=False).decode()
for number, sample in enumerate(data):
    for name, value in sample.items():
        if name in ("codes.npy", "latents.npy", "cls", "txt"):
            found[f"{number}:{name}"] = np.asarray(value)
    found[f"{number}:key"] = np.asarray(sample["json"]["key"])
"""


@pytest.mark.parametrize("what", ["codes", "latents", "both"])
def test_webdataset(what: str, tmp_path: Path) -> None:
    tokens = token_list(
        ("a.b/c", "ü", "x" * 300), ("center", "hflip"), labels=("cat", "ant", "bee"), what=what
    )
    tokens.rows[0] = tokens.rows[0]._replace(text="a cät")
    EXPORTS["webdataset"](tokens, tmp_path / "out", tar_rows=4)
    found = ask("webdataset", WEBDATASET, tmp_path / "out")
    for number, each in enumerate(tokens.rows):
        assert str(found[f"{number}:key"]) == each.key
        assert str(found[f"{number}:txt"]) == (each.text or "")
        assert found[f"{number}:cls"] == ["ant", "bee", "cat"].index(str(each.label))
        for name in ("codes", "latents"):
            there, array = found.get(f"{number}:{name}.npy"), getattr(each, name)
            assert (there is None) == (array is None)
            if array is not None and there is not None:
                assert there.dtype == array.dtype
                assert equal(there, array)
