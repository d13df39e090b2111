"""The options that choose a tokenizer, which are those of every verb that takes one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pytest
import typer
from checkpoints import toy_family
from commandline import picture, vqtok

from vqtok import cli
from vqtok.cli.choosing import MANNER, PLACE, chooses

if TYPE_CHECKING:
    from vqtok.commands.setup import Setup

COMMAND: Any = typer.main.get_command(cli.app)
VERBS = ("convert", "decode", "encode", "eval", "info", "reconstruct")
COMMON = ("--revision", "--subfolder", "--variant", "--filename", "--family", "--config", "--set")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in, with a picture, and checkpoints that do not tell their size."""
    monkeypatch.setenv("VQTOK_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    toy_family.register(monkeypatch)
    (tmp_path / "theirs").mkdir()
    for seed, name in enumerate(("a.ckpt", "b.ckpt")):
        toy_family.file(tmp_path / "theirs" / name, seed, size=None)
    (tmp_path / "own.json").write_text('{"size": 24}')
    picture(tmp_path / "a.png")
    return tmp_path


def options(verb: str) -> list[str]:
    """All that a verb has, in the order of its help."""
    return [param.opts[0] for param in COMMAND.commands[verb].params]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_all(verb: str) -> None:
    assert {*COMMON} <= {*options(verb)}
    shown = vqtok(verb, "--help").out
    for param in COMMAND.commands[verb].params:
        assert param.help, param.name
        assert param.opts[-1] in shown or param.metavar in shown


def test_no_verb_has_another_name_for_one() -> None:
    fields = {*PLACE, *MANNER, "name"}
    for verb in VERBS:
        own = {param.name for param in COMMAND.commands[verb].params}
        assert {"name", *PLACE} <= own
        assert {"setup", "tokenizer"} & own == set()
        assert own & {"size", "policy"} in (set(), {"size", "policy"})
    assert fields == {*vars(_setup("x"))}


def _setup(name: str) -> Setup:
    from vqtok.commands.setup import Setup

    return Setup(name)


def test_a_verb_of_ones_own() -> None:
    """As the docstring says."""
    app, seen = typer.Typer(add_completion=False), []

    @app.command()
    @chooses("device", "batch_size")
    def tokenize(
        source: Annotated[str, typer.Argument()],
        output: Annotated[str, typer.Option("--output", "-o")] = "-",
        *,
        setup: Setup,
    ) -> None:
        """Tokenizes."""
        seen.append((source, output, setup))

    command: Any = typer.main.get_command(app)
    names = [param.name for param in command.params if param.name in ("name", "source", "output")]
    assert names == ["name", "source", "output"]
    opts = [param.opts[0] for param in command.params]
    assert opts[3:] == [*COMMON, "--device", "--batch-size"]
    command(["x", "-t", "a.pt", "--set", "b=1", "--batch-size", "3"], standalone_mode=False)
    from vqtok.commands.setup import Setup

    assert seen == [("x", "-", Setup("a.pt", sets=["b=1"], batch_size=3))]
    assert tokenize.__doc__ == "Tokenizes."


def test_options_bring_no_torch() -> None:
    code = (
        "import sys; import vqtok.cli; import vqtok.commands.setup as s; s.Setup('x'); "
        "sys.exit(bool({'torch', 'numpy', 'pydantic'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


TOLD = (
    ("theirs/a.ckpt", "--set", "size=16"),
    ("theirs/a.ckpt", "--config", "own.json", "--set", "size=16", "--family", "toy"),
    ("theirs", "--filename", "a.ckpt", "--set", "size=16", "--family", "auto"),
    (".", "--subfolder", "theirs", "--filename", "a.ckpt", "--set", "size=16"),
)


@pytest.mark.parametrize("given", TOLD)
def test_every_verb_takes_what_a_file_does_not_tell(here: Path, given: tuple[str, ...]) -> None:
    named, rest = ("-t", *given), given[1:]
    done = vqtok("encode", "a.png", *named, "-o", "codes.jsonl")
    assert (done.status, done.err) == (0, "")
    row = json.loads((here / "codes.jsonl").read_text())
    assert (row["size"], row["grid"]) == ([16, 16], [4, 4])
    assert vqtok("decode", "codes.jsonl", *named, "-o", "back") == (0, b"", "")
    assert vqtok("reconstruct", "a.png", *named).out.startswith("a.png  PSNR")
    found = json.loads(vqtok("info", given[0], *rest, "--json").out)
    assert (found["family"], found["pixels"], found["grid"]) == ("toy", [16, 16], [4, 4])
    measured = vqtok("eval", given[0], *rest, "--data", "a.png", "--metrics", "psnr", "--json")
    assert measured.status == 0, measured.err
    assert json.loads(measured.out)["provenance"]["preprocessing"]["size"] == 16
    assert vqtok("convert", given[0], "made", *rest).status == 0


ASKED = (
    "vqtok: theirs/a.ckpt does not tell size, the side of its pictures: pass the YAML or JSON that "
    "it was trained with as config, or size itself. On the command line: --set size=VALUE; in "
    "Python: config={'size': VALUE}. To train from it, convert it first: vqtok convert FILE DIR "
    "--set size=VALUE\n"
)
UNREAD = (
    "vqtok: nothing of the family toy reads the setting 'sise' for theirs/a.ckpt. Did you mean "
    "'size'? Known: size.\n"
)


@pytest.mark.parametrize(
    "arguments",
    [
        ["encode", "a.png", "-t"],
        ["reconstruct", "a.png", "-t"],
        ["info"],
        ["eval", "--data", "a.png"],
        ["convert", "--overwrite"],
    ],
)
def test_every_verb_asks_and_refuses(here: Path, arguments: list[str]) -> None:
    whole = [*arguments, "theirs/a.ckpt", *["made"] * (arguments[0] == "convert")]
    assert vqtok(*whole) == (2, b"", ASKED)
    assert vqtok(*whole, "--set", "sise=3", "--set", "size=16") == (2, b"", UNREAD)
    assert vqtok(*whole, "--config", "gone.yaml") == (
        2,
        b"",
        "vqtok: there is no file gone.yaml with settings, which config names\n",
    )


def test_training_says_what_to_do(here: Path) -> None:
    wanted = "train", "--from", "theirs/a.ckpt", "--set", "data.path=a.png", "-o", "run"
    assert vqtok(*wanted) == (2, b"", ASKED)
    done = vqtok(*wanted, "--dry-run")
    assert done.status == 1
    assert f"# missing: {ASKED.removeprefix('vqtok: ')}" in done.out


def test_a_conversion_is_said_once_at_a_terminal(here: Path) -> None:
    from vqtok.obtain import obtain

    wanted = "info", "theirs/a.ckpt", "--set", "size=16"
    said = vqtok(*wanted, terminals=("stderr",)).err
    folder = obtain("theirs/a.ckpt", settings={"size": 16}).path
    assert said == f"\r\x1b[Kvqtok: converting theirs/a.ckpt into {folder}\n"
    assert vqtok(*wanted, terminals=("stderr",)).err == ""
