"""Streams: every row once over all ranks and workers, in an order of seed and epoch, resumed."""

from __future__ import annotations

from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pytest
import token_sets
from hypothesis import given, settings
from hypothesis import strategies as st
from token_rows import plan
from torch.utils.data import DataLoader

from vqtok.errors import ConfigError, MismatchError
from vqtok.offline.formats import parquet
from vqtok.offline.pieces import WINDOW, Order
from vqtok.offline.read import TokenSet, collate, open_tokens

pytest.importorskip("pyarrow")

KEYS = [f"k{number:03d}" for number in range(61)]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> TokenSet:
    root = tmp_path_factory.mktemp("set")
    of = plan(KEYS, shard_size=7, views=("center", "hflip"), view_names=("center", "hflip"))
    token_sets.write(root, of, KEYS, [("k002", "hflip"), ("k040", "center")], [("k002", "hflip")])
    return open_tokens(root)


def names(rows: Any) -> list[tuple[str, str]]:
    return [(row.key, row.view) for row in rows]


@settings(max_examples=40)
@given(world=st.integers(1, 9), shuffle=st.booleans(), window=st.integers(1, 140))
def test_ranks_share_all_rows(tokens: TokenSet, world: int, shuffle: bool, window: int) -> None:
    parts = [
        tokens.stream(shuffle=shuffle, rank=rank, world=world, window=window)
        for rank in range(world)
    ]
    found = [names(part) for part in parts]
    assert [len(each) for each in found] == [part.rows for part in parts]
    assert max(map(len, found)) - min(map(len, found)) <= 1
    assert sorted(name for each in found for name in each) == sorted(names(tokens))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on machines of one core
def test_workers_share_a_ranks_rows(tokens: TokenSet) -> None:
    found = []
    for rank in range(2):
        stream = tokens.stream(rank=rank, world=2, seed=1)
        loader = DataLoader(
            stream, batch_size=4, num_workers=2, collate_fn=collate, multiprocessing_context="fork"
        )
        mine = [pair for batch in loader for pair in zip(batch["key"], batch["view"], strict=True)]
        assert len(mine) == stream.rows
        found += mine
    assert sorted(found) == sorted(names(tokens))


def test_without_shuffling_rows_come_in_order(tokens: TokenSet) -> None:
    assert names(tokens.stream(shuffle=False)) == names(tokens)


def test_order_is_a_function_of_seed_and_epoch(tokens: TokenSet) -> None:
    stream = tokens.stream(seed=1)
    first = names(stream)
    assert names(stream) == first == names(tokens.stream(seed=1)) != names(tokens)
    assert names(tokens.stream(seed=2)) != first
    stream.set_epoch(1)
    second = names(stream)
    assert second != first and sorted(second) == sorted(first)


