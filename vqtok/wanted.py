"""A tokenizer as people name it, and how it becomes one on a device. Importing this is light."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from vqtok.backends import check_backend
from vqtok.contents import is_exported
from vqtok.errors import ConfigError

if TYPE_CHECKING:
    from vqtok.obtain import Request
    from vqtok.tokenizer import VisualTokenizer

__all__ = ["BackendName", "Wanted", "on_cpu", "pick_device"]


def _known(name: str) -> str:
    try:
        return check_backend(name)
    except ConfigError as error:
        raise PydanticCustomError("backend", "{text}", {"text": str(error)}) from None


BackendName = Annotated[str, AfterValidator(_known)]


class Wanted(BaseModel):
    """What `vqtok.obtain.Request` finds a tokenizer by, and what it is to run on.

    filename, family, config, settings  for other projects' checkpoints
    backend  "auto" is ONNX Runtime for what `vqtok export` wrote, else torch
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    revision: str | None = None
    subfolder: str | None = None
    variant: str | None = None
    filename: str | None = None
    family: str | None = None
    config: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    backend: BackendName = "auto"

    def request(self) -> Request:
        """What is to be found."""
        from vqtok.obtain import Request

        return Request(**self.model_dump(exclude={"backend"}))

    def at(self, folder: Path) -> Wanted:
        """The same where it has been found, and converted if it had to be."""
        return Wanted(name=str(folder), variant=self.variant, backend=self.backend)

    def is_graphs(self) -> bool:
        """Whether it is seen without a look at the hub that ONNX graphs are meant."""
        place = Path(self.name).expanduser() / (self.subfolder or "")
        return self.backend == "onnx" or (self.backend == "auto" and is_exported(place))

    def device(self, asked: str | None) -> str:
        """What is asked for, checked where torch has it; of None and "auto" what torch would take.

        Of ONNX graphs, as far as `is_graphs` sees them, it is what was asked, or "auto".
        """
        return (asked or "auto") if self.is_graphs() else pick_device(asked)

    def load(self, device: str | None = None, precision: str | None = None) -> VisualTokenizer:
        """The tokenizer as it is in its folder; what is no tokenizer yet is converted first.

        device     None and "auto": a GPU, where its backend can use one
        precision  None: that of the folder
        """
        from vqtok.tokenizer import VisualTokenizer

        auto = device in (None, "auto")
        place = self._converted() if self.settings else self  # they are of the conversion alone
        tok = VisualTokenizer.from_pretrained(
            **place.model_dump(exclude={"settings"}),
            device=None if auto else device,
            precision=precision,
        )
        # ONNX Runtime has chosen by now; torch loads to the CPU.
        return tok.to(pick_device(None)) if auto and tok.has_model else tok

    def _converted(self) -> Wanted:
        from vqtok.obtain import obtain

        return self.at(obtain(**self.model_dump(exclude={"backend"})).path)


def on_cpu(precision: str | None) -> str | None:
    """What stands for a precision on a CPU, where a tokenizer is only looked at.

    TF32 is a GPU's arithmetic on what is ieee32 elsewhere.
    """
    return "ieee32" if precision == "tf32" else precision


def pick_device(name: str | None) -> str:
    """A device of torch, checked; for None and "auto" the accelerator that it sees, or the CPU."""
    import torch

    from vqtok.codec import check_device

    if name in (None, "auto"):
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    check_device(str(name))
    return str(name)
