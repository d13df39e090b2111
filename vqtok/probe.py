"""Whether a tokenizer behaves here as it did where it was saved.

A fingerprint says which weights there are; a build, a device or a driver may still compute
something else with them. `probe.safetensors` holds pixels, the latents that the encoder made of
them and the ids of those latents. They are compared once, when a server or a job starts.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor

from vqtok.autoencoders import AutoencoderBase
from vqtok.errors import LoadError, MismatchError
from vqtok.files import save_tensors
from vqtok.metrics.pixels import from_uint8
from vqtok.precision import Precision, arithmetic, check_precision
from vqtok.preprocess import Preprocess, probe_pixels
from vqtok.verdicts import ProbeResult, accepted

__all__ = ["check", "check_at_start", "file_of", "write"]

SCHEMA = "vqtok-probe/1"
# Latents of honest IEEE float32 runs differ by 2e-7 to 9e-7 of their rms, TF32 by 3e-4, a model
# one optimizer step away by 7e-3.
LATENT_BOUND = 1e-4
# An id whose vector lies closer than this to another code's cell, in units of rms, is a near tie.
TIE_BOUND = 1e-6


def file_of(folder: Path, variant: str | None = None) -> Path:
    """Where the probe of a variant's weights lies."""
    return folder / (f"probe.{variant}.safetensors" if variant else "probe.safetensors")


def write(folder: Path, model: AutoencoderBase, variant: str | None = None) -> None:
    """Saves what `model` makes of the probe pictures, in IEEE float32, into `folder`."""
    if model.dtype != torch.float32:  # as it will be loaded
        model = copy.deepcopy(model).float()
    pixels = _pixels(model)
    latents = _latents(model, pixels, "ieee32")
    tensors = {"pixels": pixels, "latents": latents.cpu(), "ids": _ids(model, latents).cpu()}
    save_tensors(tensors, file_of(folder, variant), {"schema": SCHEMA})


def check(
    folder: Path,
    model: AutoencoderBase,
    precision: Precision = "ieee32",
    variant: str | None = None,
) -> ProbeResult:
    """Compares `model` with the probe in `folder` of the same variant's weights.

    "refused" where probe pictures are resized to other pixels, where latents are off by more than
    float32 rounding (under `ieee32`; the other precisions report their agreement) or are not
    finite, or where a stored latent gets another id than a near tie explains.
    """
    file = file_of(folder, variant)
    if not file.is_file():
        return ProbeResult("unchecked")
    pixels, latents, ids = _read(file)
    if (size := _pixels(model)).shape != pixels.shape:
        raise _foreign(file, "pixels", pixels, size)
    here = _latents(model, pixels, precision).cpu()
    if here.shape != latents.shape:
        raise _foreign(file, "latents", latents, here)
    if (found := _ids(model, here.to(model.device)).cpu()).shape != ids.shape:
        raise _foreign(file, "ids", ids, found)
    error = float((here - latents).square().mean().sqrt() / latents.square().mean().sqrt())
    moved, beyond = _moved(model, latents, ids)
    same = torch.equal(size, pixels)
    # "Not within", so that NaN is refused, too.
    off = not error <= (LATENT_BOUND if precision == "ieee32" else float("inf"))
    ties = int(moved.sum())
    return ProbeResult(
        verdict="refused" if beyond or off or not same else "near ties" if ties else "exact",
        tokens=ids.numel(),
        ids_equal=int((found == ids).sum()),
        near_ties=ties,
        latent_error=error,
        pixels_equal=same,
    )


def check_at_start(
    model: AutoencoderBase, precision: str, variant: str | None = None
) -> ProbeResult:
    """`check` with the probe in the folder that a model was loaded from, if there is one.

    `MismatchError` where it is refused.
    """
    folder = model.config.get("_name_or_path")
    if not folder or not Path(folder).is_dir():
        return ProbeResult("unchecked")
    return accepted(check(Path(folder), model, check_precision(precision), variant), folder)


def _read(file: Path) -> tuple[Tensor, Tensor, Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as stored:
            schema = (stored.metadata() or {}).get("schema")
            if schema != SCHEMA:
                raise LoadError(f"{file} has the schema {schema!r}; this version reads {SCHEMA!r}")
            pixels, latents, ids = (stored.get_tensor(n) for n in ("pixels", "latents", "ids"))
    except SafetensorError as error:
        raise LoadError(f"{file} is not a readable probe: {error}") from error
    return pixels, latents, ids


def _foreign(file: Path, what: str, stored: Tensor, here: Tensor) -> MismatchError:
    return MismatchError(
        f"{file} belongs to another model: its {what} have the shape {tuple(stored.shape)}, this "
        f"model's {tuple(here.shape)}"
    )


def _moved(model: AutoencoderBase, latents: Tensor, ids: Tensor) -> tuple[Tensor, bool]:
    """Which stored latents get another id here, and whether one of them was no near tie."""
    here = latents.to(model.device)
    moved = _ids(model, here).cpu() != ids
    tie = model.quantize.margin(here).cpu() <= TIE_BOUND * latents.square().mean().sqrt()
    if moved.ndim > tie.ndim:  # several codes a token
        tie = tie[..., None]
    return moved, bool((moved & ~tie).any())


def _pixels(model: AutoencoderBase) -> Tensor:
    """(N, 3, H, W) uint8: the built-in test pictures, in the model's `probe_size`.

    For a model of clips (N, 3, T, H, W): the same, moved along by a pixel with each frame.
    """
    *frames, height, width = model.probe_size()
    found = probe_pixels(Preprocess(policy="stretch", size=(height, width)))
    pictures = torch.stack([torch.from_numpy(p) for p in found]).movedim(-1, 1)
    for count in frames:
        pictures = torch.stack([pictures.roll(step, -1) for step in range(count)], 2)
    return pictures.contiguous()


@torch.no_grad()
def _latents(model: AutoencoderBase, pixels: Tensor, precision: Precision) -> Tensor:
    x = from_uint8(pixels.to(model.device))
    with arithmetic(precision, model.device):
        latents: Tensor = model.encode(x.to(model.dtype), return_dict=False)[0]
    return latents.float().contiguous()


@torch.no_grad()
def _ids(model: AutoencoderBase, latents: Tensor) -> Tensor:
    ids: Tensor = model.quantize.encode(latents)
    return ids
