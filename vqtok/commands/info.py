"""`vqtok info`: what a tokenizer is, and whether it behaves here as where it was saved."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
import typer

from vqtok import probe
from vqtok.autoencoders.grids import PROBE_SIDE
from vqtok.checkpoints import FAMILIES
from vqtok.commands import codebooks
from vqtok.commands.figures import size_of
from vqtok.commands.progress import progress
from vqtok.commands.setup import Setup
from vqtok.commands.sources import Source, find
from vqtok.conversions import Source as Checkpoint
from vqtok.errors import ConfigError
from vqtok.folders import read_report
from vqtok.hub import Resolved
from vqtok.metrics.pixels import from_uint8
from vqtok.obtain import find as sought
from vqtok.precision import PRECISIONS, Precision, arithmetic, check_precision
from vqtok.tokenizer import VisualTokenizer
from vqtok.verdicts import ProbeResult
from vqtok.zoo import samples

__all__ = ["agreement", "describe", "run"]

# Of a pixel before: eight a channel.
BITS = 24
# Settings of a lone codebook.
PARTS = ("prefix", "heads")


def run(
    setup: Setup,
    precision: str | None,
    pictures: list[str],
    *,
    frames: int | None = None,
    as_json: bool = False,
) -> int:
    """Prints a table, or JSON, and returns 1 where the tokenizer misbehaves on this machine.

    frames  of a clip, to say what becomes of it
    """
    compared = () if precision is None else PRECISIONS
    if precision not in (None, "all"):
        compared = (check_precision(precision),)
    sources = find(pictures or [str(path) for path in samples()]) if compared else []
    found = sought(setup.request())
    if isinstance(found, Checkpoint) and (facts := _codebook(found)) is not None:
        if compared or pictures or frames is not None:
            raise ConfigError(
                f"--precision, --pictures and --frames are for tokenizers; {found.origin} is a "
                "codebook without networks"
            )
        typer.echo(json.dumps(facts, indent=2) if as_json else "\n".join(_table(facts)))
        return 0
    resolved = setup.resolve(found)
    tok = setup.load(resolved)
    if compared and tok.is_video:
        raise ConfigError("--precision compares the ids of pictures; this is a tokenizer of clips")
    if compared and not tok.has_model:
        raise ConfigError(
            f"--precision compares what torch computes, and this tokenizer runs on "
            f"{tok.codec.runs_on} in {tok.precision}"
        )
    result = _behaviour(tok, resolved, setup.variant)
    facts = {"tokenizer": setup.name, **_origin(resolved), **_source(resolved), **describe(tok)}
    facts["behaviour_here"] = asdict(result)
    if frames is not None:
        facts["clip"] = str(tok.plan_frames(frames))
    if compared:
        facts["ids_equal_to_ieee32"] = agreement(tok, sources, compared)
    typer.echo(json.dumps(facts, indent=2) if as_json else "\n".join(_table(_shown(facts, tok))))
    return int(result.verdict == "refused")


def _codebook(found: Checkpoint) -> dict[str, Any] | None:
    """What is to be said of a file that holds codes alone; None of any other."""
    described = codebooks.describe(found.file, **{n: found.own[n] for n in PARTS if n in found.own})
    unread = [name for name in found.own if name not in PARTS]
    if described is not None and unread:
        raise ConfigError(
            f"{found.origin} is a codebook without networks, of which --set tells "
            f"{' and '.join(PARTS)} alone; got {unread[0]}"
        )
    return described


def _origin(resolved: Resolved) -> dict[str, str]:
    if resolved.repo is None:
        return {"folder": str(resolved.path)}
    return {"repository": resolved.repo, "commit": str(resolved.commit)}


def _source(resolved: Resolved) -> dict[str, Any]:
    """Whose it is; of what was converted, what is known of the source."""
    report = read_report(resolved.path)
    if not report:
        if resolved.family not in FAMILIES:
            return {"family": resolved.family}
        stock = FAMILIES[resolved.family]
        return {"family": resolved.family, "what": stock.title, "licence": stock.licence}
    origin = report.get("derived_from", report)
    source = {name: value for name, value in origin["source"].items() if value is not None}
    if origin is not report:
        what = {"what": origin["title"], "family": origin["family"], "licence": origin["licence"]}
        return {"family": resolved.family, "derived_from": {**what, **source}}
    return {
        "family": report["family"],
        "converted_from": {"what": report["title"], **source},
        "licence": report["licence"],
        "notes": report["notes"],
    }


def _behaviour(tok: VisualTokenizer, resolved: Resolved, variant: str | None) -> ProbeResult:
    if tok.has_model:
        return probe.check(resolved.path, tok.model, variant=variant)
    from vqtok.commands.graphs import behaviour

    return behaviour(tok)


def describe(tok: VisualTokenizer) -> dict[str, Any]:
    """What can be said without running it."""
    vocab, traits = tok.vocab, tok.codec.traits
    pixels = _size(tok)
    grid = traits.grid_of(pixels)
    tokens = math.prod(grid) * max(1, traits.depth)
    bits = np.log2(tok.codebook_size) * tokens / math.prod(pixels)
    rule = tok.settings.model_dump(mode="json", exclude_defaults=True)
    if not tok.settings.keeps_size:
        rule["resize"] = tok.settings.resize
    return {
        **_sized(tok),
        "stride": traits.stride if traits.is_video else traits.stride[-1],
        "pixels": pixels,
        "grid": grid,
        "codes": tok.codebook_size,
        "dimensions": traits.latent_channels,
        "codes_per_token": max(1, vocab.depth),
        "bits_per_pixel": round(float(bits), 4),
        "compression": round(float(BITS / bits), 2),
        **_made(tok),
        "preprocessing": {"policy": tok.settings.policy, **rule},
        "vocabulary": {"ids": tok.vocab_size, "first_code": tok.offset, "order": vocab.order},
        "fingerprint": tok.fingerprint.to_dict(),
    }


def _sized(tok: VisualTokenizer) -> dict[str, Any]:
    """How large the networks are."""
    if not tok.has_model:
        return {}
    return {"parameters": sum(p.numel() for p in tok.model.parameters())}


def _made(tok: VisualTokenizer) -> dict[str, Any]:
    """What it is made of."""
    if not tok.has_model:
        from vqtok.commands.graphs import described

        return described(tok)
    quantizer, estimator = tok.model.config.quantizer, tok.model.quantize.estimator.name
    return {"quantizer": quantizer, "estimator": estimator}


def _size(tok: VisualTokenizer) -> tuple[int, ...]:
    """The pixels of one picture or clip: those it is brought to, else as many as fill a grid."""
    traits = tok.codec.traits
    *frames, height, width = traits.only_size or traits.size_of((PROBE_SIDE,) * len(traits.stride))
    sides = (height, width) if tok.settings.size is None else tok.settings.sides
    if not frames:
        return sides
    trained = tok.model.config.get("sample_frames") if tok.has_model else traits.window
    return int(trained or frames[0]), *sides


def agreement(
    tok: VisualTokenizer, sources: list[Source], precisions: tuple[Precision, ...]
) -> dict[str, Any]:
    """For each precision: the share of equal ids, and how near ties those are that differ.

    A margin is the distance to the nearest other code's cell, in units of the latents' rms.
    """
    tokens = 0
    moved: dict[Precision, list[torch.Tensor]] = {name: [] for name in precisions}
    errors: dict[Precision, str] = {}
    with progress(len(sources), "compare", to_stdout=False) as advance:
        for x in _stacks(tok, sources):
            ids, margin = tok.model.encode_codes(x).cpu(), _margin(tok, x)
            tokens += margin.numel()
            for name in [name for name in precisions if name not in errors]:
                try:
                    differ = tok.model.encode_codes(x, name).cpu() != ids
                except RuntimeError as error:
                    errors[name] = str(error).splitlines()[0]
                    continue
                moved[name].append(margin[differ.any(-1) if tok.vocab.depth else differ])
            advance(1)
    return {
        name: {"does_not_run": errors[name]} if name in errors else _figures(moved[name], tokens)
        for name in precisions
    }


def _stacks(tok: VisualTokenizer, sources: list[Source]) -> Iterator[torch.Tensor]:
    """Each picture, (1, 3, h, w) uint8."""
    for source in sources:
        pixels = torch.from_numpy(source.pixels(tok.settings).copy())
        yield pixels.permute(2, 0, 1)[None].contiguous()


def _figures(margins: list[torch.Tensor], tokens: int) -> dict[str, float]:
    """Margins of the tokens whose ids differ, picture by picture, of so many tokens."""
    moved = torch.cat(margins)
    found: dict[str, float] = {
        "share": round(1 - len(moved) / tokens, 6),
        "tokens": tokens,
        "differ": len(moved),
    }
    if len(moved):
        found["median_margin"] = float(f"{float(moved.median()):.2g}")
        found["largest_margin"] = float(f"{float(moved.max()):.2g}")
    return found


@torch.no_grad()
def _margin(tok: VisualTokenizer, x: torch.Tensor) -> torch.Tensor:
    """(1, 3, h, w) uint8 -> (1, *grid)."""
    model = tok.model
    with arithmetic("ieee32", model.device):
        pixels = from_uint8(x.to(model.device))
        latents = model.encode(pixels, return_dict=False)[0]
        margin: torch.Tensor = model.quantize.margin(latents) / latents.square().mean().sqrt()
    return margin.cpu()


def _shown(facts: dict[str, Any], tok: VisualTokenizer) -> dict[str, Any]:
    """Facts as a table has them: what is but an example is called one, what is not known left."""
    shown = dict(facts)
    if tok.settings.size is None:
        sides = f"any multiple of {tok.settings.stride}"
        shown["pixels"] = f"{sides} a side; for example {_by(facts['pixels'])}"
        shown["grid"] = f"for those {_by(facts['grid'])}"
    if "graphs" in facts:
        shown["graphs"] = {name: size_of(count) for name, count in facts["graphs"].items()}
    behaviour = facts["behaviour_here"]
    shown["behaviour_here"] = {name: v for name, v in behaviour.items() if v is not None}
    if behaviour["verdict"] == "unchecked":
        shown["behaviour_here"] = "unchecked"
    return shown


def _by(sides: Any) -> str:
    return " x ".join(map(str, sides))


def _table(facts: dict[str, Any]) -> Iterator[str]:
    width = max(map(len, facts))
    for name, value in facts.items():
        label = name.replace("_", " ")
        rows = _rows(value)
        inner = max((len(key) for key, _ in rows if key), default=0)
        for key, item in rows:
            text = item
            if isinstance(item, dict):
                # Its keys are names of files.
                keys = item if key == "sha256" else [k.replace("_", " ") for k in item]
                pairs = zip(keys, item.values(), strict=True)
                text = ", ".join(f"{k} {v}" for k, v in pairs)
            middle = f"{key.replace('_', ' '):<{inner}}  " if key else ""
            yield f"{label:<{width}}  {middle}{text}"
            label = ""


def _rows(value: Any) -> list[tuple[str | None, Any]]:
    """What stands beside a label: the entries of an object, the sentences of a list, or a value."""
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, list):
        return [(None, item) for item in value]
    return [(None, _by(value) if isinstance(value, tuple) else value)]
