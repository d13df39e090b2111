"""The onnxruntime that is installed, or what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

from vqtok.errors import ConfigError, MissingExtraError
from vqtok.extras import require

__all__ = ["onnxruntime", "quiet"]

EXTRA = "vqtok[export]"
# Builds of one library; each writes the files of the others.
BUILDS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
    "onnxruntime-silicon",
)
FATAL, WARNING = 4, 2  # onnxruntime's severities


def onnxruntime() -> Any:
    """The module; an error that says the cure where it is not there, or not whole."""
    builds = [name for name in BUILDS if _is_installed(name)]
    if len(builds) > 1:
        raise ConfigError(
            f"{' and '.join(builds)} are installed together, and each overwrites the files of the "
            f"other: pip uninstall -y {' '.join(builds)}, then install one, onnxruntime-gpu for "
            "NVIDIA GPUs, else onnxruntime"
        )
    if not builds:
        return _unlisted(require("onnxruntime", EXTRA, "ONNX graphs run"))
    try:
        module = require("onnxruntime", EXTRA, "ONNX graphs run")
    except ImportError as error:
        why = f"is installed and cannot be imported ({error.__cause__})"
        raise ConfigError(f"{builds[0]} {why}: {_again(builds[0])}") from error
    return _whole(module, builds[0])


def _whole(module: Any, build: str) -> Any:
    """The module, unless nothing but an empty folder is left of it."""
    if not hasattr(module, "InferenceSession"):
        raise ConfigError(
            f"{build} has lost its files, as happens where onnxruntime and onnxruntime-gpu were "
            f"both installed and one was removed: {_again(build)}"
        )
    return module


def _unlisted(module: Any) -> Any:
    """A module that pip knows nothing of: somebody's own build, or what uninstalling left."""
    if not hasattr(module, "InferenceSession"):
        raise MissingExtraError(
            "ONNX graphs run with onnxruntime, of which nothing but a folder is installed: pip "
            f"install '{EXTRA}'"
        )
    return module


def _again(build: str) -> str:
    return f"pip uninstall -y {build}, then pip install {build}"


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


@contextmanager
def quiet() -> Iterator[None]:
    """While it lasts, the library prints nothing of providers that do not start.

    Whoever asked for one says so in a line. The library tells nobody what the severity was.
    """
    module = onnxruntime()
    module.set_default_logger_severity(FATAL)
    try:
        yield
    finally:
        module.set_default_logger_severity(WARNING)
