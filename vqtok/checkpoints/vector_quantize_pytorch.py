"""Codebooks of lucidrains' vector-quantize-pytorch, in both directions.

That package has quantizers and no networks, so a checkpoint of one is no tokenizer: `codebook`
makes a quantizer of it, for a model of one's own.

`VectorQuantize` has tables (h, K, D), one a head; `ResidualVQ` has `layers.N.` before each of its
own. Neither keys nor shapes tell how codes are compared and moved, but values do: those compared by
direction have a length of 1, or none where they died, and those that are running means agree with
the sums beside them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vqtok.architectures.causal import ChannelNorm
from vqtok.checkpoints import FAMILIES, Family, Foreign, Plan
from vqtok.checkpoints.directions import are_directions, dead
from vqtok.checkpoints.keys import need, shape_of
from vqtok.checkpoints.opening import open_checkpoint
from vqtok.checkpoints.recipes import BY_AVERAGE
from vqtok.errors import ConfigError, LoadError
from vqtok.quantizers import Quantizer
from vqtok.quantizers.grouped import GroupedQuantizer
from vqtok.quantizers.residual import ResidualQuantizer
from vqtok.quantizers.vector import VectorQuantizer, tables_of

__all__ = [
    "Projection",
    "codebook",
    "is_codebook",
    "model_settings",
    "places",
    "plan",
    "projections",
    "recognises",
    "to_vector_quantize_pytorch",
]

PARTS = ("embed", "embed_avg", "cluster_size", "initted")
_TABLE = re.compile(r"(?:layers\.(\d+)\.)?_codebook\.(\w+)")
_PLACE = re.compile(r"(.*?)(?:rvqs\.\d+\.)?(?:layers\.\d+\.)?_codebook\.embed")
A_TABLE = "a table of a VectorQuantize"
STARTS = ("_codebook.", "layers.", "rvqs.", "mlps.", "project_in.", "project_out.")

Source = Mapping[str, Tensor] | str | os.PathLike[str]
Book = dict[str, Tensor]


def recognises(tensors: Mapping[str, Tensor]) -> bool:
    """See `Family`: a table of codes, and nothing but quantizers of that package."""
    return is_codebook(tensors)


def is_codebook(keys: Collection[str]) -> bool:
    """Whether keys are those of a quantizer of that package, and of nothing around it."""
    codes = any(key.endswith("_codebook.embed") for key in keys)
    return codes and all(key.startswith(STARTS) for key in keys)


def places(keys: Iterable[str]) -> list[str]:
    """Under which prefixes there are quantizers of that package among the keys of a model."""
    found = (match[1] for match in map(_PLACE.fullmatch, keys) if match)
    return list(dict.fromkeys(found))


def plan(foreign: Foreign) -> Plan:
    """Never returns: there is no model to plan."""
    raise ConfigError(
        f"{foreign.origin} is a codebook of vector-quantize-pytorch, without an encoder or a "
        "decoder, and so no tokenizer; vqtok.checkpoints.vector_quantize_pytorch.codebook makes a "
        "quantizer of it"
    )


def codebook(
    source: Source, *, prefix: str = "", heads: int | None = None, **settings: Any
) -> Quantizer:
    """The `state_dict` of a `VectorQuantize` or `ResidualVQ`, or its file -> an equal quantizer.

    prefix    of its keys among those of a larger model, such as "vq."
    heads     how many share one table, where no projection tells it
    settings  of `VectorQuantizer`; by default as that package trains: by rotation, with a decay of
              .8, and without replacement of dead codes

    Several heads make a `GroupedQuantizer`, layers a `ResidualQuantizer`. It takes vectors as they
    are after `project_in` and gives them as they are before `project_out`: see `projections`.
    """
    tensors = _tensors(source, prefix)
    books = _books(tensors)
    embed = books[0]["embed"]
    cosine = settings.pop("use_cosine_sim", None)
    cosine = (
        all(are_directions(book["embed"]) for book in books) if cosine is None else bool(cosine)
    )
    several = heads or _heads(tensors, embed)
    _check(books, several, cosine)
    own = {**BY_AVERAGE, **settings}
    if embed.shape[-1] == 1:
        own.setdefault("estimator", "ste")  # a rotation of one dimension is a sign
    made = _filled(books, several, cosine, own)
    if "codebook_update" not in own and not all(part.means_agree() for part in tables_of(made)):
        made = _filled(books, several, cosine, {**own, "codebook_update": "gradient"})
    return made


def model_settings(quantizer: Quantizer) -> dict[str, Any]:
    """What a model is made with, that takes the state of what `codebook` gave as its `quantize`.

    As in `AutoencoderVQ(**model_settings(quantizer)).quantize`, whose `load_state_dict` takes it.
    """
    part = tables_of(quantizer)[0]
    kind, own = _kind(quantizer)
    training = {
        "codebook_update": "ema" if part.by_average else "gradient",
        "decay": part.decay,
        "dead_codes": part.dead_codes,
        "start": "kaiming",
    }
    return {
        "num_vq_embeddings": quantizer.codebook_size,
        "vq_embed_dim": quantizer.dim,
        "quantizer": kind,
        "quantizer_args": {**own, **training},
        "estimator": quantizer.estimator.name,
    }


class Projection(nn.Linear):
    """A linear layer over the channels of each token of (B, D, *grid)."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, *grid) -> (B, E, *grid)."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def projections(source: Source, *, prefix: str = "") -> tuple[nn.Module, nn.Module]:
    """What stands before and behind the codebook, or identities: (B, D, *grid) -> (B, E, *grid)."""
    tensors = _tensors(source, prefix)
    return _projection(tensors, "project_in."), _projection(tensors, "project_out.")


