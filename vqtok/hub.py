"""From a tokenizer's name to its folder on this machine, and from a folder to the hub."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path, PurePosixPath

from vqtok.contents import (
    CONFIG,
    DISCRIMINATOR,
    GRAPHS,
    ONNX,
    WEIGHTS,
    check_files,
    exported_files,
    family_of,
    look,
    other_checkpoints,
    shown,
)
from vqtok.errors import ConfigError, LoadError
from vqtok.zoo import bundled, unknown

__all__ = [
    "REPO",
    "Resolved",
    "fetch",
    "of_run",
    "push_folder",
    "resolve",
]

TEXTS = ["*config.json", "conversion.json", "parity.json", "README.md"]
# Of an older tokenizer or export: it belongs to the config.json that is replaced.
STALE = [name for graph in GRAPHS for name in (graph, f"{graph}.data")]
STALE += ["conversion.json", "parity.json", "probe.safetensors", "probe.*.safetensors"]
REPO = re.compile(r"\w[\w.-]*/\w[\w.-]*")


@dataclass(frozen=True, slots=True)
class Resolved:
    """A tokenizer's folder, and where it came from.

    path    holds config.json and the weights that were asked for
    repo    the repository on the hub, or None where the name was a folder or a bundled one
    commit  the commit of `repo`; as a `revision` it gives the same files for ever
    family  "vqtok", "diffusers_vq" for a stock VQModel, "onnx" for what `vqtok export` wrote, or
            whose checkpoint it was converted from
    """

    path: Path
    repo: str | None
    commit: str | None
    family: str


def resolve(
    name: str | os.PathLike[str],
    revision: str | None = None,
    subfolder: str | None = None,
    variant: str | None = None,
    token: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> Resolved:
    """The folder of a tokenizer: a folder, else a name in the package, else `org/name` on the hub.

    From the hub come its configuration, card and probe, the weights of `variant` alone, and the
    discriminator that is kept beside them, or the graphs of an export, into the cache that Hugging
    Face libraries share, or `cache_dir`.
    """
    inner = _inner(subfolder)
    folder = _local(name, inner)
    if folder is None:
        source = _Source(os.fspath(name), revision, inner, token, cache_dir, local_files_only)
        return source.fetch(variant)
    if revision is not None:
        raise ConfigError(
            f"revision={revision!r} chooses a commit on the hub, but {os.fspath(name)!r} is the "
            f"folder {folder}"
        )
    if not folder.is_dir():
        raise LoadError(f"there is no folder {folder}")
    family = family_of(folder, lambda: look(folder))
    check_files(folder, family, variant, lambda: look(folder))
    return Resolved(folder, None, None, family)


def fetch(
    repo: str,
    filename: str,
    beside: Iterable[str] = (),
    *,
    revision: str | None = None,
    subfolder: str | None = None,
    token: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> tuple[Path, str]:
    """A file of a repository on the hub, by its path there, and the commit that it is of.

    Of the files `beside` it, those that there are come too, and lie beside it here.
    """
    inner = PurePosixPath(_inner(subfolder)) / _inner(filename)
    folder = "" if inner.parent == PurePosixPath(".") else str(inner.parent)
    source = _Source(repo, revision, folder, token, cache_dir, local_files_only)
    return source.file(inner.name, beside)


def of_run(name: str) -> str:
    """The tokenizer in a training run's folder; any other name as it is."""
    run = Path(name)
    if (run / "config.json").is_file() or not (run / "settings.yaml").is_file():
        return name
    if not (run / "tokenizer" / "config.json").is_file():
        raise LoadError(f"the run {name!r} has no tokenizer yet; it gets one when training ends")
    return str(run / "tokenizer")