def test_rows_of_a_window_are_mixed(tokens: TokenSet) -> None:
    found = [int(key[1:]) // 7 for key, _ in names(tokens.stream())]
    assert sum(a != b for a, b in pairwise(found)) > 60


def test_a_window_has_pieces_of_all_shards() -> None:
    counts = [16_384] * 64
    order = Order(counts, True, WINDOW, 0, 0)
    for number in (0, 5):
        first = next(order.windows(number, 8))
        assert len(first) in (64, 65) and 12_000 < (first[:, 2] - first[:, 1]).sum() <= WINDOW
        assert len(set(first[:, 0].tolist())) > 30  # of 64 drawn from 64, 40 differ
        rows = order.mixed(first)
        assert sorted(rows.tolist()) == list(range(len(rows)))
    other = Order(counts, True, WINDOW, 0, 1)
    assert next(other.windows(0, 8)).tolist() != next(order.windows(0, 8)).tolist()


def test_a_stream_holds_no_more_rows_than_its_window(
    tokens: TokenSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    part = TokenSet.part

    def counted(self: TokenSet, shard: int, start: int, stop: int, epoch: int) -> Any:
        asked.append(stop - start)
        return part(self, shard, start, stop, epoch)

    monkeypatch.setattr(TokenSet, "part", counted)
    next(iter(tokens.stream(window=5)))
    assert 0 < sum(asked) <= 5


@settings(max_examples=40)
@given(taken=st.integers(0, 121), window=st.integers(1, 50), shuffle=st.booleans())
def test_a_stream_goes_on_where_it_was(
    tokens: TokenSet, taken: int, window: int, shuffle: bool
) -> None:
    chosen: dict[str, Any] = {"window": window, "shuffle": shuffle, "seed": 5}
    stream = tokens.stream(**chosen)
    stream.set_epoch(2)
    running = iter(stream)
    before = [next(running) for _ in range(taken)]
    state = stream.state_dict()
    assert state["taken"] == taken and state["epoch"] == 2
    again = tokens.stream(**chosen)
    again.load_state_dict(state)
    assert again.state_dict() == state
    rest = names(again)
    assert names(before) + rest == names(_epoch(tokens, 2, chosen))
    assert len(names(again)) == len(tokens)


def _epoch(tokens: TokenSet, epoch: int, chosen: dict[str, Any]) -> Any:
    stream = tokens.stream(**chosen)
    stream.set_epoch(epoch)
    return stream


def test_a_resumed_stream_can_be_left_again(tokens: TokenSet) -> None:
    whole = names(tokens.stream())
    state: dict[str, Any] = {}
    found: list[tuple[str, str]] = []
    for count in (10, 1, 40, 5):
        stream = tokens.stream()
        if state:
            stream.load_state_dict(state)
        running = iter(stream)
        found += names(next(running) for _ in range(count))
        state = stream.state_dict()
    assert found == whole[:56]


def test_an_epoch_that_has_not_begun_is_resumed_from_its_front(tokens: TokenSet) -> None:
    stream = tokens.stream(seed=1)
    list(stream)
    assert stream.state_dict()["taken"] == len(tokens)
    stream.set_epoch(1)
    state = stream.state_dict()
    assert (state["epoch"], state["taken"]) == (1, 0)
    again = tokens.stream(seed=1)
    again.load_state_dict(state)
    assert names(again) == names(stream) and len(tokens) > 0


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on machines of one core
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_process_does_not_know_how_far_its_workers_are(tokens: TokenSet, start: str) -> None:
    stream = tokens.stream(seed=1)
    before = stream.state_dict()
    assert len(list(_loader(stream, start))) > 10
    with pytest.raises(ConfigError) as error:
        stream.state_dict()
    assert str(error.value) == (
        "the workers of a DataLoader read this stream, and they alone know how far they are; "
        "torchdata's StatefulDataLoader asks them, or use num_workers=0"
    )
    stream.set_epoch(1)
    assert stream.state_dict()["taken"] == 0
    stream.set_epoch(0)
    next(iter(stream))
    assert stream.state_dict()["taken"] == 1
    fresh = tokens.stream(seed=1)
    fresh.load_state_dict(before)
    with pytest.raises(MismatchError, match="of another stream: workers is 0 there, 1 here"):
        list(_loader(fresh, start))


def _loader(stream: Any, start: str) -> Any:
    return DataLoader(
        stream, batch_size=9, num_workers=1, collate_fn=collate, multiprocessing_context=start
    )


def test_a_stream_has_no_length_that_loaders_would_trust(tokens: TokenSet) -> None:
    with pytest.raises(TypeError):
        len(DataLoader(tokens.stream(), batch_size=4, collate_fn=collate))


def test_another_epoch_starts_from_the_front(tokens: TokenSet) -> None:
    stream = tokens.stream()
    stream.load_state_dict({**stream.state_dict(), "taken": 100})
    stream.set_epoch(1)
    assert len(names(stream)) == len(tokens)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 2}, "seed is 1 there, 2 here"),
        ({"window": 3}, "window is 16384 there, 3 here"),
        ({"rank": 1, "world": 2}, "run is 0 there, 1 here"),
        ({"rank": 0, "world": 2}, "runs is 1 there, 2 here"),
    ],
)
def test_the_state_of_another_stream_is_refused(
    tokens: TokenSet, changes: dict[str, Any], said: str
) -> None:
    stream = tokens.stream(**{"seed": 1, **changes})
    stream.load_state_dict(tokens.stream(seed=1).state_dict())
    with pytest.raises(MismatchError) as error:
        next(iter(stream))
    assert str(error.value) == f"this state is of another stream: {said}"


def test_the_state_of_other_views_is_refused(tokens: TokenSet) -> None:
    state = tokens.stream().state_dict()
    stream = open_tokens(_root(tokens), views="hflip").stream()
    stream.load_state_dict(state)
    with pytest.raises(MismatchError, match=r"views is None there, \['hflip'\] here$"):
        next(iter(stream))