def to_vector_quantize_pytorch(quantizer: Quantizer, prefix: str = "") -> dict[str, Tensor]:
    """A vector, grouped or residual quantizer -> the `state_dict` of a module with the same ids.

    That is `VectorQuantize(dim, codebook_size=K)`, with `use_cosine_sim` as here. Groups are its
    `heads`, with `separate_codebook_per_head` and their width as `codebook_dim`. A residual
    quantizer is `ResidualVQ(dim=D, codebook_size=K, num_quantizers=Q)`, with `shared_codebook` as
    here.
    """
    parts = tables_of(quantizer)
    if isinstance(quantizer, ResidualQuantizer):
        layers = parts * (quantizer.depth // len(parts))
        found = {
            f"layers.{n}.{k}": t for n, layer in enumerate(layers) for k, t in _theirs([layer])
        }
    elif len(parts) == max(1, quantizer.depth):
        found = dict(_theirs(parts))
    else:
        raise ConfigError(
            "vector-quantize-pytorch's VectorQuantize and ResidualVQ have tables of codes, as "
            "'vector', 'grouped' and 'residual' have here; got a "
            f"{type(quantizer).__name__}"
        )
    return {prefix + key: tensor for key, tensor in found.items()}


# --- theirs -----------------------------------------------------------------------------------


def _tensors(source: Source, prefix: str) -> dict[str, Tensor]:
    tensors = source if isinstance(source, Mapping) else open_checkpoint(source).tensors
    found = {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
    if prefix and not found:
        known = " and ".join(map(repr, places(tensors)))
        where = f"are under {known}" if known else "are not among them"
        raise LoadError(f"no key begins with {prefix!r}; codes of vector-quantize-pytorch {where}")
    return found


def _books(tensors: Mapping[str, Tensor]) -> list[Book]:
    """The tables in their order, each as its tensors."""
    if any(key.startswith("rvqs.") for key in tensors):
        raise LoadError(
            "these are the codes of a GroupedResidualVQ, which vqtok has no quantizer for; a "
            "prefix that ends with 'rvqs.0.' takes the ResidualVQ of its first group"
        )
    found: dict[int, Book] = {}
    for key, tensor in tensors.items():
        match = _TABLE.fullmatch(key)
        if match and match[2] in PARTS:
            found.setdefault(int(match[1] or 0), {})[match[2]] = tensor
        elif not key.startswith(("project_in.", "project_out.")):
            raise LoadError(
                f"{key!r} is no key of a VectorQuantize or ResidualVQ that vqtok has a quantizer "
                "for; prefix says where in a larger model there is one"
            )
    if sorted(found) != list(range(max(1, len(found)))):
        raise LoadError("there is no '_codebook.embed' for each layer of a VectorQuantize")
    books = [found[number] for number in sorted(found)]
    for book in books:
        _check_book(book)
    return books


def _check_book(book: Book) -> None:
    """Raises where the tensors of a table are no table's: a file may hold anything."""
    need(book, PARTS, A_TABLE)
    shape = shape_of(book, "embed", 3, A_TABLE)
    for name, right in (("embed_avg", shape), ("cluster_size", shape[:2])):
        if tuple(book[name].shape) != right:
            raise LoadError(
                f"{A_TABLE} holds {name!r} of shape {tuple(book[name].shape)}; beside 'embed' of "
                f"shape {shape} it is {right}"
            )
    for name in PARTS[:3]:
        if not book[name].is_floating_point() or not bool(book[name].isfinite().all()):
            raise LoadError(f"{A_TABLE} holds {name!r} that is not all finite numbers")


def _check(books: Sequence[Book], heads: int, cosine: bool) -> None:
    if not all(bool(book["initted"].all()) for book in books):
        raise ConfigError(
            "these codes were never started (initted): the first batch was to do that"
        )
    embed = books[0]["embed"]
    if any(book["embed"].shape != embed.shape for book in books):
        raise ConfigError("the layers of a residual quantizer are tables of one size here")
    if len(books) > 1 and heads > 1:
        raise ConfigError(
            f"the layers of a residual quantizer have one head each here; got heads={heads}"
        )
    if len(books) > 1 and cosine:
        raise ConfigError(
            "layers of codes compared by direction (use_cosine_sim) have no counterpart here: "
            "what is left over gets shorter, and codes of unit length do not"
        )
    if heads % len(embed):
        raise ConfigError(f"{len(embed)} tables, one a head, are not those of heads={heads}")


def _heads(tensors: Mapping[str, Tensor], embed: Tensor) -> int:
    """How many vectors a token is cut into, by the width that it is projected to."""
    linear = tensors.get("project_in.weight", tensors.get("project_in.0.weight"))
    if linear is None:
        return len(embed)
    heads, rest = divmod(len(linear), embed.shape[-1])
    if rest or not heads:
        raise LoadError(
            f"project_in gives vectors of {len(linear)}, and codes have {embed.shape[-1]} "
            "dimensions"
        )
    return heads


def _theirs(parts: Sequence[VectorQuantizer]) -> list[tuple[str, Tensor]]:
    """Equal tables -> one of theirs with as many heads."""
    codes = [part.embedding.table().detach() for part in parts]
    counts = [part.count for part in parts]
    totals = [
        part.total if part.by_average else table * part.count[:, None]
        for part, table in zip(parts, codes, strict=True)
    ]
    started = not any(bool(part.is_open()) for part in parts)
    stacked = [*(torch.stack(each) for each in (codes, totals, counts)), torch.tensor(started)]
    return [(f"_codebook.{name}", t) for name, t in zip(PARTS, stacked, strict=True)]


def _kind(quantizer: Quantizer) -> tuple[str, dict[str, Any]]:
    """The name in `QUANTIZERS` of what `codebook` makes, and the settings that change its ids."""
    tables = tables_of(quantizer)
    if isinstance(quantizer, ResidualQuantizer):
        shared = len(tables) < quantizer.depth
        return "residual", {"num_quantizers": quantizer.depth, "shared_codebook": shared}
    direction = {"use_cosine_sim": tables[0].embedding.cosine}
    if isinstance(quantizer, GroupedQuantizer):
        return "grouped", {"groups": quantizer.depth, **direction}
    return "vector", direction


# --- ours -------------------------------------------------------------------------------------


def _filled(
    books: Sequence[Book], heads: int, cosine: bool, settings: Mapping[str, Any]
) -> Quantizer:
    """The quantizer that these tables belong to, with them in it."""
    made = _empty(books, heads, cosine, settings)
    rows = [(book, head) for book in books for head in range(heads)]
    # Heads may share a table, and so may layers, which have but one of their own then.
    for part, (book, head) in zip(tables_of(made), rows, strict=False):
        part.load_state_dict(_ours(part, book, min(head, len(book["embed"]) - 1)))
        part.go_on()
    return made


def _empty(
    books: Sequence[Book], heads: int, cosine: bool, settings: Mapping[str, Any]
) -> Quantizer:
    """The quantizer that these tables belong to, with tables of its own."""
    _, size, dim = books[0]["embed"].shape
    if len(books) > 1:
        one = books[0]["embed"]
        shared = all(torch.equal(book["embed"], one) for book in books)
        return ResidualQuantizer(
            dim, size, num_quantizers=len(books), shared_codebook=shared, **settings
        )
    if heads > 1:
        return GroupedQuantizer(dim * heads, size, groups=heads, use_cosine_sim=cosine, **settings)
    return VectorQuantizer(dim, size, use_cosine_sim=cosine, **settings)


def _ours(part: VectorQuantizer, book: Book, head: int) -> dict[str, Tensor]:
    """The state of one table."""
    found = {
        "embedding.weight": book["embed"][head],
        "count": book["cluster_size"][head],
        "total": book["embed_avg"][head],
    }
    if part.embedding.cosine:
        # What is left of dead codes is rounding, and would be blown up to a length of 1.
        lost = dead(found["embedding.weight"])[:, None]
        found |= {k: found[k].masked_fill(lost, 0) for k in ("embedding.weight", "total")}
    own = part.state_dict()
    return own | {key: tensor for key, tensor in found.items() if key in own}


def _projection(tensors: Mapping[str, Tensor], start: str) -> nn.Module:
    """Their linear layer, which a norm may follow."""
    own = {k.removeprefix(start): t for k, t in tensors.items() if k.startswith(start)}
    if not own:
        return nn.Identity()
    linear = "0." if "0.weight" in own else ""
    need(own, [linear + "weight", linear + "bias"], f"{start}*")
    to, width = own[linear + "weight"].shape
    made: nn.Module = Projection(width, to)
    if linear:
        made = nn.Sequential(made, ChannelNorm(to))
    made.load_state_dict(own)
    return made


FAMILIES.register("vector_quantize_pytorch")(
    Family(
        title="a codebook of vector-quantize-pytorch",
        licence="that of whoever trained it; the package's is MIT",
        recognises=recognises,
        plan=plan,
    )
)