def push_folder(
    folder: Path,
    repo_id: str,
    *,
    token: str | None = None,
    private: bool | None = None,
    commit_message: str | None = None,
    revision: str | None = None,
) -> str:
    """Uploads a tokenizer's folder to `repo_id`, and returns the repository's address.

    Makes the repository, and the branch `revision`, where there is none. Weights and graphs in it
    that `folder` lacks, such as another variant's, are removed: they belong to an older tokenizer.
    So do probes, a discriminator and what a conversion or an export wrote of itself.
    """
    from huggingface_hub import HfApi

    family_of(folder, lambda: look(folder))
    api = HfApi(token=token)
    try:
        url = api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(url.repo_id, branch=revision, exist_ok=True)
        api.upload_folder(
            repo_id=url.repo_id,
            folder_path=folder,
            commit_message=commit_message or "Upload a tokenizer",
            revision=revision,
            delete_patterns=[f"{WEIGHTS}*", DISCRIMINATOR, *STALE],
        )
    except Exception as error:  # whatever the client and its transport raise
        raise LoadError(f"{folder} was not uploaded to {repo_id!r}: {_why(error)}") from error
    return str(url)


# --- names ------------------------------------------------------------------------------------


def _inner(subfolder: str | None) -> str:
    path = PurePosixPath(subfolder or ".")
    if path.is_absolute() or ".." in path.parts:
        raise ConfigError(
            f"subfolder is a path inside a tokenizer's folder or repository; got {subfolder!r}"
        )
    return "" if path == PurePosixPath(".") else str(path)


def _local(name: str | os.PathLike[str], inner: str) -> Path | None:
    """The folder here that `name` means, or None where it means a repository on the hub."""
    text = os.fspath(name)
    path = Path(os.path.expanduser(text))  # which leaves an unknown ~user alone
    known = bundled()
    if text in known and not (path / inner / CONFIG).is_file():
        return known[text] / inner
    if text and path.is_dir():
        return path / inner
    if path.is_file():
        raise LoadError(f"{text} is a file; a tokenizer is the folder that holds its {CONFIG}")
    if "://" in text:
        raise LoadError(f"{text} is an address; a tokenizer on the hub is called org/name")
    if isinstance(name, str) and REPO.fullmatch(text):
        return None
    if not isinstance(name, str) or "/" in text or os.sep in text:
        raise LoadError(f"there is no folder {text}")
    raise unknown(text, known)


