"""What projects put around a model's tensors and settings, taken off."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from vqtok.errors import LoadError

__all__ = ["Unwrapped", "ema_weights", "hoisted", "merged", "stripped", "unwrap"]

T = TypeVar("T")

# Where a file keeps a running mean of its weights beside them, and where the weights.
AVERAGES = ("ema", "ema_state_dict", "state_dict_ema", "ema_model")
CONTAINERS = (
    "state_dict",
    "model_state_dict",
    "model",
    "generator",
    "module",
    "net",
    "params",
    "trainer",
    "vae_local",
)
JUDGES = ("discriminator", "disc")
SETTINGS = ("hyper_parameters", "hparams", "config", "cfg", "args")
STEP = "global_step"  # that training was left at, as Lightning has it
# What torch's AveragedModel keeps beside the weights.
COUNTERS = ("n_averaged",)
# Anywhere in a key: what torch.compile, FSDP and activation checkpointing insert.
INSERTED = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
# The tokenizer within a larger model. The rest of such a file is not read.
PARTS = ("first_stage_model.", "gen_vision_model.", "model.vqmodel.", "vqmodel.")
# In front of all keys.
AROUND = ("module.", "model.", "generator.", "vae.", "vqvae.", "tokenizer.")
# Where the settings of a tokenizer lie in those of a project, the innermost last.
PLACES = ("model", "first_stage_config", "vq_config", "params", "init_args")
EMA = "model_ema."
EMA_COUNTERS = ("decay", "num_updates")


class Unwrapped(NamedTuple):
    """The innermost names and what they stand for; settings found beside them; what was chosen."""

    tensors: dict[str, Any]
    settings: dict[str, Any]
    notes: tuple[str, ...]


def unwrap(found: Any, is_tensor: type | tuple[type, ...]) -> Unwrapped:
    """The tensors in what a file holds, which may be containers in containers.

    A running mean of the weights is preferred where it has each of them. A discriminator beside
    the model is kept, under `discriminator.`.
    """
    settings: dict[str, Any] = {}
    judge: dict[str, Any] = {}
    notes: list[str] = []
    seen: set[int] = set()  # a pickle may hold itself
    while isinstance(found, Mapping) and id(found) not in seen:
        seen.add(id(found))
        for name in SETTINGS:
            if name in found and not isinstance(found[name], is_tensor):
                settings[name] = found[name]
        if isinstance(found.get(STEP), int):
            settings[STEP] = {STEP: found[STEP]}
        for name in JUDGES:
            judge.update(_tensors(found.get(name), is_tensor, "discriminator."))
        container = _container(found, is_tensor, notes)
        if container is None:
            break
        found = found[container]
    return Unwrapped(_tensors(found, is_tensor) | judge, settings, tuple(notes))


def _container(found: Mapping[Any, Any], is_tensor: Any, notes: list[str]) -> str | None:
    """The entry that the weights are in, or None where they are the entries themselves."""
    holding = [name for name in CONTAINERS if _holds(found.get(name), is_tensor, {id(found)})]
    for name in AVERAGES:
        mean = set(stripped(_tensors(found.get(name), is_tensor)).values())
        if not mean:
            continue
        names = (_tensors(found[one], is_tensor) for one in holding[:1])
        lost = len({key for keys in names for key in stripped(keys).values()} - mean)
        if not lost:
            notes.append(f"the weights are those of {name!r}, their running mean in training")
            return name
        notes.append(f"{name!r} was left aside: it lacks {lost} of the model's tensors")
    return holding[0] if holding else None


def _holds(found: Any, is_tensor: Any, seen: set[int]) -> bool:
    """Whether there are tensors in it, or in a container within it that was not `seen`."""
    if not isinstance(found, Mapping) or id(found) in seen:
        return False
    seen.add(id(found))
    inner = (found.get(name) for name in (*CONTAINERS, *AVERAGES))
    return bool(_tensors(found, is_tensor)) or any(_holds(item, is_tensor, seen) for item in inner)


def _tensors(found: Any, is_tensor: Any, start: str = "") -> dict[str, Any]:
    if not isinstance(found, Mapping):
        return {}
    return {
        f"{start}{key}": item
        for key, item in found.items()
        if isinstance(item, is_tensor) and key not in COUNTERS
    }


def stripped(names: Iterable[str]) -> dict[str, str]:
    """Of the keys in a file those that belong to the tokenizer: key -> its name without prefixes.

    Where one of `PARTS` is in front of some, the others are those of a larger model around it.
    """
    found = {name: name for name in names}
    for inserted in INSERTED:
        found = {name: inner.replace(inserted, "") for name, inner in found.items()}
    while (start := _start(list(found.values()))) is not None:
        found = {
            name: inner.removeprefix(start)
            for name, inner in found.items()
            if inner.startswith((start, "discriminator."))
        }
    return found


def _start(names: list[str]) -> str | None:
    own = [name for name in names if not name.startswith("discriminator.")]
    for start in AROUND:
        if own and all(name.startswith(start) for name in own):
            return start
    return next((part for part in PARTS if any(name.startswith(part) for name in own)), None)


def ema_weights(tensors: Mapping[str, T], origin: str = "the file") -> dict[str, T]:
    """A model's tensors, each as Lightning's `LitEma` has it, where it has.

    That keeps the running mean of `a.b.weight` under `model_ema.abweight`. Keys of `model_ema.`
    are left out of what comes back; without any, it is what was given.
    """
    names: dict[str, str] = {}
    for name in tensors:
        if not name.startswith(EMA):
            short = name.replace(".", "")
            if names.setdefault(short, name) != name:
                raise LoadError(
                    f"{origin} holds running means whose names fit both {names[short]!r} and "
                    f"{name!r}"
                )
    found = {name: tensors[name] for name in names.values()}
    for name in tensors:
        short = name.removeprefix(EMA)
        if short == name or short in EMA_COUNTERS:
            continue
        if short not in names:
            raise LoadError(f"{origin} holds {name!r}, a running mean of no tensor that is in it")
        found[names[short]] = tensors[name]
    return found


# --- settings ---------------------------------------------------------------------------------


def hoisted(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with those of the tokenizer on top, from wherever in them they lie.

    `{"model": {"params": {"n_embed": 8}}}` has `n_embed` itself, too: families look there.
    """
    found = dict(settings)
    inner: Mapping[str, Any] = next(
        (settings[n] for n in PLACES if isinstance(settings.get(n), Mapping)), {}
    )
    return found | hoisted(inner) if inner else found


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Settings one over the other; what lies inside each other is merged, too."""
    found: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            both = isinstance(found.get(key), Mapping) and isinstance(value, Mapping)
            found[key] = merged(found[key], value) if both else value
    return found
