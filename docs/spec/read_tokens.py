"""Reads data sets of the format vqtok-tokens/1; see tokens-v1.md. Needs NumPy and PyArrow only."""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq


def rows(folder):
    """Each row as a dict: codes and latents as arrays, and all other columns."""
    root = Path(folder)
    plan = json.loads((root / "plan.json").read_text("utf-8"))
    manifest = json.loads((root / "manifest.json").read_text("utf-8"))
    if plan["schema"] != "vqtok-tokens/1" or plan["format"] not in ("parquet", "bin", "npy"):
        raise ValueError(f"this does not read {plan['schema']} in {plan['format']}")
    for part in manifest["parts"]:
        names = [file["name"] for file in part["files"]]
        yield from shard({name.partition(".")[2]: root / "shards" / name for name in names}, plan)


def shard(files, plan):
    """The rows of one shard; its files by what follows the first dot of their names."""
    tail = [plan["tokenizer"]["depth"]] if plan["tokenizer"]["depth"] else []
    dtypes = {"codes": "<u2" if plan["dtype"] == "uint16" else "<u4", "latents": "<f2"}
    wanted = ["codes", "latents"] if plan["what"] == "both" else [plan["what"]]
    table = files.get("parquet") or files["rows.parquet"]
    if plan["format"] == "npy":
        arrays = {name: np.load(files[f"{name}.npy"], mmap_mode="r") for name in wanted}
    if plan["format"] == "bin":
        ends, starts = {"codes": "bin", "latents": "latents.bin"}, {"codes": "offset"}
        arrays = {name: np.fromfile(files[ends[name]], dtypes[name]) for name in wanted}
    for place, row in enumerate(pq.read_table(table).to_pylist()):
        for name in wanted:
            if plan["format"] == "npy":
                row[name] = arrays[name][place]
                continue
            shape = row["grid"] + tail if name == "codes" else row["latents_shape"]
            if plan["format"] == "parquet":
                flat, start = np.frombuffer(row[name], dtypes[name]), 0
            else:
                flat, start = arrays[name], row[starts.get(name, "latents_offset")]
            row[name] = flat[start : start + int(np.prod(shape))].reshape(shape)
        yield row


if __name__ == "__main__":
    for one in rows(sys.argv[1]):
        print(one["key"], one["view"], one["grid"])