# --- the hub ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Source:
    """A folder of a repository on the hub, and how it may be read."""

    repo: str
    revision: str | None
    inner: str
    token: str | None
    cache_dir: str | os.PathLike[str] | None
    local_files_only: bool

    def fetch(self, variant: str | None) -> Resolved:
        root = self._download(self.revision, TEXTS, large=False)
        folder, commit = root / self.inner, root.name
        # Before the weights: those of something else may be many gigabytes.
        family = family_of(folder, lambda: self._look(folder))
        self._download(commit, _graphs(folder) if family == ONNX else _weights(variant))
        check_files(folder, family, variant, lambda: self._look(folder))
        return Resolved(folder, self.repo, commit, family)

    def file(self, name: str, beside: Iterable[str]) -> tuple[Path, str]:
        """The file of that name, and the commit; those `beside` it come where they are there."""
        root = self._download(self.revision, [escape(one) for one in (name, *beside)])
        file = root / self.inner / name
        if not file.is_file():
            where, names = self._look(file.parent)
            raise LoadError(
                f"{where} has no file {name!r}; it has {shown(other_checkpoints(names))}"
            )
        return file, root.name

    def _download(self, revision: str | None, patterns: list[str], *, large: bool = True) -> Path:
        """The folder of the commit in the cache; it holds at least the files that `patterns` name.

        Bars are for people who wait for what is `large`.

        Not `hf_hub_download`: where there is no hub, that one tries for half a minute.
        """
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        start = escape(f"{self.inner}/") if self.inner else ""
        try:
            with _quiet(bars=large and sys.stderr.isatty()):
                root = snapshot_download(
                    self.repo,
                    revision=revision,
                    allow_patterns=[start + pattern for pattern in patterns],
                    ignore_patterns=[f"{start}*/*"],  # for * goes through folders
                    token=self.token,
                    cache_dir=self.cache_dir,
                    local_files_only=self.local_files_only,
                )
        except LocalEntryNotFoundError as error:
            raise LoadError(self._why_absent(error)) from error
        except Exception as error:  # whatever the client and its transport raise
            raise self._failed(error) from error
        return Path(root)

    @property
    def _at(self) -> str:
        return f"{self.repo!r}" + (f" at {self.revision!r}" if self.revision else "")

    def _look(self, folder: Path) -> tuple[str, list[str]]:
        """The files in the repository; where it cannot be asked, those that are here."""
        from huggingface_hub import HfApi

        start = f"{self.inner}/" if self.inner else ""
        within = f", in {self.inner}," if self.inner else ""
        try:
            if self.local_files_only:
                raise OSError
            names = HfApi(token=self.token).list_repo_files(self.repo, revision=self.revision)
        except Exception:  # it is asked only to word another error
            here = look(folder)[1] if folder.is_dir() else []
            return f"the copy of {self._at} in the cache{within}", here
        inside = [name.removeprefix(start) for name in names if name.startswith(start)]
        return f"{self._at} on the hub{within}", inside

    def _why_absent(self, error: Exception) -> str:
        """For a file that is not in the cache and could not be fetched."""
        from huggingface_hub.errors import OfflineModeIsEnabled

        cause = error.__cause__
        if self.local_files_only:
            why = "local_files_only=True"
        elif isinstance(cause, OfflineModeIsEnabled):
            why = "HF_HUB_OFFLINE is set"
        else:
            why = _why(cause or error)
        return f"{self._at} is no folder here, not complete in the cache, and not fetched: {why}"

    def _failed(self, error: Exception) -> LoadError:
        from huggingface_hub.errors import (
            GatedRepoError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )

        repo = repr(self.repo)
        if isinstance(error, GatedRepoError):
            return LoadError(
                f"{repo} is gated: accept its terms on its page, then pass a token of that account"
            )
        if isinstance(error, RepositoryNotFoundError):
            return LoadError(
                f"there is no folder {self.repo}, and the hub has no repository of that name that "
                "this token may read"
            )
        if isinstance(error, RevisionNotFoundError):
            return LoadError(f"{repo} has no branch, tag or commit {self.revision!r}")
        return LoadError(f"{self._at} cannot be fetched: {_why(error)}")


@contextmanager
def _quiet(*, bars: bool) -> Iterator[None]:
    """While it lasts the client draws `bars` or none, and says nothing of files that are not there.

    Whether those are missed is for whoever asked for them to say.
    """
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    def matches(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("No files matched")

    logger = logging.getLogger("huggingface_hub._snapshot_download")
    hides = not bars and not are_progress_bars_disabled()
    logger.addFilter(matches)
    if hides:
        disable_progress_bars()
    try:
        yield
    finally:
        logger.removeFilter(matches)
        if hides:
            enable_progress_bars()


def _weights(variant: str | None) -> list[str]:
    middle = escape(f".{variant}") if variant else ""
    return [
        DISCRIMINATOR,
        f"probe{middle}.safetensors",
        f"{WEIGHTS}{middle}.safetensors",
        f"{WEIGHTS}{middle}-*-of-*.safetensors",
        f"{WEIGHTS}.safetensors.index{middle}.json",
    ]


def _graphs(folder: Path) -> list[str]:
    return ["probe.safetensors", *map(escape, exported_files(folder))]


def _why(error: BaseException) -> str:
    """One clause on what an error of the client says about the hub."""
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        said = f" ({error.server_message})" if error.server_message else ""
        return f"the hub answered {error.response.status_code}{said}"
    if type(error).__name__ in ("ConnectError", "ConnectTimeout", "ReadTimeout"):
        return f"the hub at {constants.ENDPOINT} does not answer"
    return " ".join(f"{type(error).__name__}: {error}".split())