def test_random_views_follow_the_streams_epoch(tokens: TokenSet) -> None:
    drawn = open_tokens(_root(tokens), views="random")
    stream = drawn.stream(shuffle=False)
    first = names(stream)
    assert [key for key, _ in first] == [key for key, _ in names(drawn)]
    stream.set_epoch(1)
    second = names(stream)
    assert [key for key, _ in second] == [key for key, _ in first] and second != first


def _root(tokens: TokenSet) -> Path:
    return Path(tokens._shelf.url)


def test_streams_give_latents_as_they_were_asked_for(tmp_path: Path) -> None:
    token_sets.write(tmp_path, plan(KEYS, what="both"), KEYS)
    latents = open_tokens(tmp_path, as_latents=True)
    by_key = {row.key: row for row in latents}
    for row in latents.stream():
        assert row.latents is not None and (row.latents == by_key[row.key].latents).all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"window": 0}, "window is a number of rows, at least 1; got 0"),
        ({"rank": 1}, "rank and world are given together, or neither"),
        ({"rank": 2, "world": 2}, "rank is in [0, world); got rank=2 and world=2"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    tokens: TokenSet, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError) as error:
        tokens.stream(**changes)
    assert str(error.value) == said


@settings(max_examples=30)
@given(world=st.integers(1, 9), window=st.integers(1, 140) | st.none())
def test_ranks_share_what_a_sampler_gives(tokens: TokenSet, world: int, window: int | None) -> None:
    parts = [tokens.sampler(rank=rank, world=world, window=window) for rank in range(world)]
    found = [list(part) for part in parts]
    assert [len(each) for each in found] == [len(part) for part in parts]
    assert sorted(place for each in found for place in each) == list(range(len(tokens)))


def test_a_sampler_shuffles_by_seed_and_epoch(tokens: TokenSet) -> None:
    sampler = tokens.sampler(seed=1)
    first = list(sampler)
    assert first == list(sampler) != sorted(first)
    assert list(tokens.sampler(seed=2)) != first
    sampler.set_epoch(1)
    assert list(sampler) != first
    tokens.epoch = 0


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on machines of one core
def test_a_sampler_goes_into_a_loader(tokens: TokenSet) -> None:
    drawn = open_tokens(_root(tokens), views="random")
    sampler = drawn.sampler()
    found = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        loader = DataLoader(
            drawn,
            9,
            sampler=sampler,
            num_workers=2,
            collate_fn=collate,
            multiprocessing_context="fork",
        )
        pairs = [zip(each["key"], each["view"], strict=True) for each in loader]
        found.append(dict(chain.from_iterable(pairs)))
    assert found[0].keys() == found[1].keys() == set(KEYS) and found[0] != found[1]


def test_a_sampler_reads_each_group_about_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [f"k{number:04d}" for number in range(2000)]
    of = plan(keys, shard_size=1000, format="parquet")
    token_sets.write(tmp_path, of, keys, grid=(32, 32))
    read: list[int] = []
    group = parquet.Reader._group

    def counted(self: parquet.Reader, number: int) -> Any:
        read.append(number)
        return group(self, number)

    monkeypatch.setattr(parquet.Reader, "_group", counted)
    tokens = open_tokens(tmp_path)
    assert len({tokens[place].key for place in tokens.sampler(window=1024)}) == 2000
    assert len(read) == 6  # 481 rows each


def test_window_of_a_sampler_fits_into_memory(tokens: TokenSet) -> None:
    assert tokens.sampler().window == WINDOW
    assert tokens.rows_in_memory > WINDOW
    with pytest.raises(ConfigError) as error:
        tokens.sampler(window=0)
    assert str(error.value) == "window is a number of rows, at least 1; got 0"


def test_ranks_follow_the_launcher(tokens: TokenSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    stream = tokens.stream()
    assert (stream.rank, stream.world) == (1, 3)


def test_an_empty_set_streams_nothing(tmp_path: Path) -> None:
    of = plan(KEYS[:2])
    token_sets.write(tmp_path, of, KEYS[:2], [(key, "center") for key in KEYS[:2]])
    tokens = open_tokens(tmp_path)
    assert list(tokens.stream(rank=1, world=2)) == []
    assert list(tokens.sampler(rank=1, world=2)) == []
