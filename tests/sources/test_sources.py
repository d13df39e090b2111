"""What holds for every kind of source, for guessing the kind, and for holding samples out."""

from __future__ import annotations

import hashlib
import multiprocessing
import operator
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from source_files import COUNT, MAKERS, arrays, folder, picture, pixels_of, png, tars, write

from vqtok.errors import ConfigError, LoadError, UnknownNameError
from vqtok.sources import SOURCES, Source, held_out, open_source
from vqtok.sources.files import PerThread


@pytest.fixture(params=sorted(MAKERS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def source(kind: str, tmp_path: Path) -> Source:
    return open_source(MAKERS[kind](tmp_path / "set"))


def seen(source: Source) -> list[bytes]:
    return [pixels_of(source[index]).tobytes() for index in range(len(source))]


def test_every_kind_is_tested() -> None:
    assert set(MAKERS) == set(SOURCES)


def test_the_kind_is_guessed(source: Source, kind: str) -> None:
    assert type(source) is SOURCES[kind]
    assert source.is_video == (kind == "clips")


def test_samples_are_what_was_written(source: Source) -> None:
    assert len(source) == COUNT
    assert sorted(seen(source)) == sorted(
        picture(number * 10 if source.is_video else number).tobytes() for number in range(COUNT)
    )


def test_keys_are_those_of_the_samples(source: Source, kind: str, tmp_path: Path) -> None:
    assert [source[index].key for index in range(COUNT)] == list(source.keys)
    assert len(set(source.keys)) == COUNT
    assert open_source(MAKERS[kind](tmp_path / "again")).keys == source.keys


def test_a_source_ends(source: Source) -> None:
    with pytest.raises(IndexError):
        source[COUNT]
    assert source[-1].key == source.keys[-1]
    assert pixels_of(source[-1]).tobytes() == seen(source)[-1]


def test_a_source_can_be_pickled_while_it_is_open(source: Source) -> None:
    before = seen(source)
    copy = pickle.loads(pickle.dumps(source))
    assert seen(copy) == before
    assert copy.keys == source.keys


def test_samples_can_be_pickled(source: Source) -> None:
    sample = pickle.loads(pickle.dumps(source[2]))
    assert np.array_equal(pixels_of(sample), pixels_of(source[2]))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_read_the_same(source: Source, method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system cannot {method}")
    before = seen(source)
    with multiprocessing.get_context(method).Pool(1) as pool:
        rows = [pool.apply_async(operator.getitem, (source, n)) for n in range(COUNT)] * 5
        here = [seen(source) for _ in range(5)]
        there = [pixels_of(row.get(60)).tobytes() for row in rows]
    assert here == [before] * 5
    assert there == before * 5


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_process_opens_for_itself() -> None:
    held = PerThread(4)
    assert held.get("a", lambda: 1) == held.get("a", lambda: 2) == 1
    child = os.fork()
    if not child:
        os._exit(held.get("a", lambda: 3))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3


def test_threads_do_not_disturb_each_other(source: Source) -> None:
    before = seen(source)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(source.__getitem__, list(range(COUNT)) * 20))
    assert [pixels_of(sample).tobytes() for sample in found] == before * 20


def test_several_paths_and_patterns(tmp_path: Path) -> None:
    tars(tmp_path)
    both = open_source([tmp_path / "0.tar", tmp_path / "1.tar"])
    assert both.keys == open_source(f"{tmp_path}/*.tar").keys == open_source(tmp_path).keys


def test_a_single_file_is_a_source(tmp_path: Path) -> None:
    source = open_source(write(tmp_path / "a.png", png(picture(0))))
    assert source.keys == ["a.png"]
    assert source[0].columns == {}


def test_hidden_files_are_left_out_and_links_followed_once(tmp_path: Path) -> None:
    folder(tmp_path / "real")
    write(tmp_path / "real" / "._0.png", b"")
    write(tmp_path / "real" / ".cache" / "0.png", b"")
    (tmp_path / "real" / "loop").symlink_to(tmp_path / "real", target_is_directory=True)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    source = open_source(tmp_path / "set")
    assert source.keys[0] == "link/class0/0.png"
    assert len(source) == COUNT


def message(error: pytest.ExceptionInfo[BaseException], root: Path) -> str:
    return str(error.value).replace(str(root), "ROOT")


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LoadError) as error:
        open_source([tmp_path, tmp_path / "nothing-*.tar"])
    assert message(error, tmp_path) == "there is no file or folder 'ROOT/nothing-*.tar'"


def test_what_is_named_twice(tmp_path: Path) -> None:
    tars(tmp_path)
    with pytest.raises(LoadError) as error:
        open_source([tmp_path / "0.tar", f"{tmp_path}/*.tar"])
    assert message(error, tmp_path) == "'ROOT/0.tar' is named twice"


def test_a_folder_of_nothing_known(tmp_path: Path) -> None:
    write(tmp_path / "notes.txt", "")
    with pytest.raises(LoadError) as error:
        open_source(tmp_path)
    assert message(error, tmp_path) == (
        "'ROOT' holds no file of a kind that is known; there are arrays (.npy); clips (.avi .gif "
        ".m4v .mkv .mov .mp4 .mpeg .mpg .webm); folder (.avif .bmp .jpeg .jpg .pgm .png .ppm .tif "
        ".tiff .webp); lists (.jsonl .csv .tsv); parquet (.parquet .arrow); tars (.tar .tar.gz "
        ".tgz .tar.zst .tar.xz)"
    )


def test_a_folder_of_two_kinds(tmp_path: Path) -> None:
    folder(tmp_path)
    arrays(tmp_path / "more")
    with pytest.raises(LoadError) as error:
        open_source(tmp_path)
    assert message(error, tmp_path) == (
        "'ROOT' holds files of 2 kinds: arrays ('more/a.npy'), folder ('class0/0.png'); name the "
        "one to read, such as kind='arrays'"
    )
    assert len(open_source(tmp_path, kind="folder")) == COUNT


def test_a_kind_that_is_not_there(tmp_path: Path) -> None:
    roots = [folder(tmp_path / str(number)) for number in range(4)]
    with pytest.raises(LoadError) as error:
        open_source(roots, kind="tars")
    assert message(error, tmp_path) == (
        "there is no sample of kind 'tars' in 'ROOT/0', 'ROOT/1', 'ROOT/2' and 1 more"
    )


def test_a_kind_that_nobody_knows(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError) as error:
        open_source(tmp_path, kind="tar")
    assert str(error.value) == (
        "there is no kind of source called 'tar'. Did you mean 'tars'? Known: arrays, clips, "
        "folder, lists, parquet, tars."
    )


def test_importing_sources_brings_nothing_heavy() -> None:
    code = (
        "import sys; from vqtok.sources import SOURCES; list(SOURCES); "
        "print(sorted({'torch', 'pyarrow', 'av', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


keys = st.lists(st.text(), unique=True, min_size=1, max_size=40)


@given(keys, st.data())
def test_held_out_are_the_smallest_hashes(names: list[str], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(names) - 1))
    train, held = held_out(names, count)
    assert sorted([*train, *held]) == list(range(len(names)))
    assert list(train) == sorted(train)
    assert list(held) == sorted(held)

    def digest(index: int) -> bytes:
        return hashlib.sha256(names[index].encode()).digest()

    assert set(held) == set(sorted(range(len(names)), key=digest)[:count])


def test_one_more_sample_moves_at_most_one() -> None:
    names = [f"{number}.png" for number in range(200)]
    before = {names[index] for index in held_out(names, 20)[1]}
    names.append("new.png")
    assert len(before - {names[index] for index in held_out(names, 20)[1]}) <= 1


def test_somebody_must_be_left(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        held_out(["a", "b"], 2)
    assert str(error.value) == ("2 of 2 samples are to be held out, which leaves none to train on")
