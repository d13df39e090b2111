"""Tells diffusers and transformers of vqtok's classes, whichever was imported first.

diffusers loads a saved pipeline's component only from libraries in a table of its own, and
transformers' Auto classes know only what was registered. Importing either takes seconds, so
`import vqtok` imports neither: what is there already is told at once, and the rest when somebody
imports it, by an entry in `sys.meta_path` that sees the import of a few modules.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from threading import local
from types import ModuleType
from typing import Any

__all__ = ["AFTER", "install"]

_log = logging.getLogger(__name__)


def _pipelines() -> None:
    table = import_module("diffusers.pipelines.pipeline_loading_utils").LOADABLE_CLASSES
    table.setdefault("vqtok", {})


def _config() -> None:
    from transformers import AutoConfig

    from vqtok.hf.configuration import VQTokConfig

    AutoConfig.register("vqtok", VQTokConfig, exist_ok=True)


def _model() -> None:
    from transformers import AutoModel

    from vqtok.hf.configuration import VQTokConfig
    from vqtok.hf.modeling import VQTokModel

    AutoModel.register(VQTokConfig, VQTokModel, exist_ok=True)


def _image_processor() -> None:
    from transformers import AutoImageProcessor

    from vqtok.hf.configuration import VQTokConfig
    from vqtok.hf.image_processing import VQTokImageProcessor, VQTokImageProcessorPil

    classes = {"torchvision": VQTokImageProcessor, "pil": VQTokImageProcessorPil}
    AutoImageProcessor.register(VQTokConfig, image_processor_classes=classes, exist_ok=True)


# What to do once a module is there. Each may run twice.
AFTER: dict[str, Callable[[], None]] = {
    "diffusers.pipelines.pipeline_loading_utils": _pipelines,
    "transformers.models.auto.configuration_auto": _config,
    "transformers.models.auto.modeling_auto": _model,
    "transformers.models.auto.image_processing_auto": _image_processor,
}


def install() -> None:
    """Registers with what has been imported, and watches for the rest. More calls change nothing.

    The entry in `sys.meta_path` stays when all is done, where it costs a look-up in a dictionary:
    an import in another thread that walks the list would miss a finder if one was taken out.
    """
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    for name in AFTER:
        if name in sys.modules:
            _tell(name)


def _tell(name: str) -> None:
    """Never raises: an import of somebody else's must not fail because of vqtok."""
    try:
        AFTER[name]()
    except Exception as error:
        # Only what must be told to another version of it than we know can fail here.
        _log.warning("vqtok could not register with %s: %s", name.partition(".")[0], error)


class _Finder:
    """Finds nothing itself: asks the other finders, and puts `_ThenTell` before their loader."""

    def __init__(self) -> None:
        self._asking = local()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in AFTER or getattr(self._asking, "now", False):
            return None
        # Another finder that asks all others would ask this one again.
        self._asking.now = True
        try:
            spec = self._ask(name, path, target)
        finally:
            self._asking.now = False
        if spec is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = _ThenTell(spec.loader)  # type: ignore[assignment]
        return spec

    def _ask(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        for finder in list(sys.meta_path):
            find = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(name, path, target) if find and finder != self else None
            if spec is not None:
                return spec
        return None


class _ThenTell:
    """A module's own loader, followed by `_tell`. Gone from the module before its code runs."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        module.__loader__ = self.loader
        self.loader.exec_module(module)
        _tell(module.__name__)

    def __getattr__(self, name: str) -> Any:
        if name == "loader":  # a copy that is being put together has none yet
            raise AttributeError(name)
        return getattr(self.loader, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return _same, (self.loader,)


def _same(loader: Any) -> Any:
    return loader


_finder: Any = _Finder()
