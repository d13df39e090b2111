"""What a worker runs. Knows no HTTP; importing it brings no torch.

The answer for a picture is what the tokenizer's own `encode` and `decode` give. With another batch
around it a convolution may round otherwise, which moves an id only where two codes are as near as
rounding goes: a near tie. With `padding="alone"` each picture goes through by itself, so that
codes, latents and pixels are equal bit for bit whatever came along with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from vqtok.errors import ConfigError, InputError, did_you_mean
from vqtok.serve.clips import ClipRunner
from vqtok.serve.describe import describe
from vqtok.serve.facts import Facts
from vqtok.serve.items import Item, Parts, quiet
from vqtok.serve.pictures import PictureRunner
from vqtok.serve.slab import Op
from vqtok.serve.streams import Passage

if TYPE_CHECKING:
    from vqtok.tokenizer import VisualTokenizer
    from vqtok.types import Codec

__all__ = ["PADDINGS", "Engine", "Item", "Parts", "TokenizerEngine"]

PADDINGS = ("auto", "none", "powers", "alone")


class Engine(Protocol):
    """What a worker runs. Its `InputError` says that it cannot be done with this input."""

    @property
    def facts(self) -> Facts: ...

    def warm_up(self, max_batch: int, beat: Callable[[], None]) -> None:
        """Does what the first pictures would wait for; `beat` as in `run`."""
        ...

    def rows(self, item: Item) -> int:
        """How many like this one go through the model together, at most."""
        ...

    def run(self, op: Op, items: Sequence[Item], beat: Callable[[], None]) -> list[Parts]:
        """Items of one op, with equal shapes and scales -> the answer for each, or an error.

        beat  to be called now and then while it takes long. It raises where nobody waits any more,
              which is to be let through
        """
        ...

    def passage(self, op: Op) -> Passage:
        """For one clip that is longer than a slot, and comes chunk by chunk."""
        ...


class TokenizerEngine:
    """An `Engine` over a tokenizer; latents need one that runs on torch.

    padding    how batches are filled up with zeros: "powers", to powers of two, so that few shapes
               are seen; "none"; "alone", there are none but of one, so that nothing depends on what
               came along; "auto" is "powers" on a GPU, where each shape is prepared for, else
               "none"
    max_batch  pictures of the tokenizer's size that go through the model together; of larger ones
               as many as have no more pixels, of clips one
    facts      where they are known already
    """

    def __init__(
        self,
        tok: VisualTokenizer,
        *,
        name: str,
        tokenizer: str,
        padding: str = "auto",
        max_batch: int = 32,
        facts: Facts | None = None,
    ) -> None:
        if padding not in PADDINGS:
            raise ConfigError(
                f"there is no padding called {padding!r}. {did_you_mean(padding, PADDINGS)}"
            )
        self.facts = facts or describe(tok, name, tokenizer)
        gpu = _is_on_gpu(tok.codec)
        if padding == "auto":
            padding = "powers" if gpu else "none"
        self._warm = 0
        self._gives_latents = hasattr(tok.codec, "decode_latents")
        self._runner = (
            ClipRunner(tok.codec, self.facts)
            if self.facts.traits.is_video
            else PictureRunner(tok.codec, self.facts, padding, max_batch, gpu)
        )

    def warm_up(self, max_batch: int, beat: Callable[[], None]) -> None:
        """See `Engine.warm_up`: there and back once for each usual shape, and never again."""
        self._runner.beat = beat
        if max_batch > self._warm:
            self._runner.warm_up(max_batch)
            self._warm = max_batch

    def rows(self, item: Item) -> int:
        """See `Engine.rows`: clips go one by one."""
        return self._runner.rows(item) if isinstance(self._runner, PictureRunner) else 1

    def run(self, op: Op, items: Sequence[Item], beat: Callable[[], None] = quiet) -> list[Parts]:
        """See `Engine.run`."""
        self._runner.beat = beat
        self._check(op)
        return self._runner.run(op, items)

    def passage(self, op: Op) -> Passage:
        """See `Engine.passage`."""
        self._check(op)
        if not isinstance(self._runner, ClipRunner):
            raise InputError(f"{self.facts.name} takes pictures, of which none is a stream")
        return self._runner.passage(op)

    def _check(self, op: Op) -> None:
        if op in (Op.LATENTS, Op.DECODE_LATENTS) and not self._gives_latents:
            raise InputError(
                f"{self.facts.name} does not run on torch here, and has codes but no latents"
            )


def _is_on_gpu(codec: Codec) -> bool:
    return str(codec.device).startswith("cuda")
