"""Batches: the same whatever the processes, workers and resumes; and what bad samples do."""

from __future__ import annotations

import multiprocessing
import signal
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from source_files import arrays, picture, png, write
from torch import Tensor

from vqtok.errors import ConfigError, ImageError, LoadError
from vqtok.sources import Sample, Source, open_source
from vqtok.training.data.loader import Batches, fixed
from vqtok.training.settings import Data

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


class Memory:
    """Pictures in memory, some of which cannot be read."""

    is_video = False

    def __init__(self, count: int, bad: tuple[int, ...] = ()) -> None:
        self.keys = [str(number) for number in range(count)]
        self.bad = frozenset(bad)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        if index in self.bad:
            raise LoadError(f"there is no picture {index}")
        return Sample(
            self.keys[index], np.full((10, 10, 3), (index // 256, index % 256, 0), np.uint8), {}
        )


def batches(source: Source, batch_size: int = 8, accumulate: int = 1, **more: Any) -> Batches:
    settings = {"size": 8, "resize": "none", "workers": 0, **more.pop("data", {})}
    indices = more.pop("indices", range(len(source)))
    return Batches(
        source,
        indices,
        Data(**settings),
        batch_size=batch_size,
        accumulate=accumulate,
        **{"seed": 1, **more},
    )


def first(made: Batches, count: int, from_step: int = 0) -> list[Tensor]:
    return list(islice(made.micro_batches(from_step), count))


def values(batch: Tensor) -> list[int]:
    """The number of each picture."""
    return [int(high) * 256 + int(low) for high, low, _ in batch[:, :, 0, 0]]


def equal(left: list[Tensor], right: list[Tensor]) -> bool:
    return len(left) == len(right) and all(map(torch.equal, left, right))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return open_source(arrays(tmp_path_factory.mktemp("arrays")))


@pytest.mark.parametrize("world", [1, 2, 3, 6])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_ranks_make_what_one_process_makes(source: Source, world: int, accumulate: int) -> None:
    alone = first(batches(source, 12, accumulate), 6)
    ranks = [
        first(batches(source, 12, accumulate, rank=rank, world=world), 6) for rank in range(world)
    ]
    assert equal([torch.cat(parts) for parts in zip(*ranks, strict=True)], alone)
    assert alone[0].shape == (12 // accumulate, 3, 8, 8)
    assert alone[0].dtype == torch.uint8


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resume_goes_on(source: Source, workers: int) -> None:
    made = batches(source, 6, 2, data={"workers": workers})
    whole = first(made, 10)
    assert equal(first(made, 4, from_step=3), whole[6:])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_change_nothing(source: Source, method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system cannot {method}")
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method(method, force=True)
    try:
        # A spawned worker imports torch, which takes seconds.
        workers = 2 if method == "fork" else 1
        found = first(batches(source, data={"workers": workers}), 6)
    finally:
        multiprocessing.set_start_method(before, force=True)
    assert equal(found, first(batches(source), 6))


def test_each_epoch_has_every_sample() -> None:
    made = batches(Memory(20), 4, indices=[3, 5, 7, 11, 13])
    seen = values(torch.cat(first(made, 5)))
    for epoch in range(4):
        assert sorted(seen[epoch * 5 : epoch * 5 + 5]) == [3, 5, 7, 11, 13]
    assert [made.epoch_of(step) for step in (0, 5, 6)] == [0, 4, 4.8]


def test_fewer_samples_than_a_batch() -> None:
    (found,) = first(batches(Memory(3)), 1)
    assert sorted(values(found)[:6]) == [0, 0, 1, 1, 2, 2]


def test_the_runs_own_numbers_stay(source: Source) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first(batches(source), 2)
    assert torch.equal(torch.rand(3), expected)


class Surroundings(Memory):
    """Pictures that say what a worker is like."""

    def __getitem__(self, index: int) -> Sample:
        handlers = {signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        ignores = handlers == {signal.SIG_IGN}
        pixels = np.zeros((8, 8, 3), np.uint8)
        pixels[:] = torch.get_num_threads(), ignores, 0
        return Sample(self.keys[index], pixels, {})


def test_a_worker_has_one_thread_and_leaves_signals_to_the_run() -> None:
    before = signal.getsignal(signal.SIGINT)
    (found,) = first(batches(Surroundings(8), data={"workers": 1}), 1)
    assert found[:, :2, 0, 0].unique(dim=0).tolist() == [[1, 1]]
    assert signal.getsignal(signal.SIGINT) is before


def test_workers_end_with_the_stream(source: Source) -> None:
    stream: Any = batches(source, data={"workers": 2}).micro_batches(0)
    next(stream)
    assert multiprocessing.active_children()
    stream.close()
    assert not multiprocessing.active_children()


def heard(made: Iterator[Any], count: int) -> tuple[list[Any], list[str]]:
    """What comes, and the warnings meanwhile."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = list(islice(made, count))
    return found, [str(each.message) for each in caught]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_next_in_the_stream_replaces_a_bad_sample(workers: int) -> None:
    good = values(torch.cat(first(batches(Memory(10), 5), 8)))
    bad = (2, 3, 7)
    made = batches(Memory(10, bad), 5, data={"workers": workers})
    found, said = heard(made.micro_batches(0), 6)
    expected = [next(n for n in good[place:] if n not in bad) for place in range(30)]
    assert values(torch.cat(found)) == expected
    assert sorted(said) == [f"the sample '{n}' is left out: there is no picture {n}" for n in bad]


def test_ranks_replace_alike() -> None:
    bad = Memory(10, (1, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = first(batches(bad, 6), 5)
        ranks = [first(batches(bad, 6, rank=rank, world=3), 5) for rank in range(3)]
    assert equal([torch.cat(parts) for parts in zip(*ranks, strict=True)], alone)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_hundred_bad_in_a_row_end_the_run(workers: int) -> None:
    made = batches(Memory(120, tuple(range(120))), data={"workers": workers})
    with warnings.catch_warnings(), pytest.raises(LoadError) as error:
        warnings.simplefilter("ignore")
        first(made, 1)
    last = values(first(batches(Memory(120), 100), 1)[0])[99]
    assert str(error.value) == (
        f"100 samples in a row could not be read; the last is '{last}': there is no picture {last}"
    )


@pytest.mark.parametrize(("count", "allowed"), [(1200, 12), (50, 10)])
def test_more_than_one_in_a_hundred_end_the_run(count: int, allowed: int) -> None:
    some, more = (Memory(count, tuple(range(n))) for n in (allowed, allowed + 1))
    steps = 2 * count // 50
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert len(first(batches(some, 50), steps)) == steps
        with pytest.raises(LoadError) as error:
            first(batches(more, 50), steps)
    order = [n for batch in first(batches(Memory(count), 50), steps) for n in values(batch)]
    last = [n for n in order[:count] if n <= allowed][-1]
    assert str(error.value) == (
        f"{allowed + 1} of {count} samples could not be read; the last is '{last}': there is no "
        f"picture {last}"
    )


def test_only_bad_samples_are_forgiven() -> None:
    class Faulty(Memory):
        def __getitem__(self, index: int) -> Sample:
            raise RuntimeError("a fault of the program")

    with pytest.raises(RuntimeError, match="a fault of the program"):
        first(batches(Faulty(3)), 1)


def test_a_bad_picture_file(tmp_path: Path) -> None:
    write(tmp_path / "a.png", png(picture(0)))
    write(tmp_path / "b.png", png(picture(0))[:-30])
    found, said = heard(batches(open_source(tmp_path), 4).micro_batches(0), 2)
    assert len(found) == 2
    (message,) = said
    assert message.startswith(
        f"the sample 'b.png' is left out: '{tmp_path / 'b.png'}' is broken or cut short: "
    )


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("world", [1, 2, 3, 20])
def test_fixed_batches_have_each_index_once(workers: int, world: int) -> None:
    source, indices = Memory(20), [19, 3, 4, 8, 1, 17, 2]
    data, found = Data(size=8, workers=workers), []
    for rank in range(world if workers == 0 else 1):
        for pixels, keys in fixed(source, indices, data, rank=rank, world=world, batch_size=3):
            assert pixels.shape == (len(keys), 3, 8, 8)
            assert len(keys) <= 3
            assert values(pixels) == [int(key) for key in keys]
            found += keys
    if workers == 0 or world == 1:
        assert found == [str(index) for index in indices]


def test_fixed_batches_leave_bad_samples_out() -> None:
    source = Memory(10, (2, 3, 4, 7))
    made = fixed(source, range(10), Data(size=8, workers=0), batch_size=3)
    found, said = heard(made, 10)
    assert [keys for _, keys in found] == [["0", "1"], ["5"], ["6", "8"], ["9"]]
    assert said == [f"the sample '{n}' is left out: there is no picture {n}" for n in (2, 3, 4, 7)]


def test_fixed_batches_end_where_much_is_bad() -> None:
    source = Memory(300, tuple(range(2, 300)))
    with warnings.catch_warnings(), pytest.raises(LoadError) as error:
        warnings.simplefilter("ignore")
        list(fixed(source, range(300), Data(size=8, workers=0), batch_size=10))
    assert str(error.value) == (
        "18 of 300 samples could not be read; the last is '19': there is no picture 19"
    )


def test_nothing_to_train_on() -> None:
    with pytest.raises(ConfigError) as error:
        batches(Memory(4), indices=[])
    assert str(error.value) == "there is no sample to train on"


def test_pictures_have_no_frames() -> None:
    for make in (
        lambda data: batches(Memory(4), data=data),
        lambda data: next(fixed(Memory(4), [0], Data(**data), batch_size=1)),
    ):
        with pytest.raises(ConfigError) as error:
            make({"frames": 4})
        assert str(error.value) == (
            "data.frames=4 needs clips, but the source holds pictures; where these are the frames "
            "of clips, a folder each, data.kind=clips says so"
        )


def test_clips_that_are_too_short_are_bad_samples(tmp_path: Path) -> None:
    for number in range(4):
        write(tmp_path / "short" / f"{number}.png", png(picture(number)))
        for more in (0, 4):
            write(tmp_path / "long" / f"{number + more}.png", png(picture(number)))
    source = open_source(tmp_path, kind="clips")
    data = {"frames": 3, "stride": 2}
    found, said = heard(batches(source, 4, data=data).micro_batches(0), 2)
    assert [batch.shape for batch in found] == [(4, 3, 3, 8, 8)] * 2
    assert said == [
        "the sample 'short' is left out: the clip has 4 frames; 3 of them, 2 apart, take 5"
    ]


def test_image_errors_are_bad_samples() -> None:
    class Broken(Memory):
        def __getitem__(self, index: int) -> Sample:
            if index:
                raise ImageError("broken")
            return super().__getitem__(index)

    found, said = heard(batches(Broken(2), 2).micro_batches(0), 2)
    assert values(torch.cat(found)) == [0] * 4
    assert said == ["the sample '1' is left out: broken"]
