"""Small sources of every kind, made here; and how a sample of one becomes pixels."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from vqtok.pictures import load_image
from vqtok.sources import Sample

Pixels = npt.NDArray[np.uint8]

COUNT = 7


def picture(number: int, height: int = 12, width: int = 16) -> Pixels:
    """Rough, and another for each number."""
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)


def png(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def write_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def write_parquet(path: Path, columns: Mapping[str, Any], group: int = 3, **metadata: str) -> Path:
    pyarrow = pytest.importorskip("pyarrow", reason="parquet files need pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.table(dict(columns))
    if metadata:
        table = table.replace_schema_metadata(metadata)
    parquet.write_table(table, path, row_group_size=group)
    return path


def write_video(
    path: Path, frames: Pixels, codec: str, pixel_format: str = "yuv420p", **options: Any
) -> Path:
    """Encodes (T, H, W, 3); `gop` is how far key frames are apart, `reorder` how many B-frames."""
    av = pytest.importorskip("av", reason="videos need PyAV")
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV cannot encode {codec}")
    gop, reorder = options.pop("gop", 8), options.pop("reorder", 0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixel_format
        stream.codec_context.gop_size = gop
        if reorder:
            stream.codec_context.max_b_frames = reorder
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def pan(count: int, height: int = 48, width: int = 64) -> Pixels:
    """Frames that a codec predicts well and that differ all the same: a view that moves."""
    wide = np.kron(picture(1, height // 8, width // 4), np.ones((8, 8, 1), np.uint8))
    return np.stack([wide[:, n : n + width] for n in range(count)])


def folder(root: Path) -> Path:
    for number in range(COUNT):
        write(root / f"class{number % 2}" / f"{number}.png", png(picture(number)))
    return root


def tars(root: Path) -> Path:
    for half in (0, 1):
        numbers = range(half, COUNT, 2)
        members = {}
        for number in numbers:
            members[f"{number}.png"] = png(picture(number))
            members[f"{number}.cls"] = str(number % 2).encode()
        write_tar(root / f"{half}.tar", members)
    return root


def parquet(root: Path) -> Path:
    files = [png(picture(number)) for number in range(COUNT)]
    return write_parquet(root / "table.parquet", {"image": files, "label": list(range(COUNT))})


def arrays(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    np.save(root / "a.npy", np.stack([picture(number) for number in range(3)]))
    np.save(root / "b.npy", np.stack([picture(number) for number in range(3, COUNT)]))
    return root


def lists(root: Path) -> Path:
    rows = [{"path": f"in/{number}.png", "text": f"number {number}"} for number in range(COUNT)]
    for number in range(COUNT):
        write(root / "in" / f"{number}.png", png(picture(number)))
    return write(root / "list.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def clips(root: Path) -> Path:
    """Without loss, so that pixels can be compared."""
    root.mkdir(parents=True, exist_ok=True)
    for number in range(COUNT):
        frames = np.stack([picture(number * 10 + n) for n in range(3)])
        write_video(root / f"{number}.mkv", frames, "ffv1", "bgr0")
    return root


MAKERS: dict[str, Callable[[Path], Path]] = {
    "folder": folder,
    "tars": tars,
    "parquet": parquet,
    "arrays": arrays,
    "clips": clips,
    "lists": lists,
}


def pixels_of(sample: Sample) -> Pixels:
    """A picture, or the first frame of a clip."""
    if hasattr(sample.data, "frames"):
        frames: Pixels = sample.data.frames(0, 1)
        return frames[0]
    return load_image(sample.data)


def hugging_face(*images: str) -> dict[str, str]:
    """What `datasets` writes into a parquet file's schema."""
    features = {name: {"_type": "Image"} for name in images}
    return {"huggingface": json.dumps({"info": {"features": features}})}
