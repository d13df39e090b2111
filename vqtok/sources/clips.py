"""Clips: video files, and folders of numbered frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

from vqtok.errors import LoadError
from vqtok.pictures import PICTURES, VIDEOS, Pixels, load_image
from vqtok.readers import in_order
from vqtok.sources import SOURCES, Sample
from vqtok.sources.files import Tree, check_unique, ends_with, keys_of
from vqtok.sources.folder import label_of
from vqtok.sources.metadata import described
from vqtok.sources.remote import Place, contents
from vqtok.videos import Video, need_av, stacked, wanted_frames

__all__ = ["Clips", "FrameFolder", "Video"]


class FrameFolder:
    """Pictures of one size, in the order of the last number in their names."""

    def __init__(self, paths: Sequence[Place]) -> None:
        self.paths: list[Any] = list(paths)  # of a folder on this machine, all are a `Path`

    @property
    def length(self) -> int:
        """How many frames there are."""
        return len(self.paths)

    def frames(self, start: int, count: int, stride: int = 1) -> Pixels:
        """Frames start, start + stride, ... -> (count, H, W, 3) uint8."""
        name = f"'{self.paths[0].parent}'"
        wanted = wanted_frames(start, count, stride, self.length, name)
        return stacked([_frame(self.paths[n]) for n in wanted], name)


def _frame(path: Place) -> Pixels:
    return load_image(contents(path), name=f"'{path}'")


@SOURCES.register("clips")
class Clips:
    """Video files, or else the folders in which pictures lie; the name below the path is the key.

    Columns are those of a metadata.jsonl or metadata.csv, and `label`, the name of the folder that
    the clip lies in, where that is not the path itself. A clip's `length` is found when it is asked
    for. Frames carry a number in their names; gaps in the numbers are not filled.
    """

    suffixes: ClassVar[tuple[str, ...]] = VIDEOS
    is_video = True
    labels_by_folder = True

    def __init__(self, trees: Sequence[Tree]) -> None:
        self._clips: list[Video | FrameFolder] = []
        self._columns: dict[str, dict[str, Any]] = {}
        self._names: list[str] = []
        for tree in trees:
            found = _clips(tree)
            self._names += found
            self._clips += found.values()
            self._columns.update(described(tree, found))
        self.keys = keys_of(self._names)
        check_unique(self.keys, lambda index: _label(self._clips[index]))

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        """The data is a `Video` or a `FrameFolder`."""
        key = self.keys[index]
        columns = label_of(key) | self._columns.get(self._names[index], {})
        return Sample(key, self._clips[index], columns)

    def labels(self) -> Iterator[Any]:
        """The label of each sample, None where it has none."""
        for key, name in zip(self.keys, self._names, strict=True):
            yield (label_of(key) | self._columns.get(name, {})).get("label")


def _ordered(names: list[str], tree: Tree) -> list[str]:
    root, path = cast("Path", tree.root), cast("Path", tree.path)  # only joined and shown
    return in_order(names, root, path)


def _label(clip: Video | FrameFolder) -> str:
    return clip.name if isinstance(clip, Video) else f"'{clip.paths[0].parent}'"


def _clips(tree: Tree) -> dict[str, Video | FrameFolder]:
    """Key -> clip."""
    videos = [name for name in tree.names if ends_with(name, VIDEOS)]
    frames = [name for name in tree.names if ends_with(name, PICTURES)]
    if videos and frames:
        raise LoadError(
            f"'{tree.path}' holds video files, such as '{videos[0]}', and pictures, such as "
            f"'{frames[0]}', which may be frames; keep them in separate folders"
        )
    if videos:
        need_av(f"'{tree.at(videos[0])}'")
        return {name: Video(tree.at(name)) for name in videos}
    folders: dict[str, list[str]] = {}
    for name in frames:
        folders.setdefault(name.rpartition("/")[0], []).append(name)
    return {
        folder or tree.root.name: FrameFolder([tree.at(name) for name in _ordered(names, tree)])
        for folder, names in folders.items()
    }
