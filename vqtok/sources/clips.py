"""Clips: video files, and folders of numbered frames."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from vqtok.errors import LoadError
from vqtok.pictures import VIDEOS, Pixels, load_image
from vqtok.sources import SOURCES, Sample
from vqtok.sources.files import PICTURES, Tree, check_unique, ends_with
from vqtok.sources.folder import label_of
from vqtok.sources.metadata import described
from vqtok.videos import Video, need_av, stacked, wanted_frames

__all__ = ["Clips", "FrameFolder", "Video"]


class FrameFolder:
    """Pictures of one size, in the order of the last number in their names."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)

    @property
    def length(self) -> int:
        """How many frames there are."""
        return len(self.paths)

    def frames(self, start: int, count: int, stride: int = 1) -> Pixels:
        """Frames start, start + stride, ... -> (count, H, W, 3) uint8."""
        name = f"'{self.paths[0].parent}'"
        wanted = wanted_frames(start, count, stride, self.length, name)
        return stacked([load_image(self.paths[n]) for n in wanted], name)


@SOURCES.register("clips")
class Clips:
    """Video files, or else the folders in which pictures lie; the name below the path is the key.

    Columns are those of a metadata.jsonl or metadata.csv, and `label`, the name of the folder that
    the clip lies in, where that is not the path itself. A clip's `length` is found when it is asked
    for. Frames carry a number in their names; gaps in the numbers are not filled.
    """

    suffixes: ClassVar[tuple[str, ...]] = VIDEOS
    is_video = True

    def __init__(self, trees: Sequence[Tree]) -> None:
        self._clips: list[Video | FrameFolder] = []
        self._columns: dict[str, dict[str, Any]] = {}
        self.keys: list[str] = []
        for tree in trees:
            found = _clips(tree)
            self.keys += found
            self._clips += found.values()
            self._columns.update(described(tree, found))
        check_unique(self.keys, lambda index: _label(self._clips[index]))

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        """The data is a `Video` or a `FrameFolder`."""
        key = self.keys[index]
        return Sample(key, self._clips[index], label_of(key) | self._columns.get(key, {}))


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
        need_av(f"'{tree.root / videos[0]}'")
        return {name: Video(tree.root / name) for name in videos}
    folders: dict[str, dict[int, str]] = {}
    for name in frames:
        folder, _, file = name.rpartition("/")
        numbers = re.findall(r"[0-9]+", file.rpartition(".")[0])
        if not numbers:
            raise LoadError(f"the frame '{tree.root / name}' has no number in its name")
        other = folders.setdefault(folder, {}).setdefault(int(numbers[-1]), name)
        if other != name:
            raise LoadError(f"two frames have one number: '{other}' and '{name}' in '{tree.path}'")
    return {
        folder or tree.root.name: FrameFolder([tree.root / names[n] for n in sorted(names)])
        for folder, names in folders.items()
    }
