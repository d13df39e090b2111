"""The command as a whole: help, mistakes, exit statuses, pipes. A verb each in tests/commands."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from commandline import picture, tokenizer, vqtok

import vqtok as package
from vqtok import cli
from vqtok.commands.setup import Setup

VERBS = ("encode", "decode", "reconstruct", "info")
COMMAND: Any = typer.main.get_command(cli.app)

OUT_OF_MEMORY = (
    "out of memory; a smaller --batch-size or --size needs less, in training a smaller batch_size "
    "or data.size, or a larger accumulate"
)


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def fail_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(setup: Setup) -> None:
        raise error

    monkeypatch.setattr(Setup, "load", load)


def test_help_brings_no_torch() -> None:
    done = python(
        "import sys\n"
        "from vqtok.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print({'torch', 'numpy', 'pydantic', 'diffusers', 'transformers'} & {*sys.modules})\n"
    )
    assert (done.stdout.splitlines()[-1], done.stderr) == ("set()", "")


def test_the_version() -> None:
    assert vqtok("--version") == (0, f"{package.__version__}\n".encode(), "")


def test_no_verb_is_answered_with_help() -> None:
    done = vqtok()
    assert (done.status, done.raw) == (2, b"")
    assert done.err == vqtok("--help").out


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_explains_itself(verb: str) -> None:
    done = vqtok(verb, "--help")
    text = " ".join(done.out.split())
    assert (done.status, done.err) == (0, "")
    assert f"Examples: vqtok {verb}" in text
    assert "[default: photo-tiny]" in re.sub(r"- |\\", "", text).replace("phototiny", "photo-tiny")
    assert "default: auto" in text
    assert f"  {verb} " in vqtok("--help").out


def examples() -> Iterator[str]:
    for text in (COMMAND.epilog, *(COMMAND.commands[verb].epilog for verb in VERBS)):
        for line in text.split("Examples:")[1].strip().splitlines():
            for part in line.split(">")[0].split("|"):
                if part.strip().startswith("vqtok"):
                    yield part.strip()


@pytest.mark.parametrize("example", sorted(set(examples())))
def test_examples_are_accepted(example: str) -> None:
    _, verb, *arguments = shlex.split(example)
    assert COMMAND.commands[verb].make_context(verb, arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["encode"], "Missing argument 'PICTURE|CLIP'. See: vqtok encode --help"),
        (["encode", "a", "--nonsense"], "No such option: --nonsense. See: vqtok encode --help"),
        (["reconstrcut", "a"], "No such command 'reconstrcut'. See: vqtok --help"),
        (["decode", "a"], "Missing option '--output' / '-o'. See: vqtok decode --help"),
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], message: str) -> None:
    status, out, err = vqtok(*arguments)
    assert (status, out) == (2, b"")
    # Some versions of typer add which names are near.
    assert re.sub(r" (\(Possible|Did you mean)[^)?]*[)?]", "", err) == f"vqtok: {message}\n"


def test_a_batch_size_below_one_is_wrong_usage() -> None:
    status, out, err = vqtok("encode", "a", "--batch-size", "0")
    assert (status, out) == (2, b"")
    assert re.fullmatch(
        r"vqtok: Invalid value for '--batch-size': .+\. See: vqtok encode --help\n", err
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--precision", "bf-16"], "there is no precision called 'bf-16'. Did you mean 'bf16'? "
         "Known: bf16, fp16, ieee32, tf32."),
        (["--size", "12x"], "--size is a number, or HEIGHTxWIDTH such as 256x384; got '12x'"),
        (["--size", "9" * 5000], "--size is a number, or HEIGHTxWIDTH such as 256x384; got "
         f"'{'9' * 5000}'"),
        (["--size", "18"], "size=18 is not a multiple of the stride, 4"),
        (["--size", "16x18"], "size=(16, 18) is not a multiple of the stride, 4"),
        (["--size", "0"], "size=0 is not a whole number from 1 to 65535, or (height, width) of "
         "such"),
        (["--size", "16", "--policy", "native"], "policy 'native' keeps each picture's own size; "
         "leave out size=16"),
        (["--policy", "centre"], "there is no policy called 'centre'. Did you mean 'center'? "
         "Known: adm, center, extend, native, pad, stretch, taming, torchvision."),
        (["--revision", "v1"], "revision='v1' chooses a commit on the hub, but '{tok}' is the "
         "folder {tok}"),
        (["--subfolder", "inner"], "there is no folder {tok}/inner"),
        (["--variant", "fp16"], "{tok} lacks diffusion_pytorch_model.fp16.safetensors, the weights "
         "of variant='fp16'; it has those of variant=None"),
        (["--device", "meta"], "there is no device 'meta' here: Tensor.item() cannot be called on "
         "meta tensors"),
    ],
)  # fmt: skip
def test_an_option_that_cannot_be_is_one_line(
    options: list[str], message: str, tmp_path: Path
) -> None:
    tok = tokenizer()
    done = vqtok("encode", picture(tmp_path / "a.png"), "-t", tok, *options)
    assert done == (2, b"", f"vqtok: {message.replace('{tok}', str(tok))}\n")


def test_an_unknown_device_is_one_line(tmp_path: Path) -> None:
    status, out, err = vqtok("encode", picture(tmp_path / "a.png"), "--device", "gpu", "-t",
                             tokenizer())  # fmt: skip
    assert (status, out) == (2, b"")
    assert re.fullmatch(r"vqtok: there is no device 'gpu' here: .+\n", err)


@pytest.mark.parametrize("verb", ["encode", "reconstruct"])
def test_an_unknown_tokenizer_is_one_line(verb: str, tmp_path: Path) -> None:
    status, out, err = vqtok(verb, picture(tmp_path / "a.png"), "-t", "nonesuch")
    assert (status, out) == (2, b"")
    assert err.startswith("vqtok: there is no tokenizer called 'nonesuch', neither in the package")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(13, "Permission denied", "x"), "[Errno 13] Permission denied: 'x'"),
        (OSError("a line\nand another"), "a line and another"),
        (MemoryError(), OUT_OF_MEMORY),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate ..."),
            OUT_OF_MEMORY,
        ),
    ],
)
def test_what_the_machine_refuses_is_one_line(
    error: Exception, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(error, monkeypatch)
    done = vqtok("encode", picture(tmp_path / "a.png"))
    assert done == (2, b"", f"vqtok: {message}\n")


def test_a_bug_of_ours_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(RuntimeError("impossible"), monkeypatch)
    with pytest.raises(RuntimeError, match="impossible"):
        vqtok("encode", picture(tmp_path / "a.png"))


def test_an_interruption_is_quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(KeyboardInterrupt(), monkeypatch)
    assert vqtok("encode", picture(tmp_path / "a.png")) == (130, b"", "")


@pytest.mark.parametrize("size", [10, 10**6])  # less than a buffer holds, and more
def test_a_closed_pipe_is_quiet(size: int) -> None:
    code = (
        "import sys, vqtok.commands.encode as e\n"
        f"e.run = lambda setup, sources, output: sys.stdout.buffer.write(b'x' * {size}) * 0\n"
        "from vqtok.cli import main\n"
        "sys.stdin.read()\n"
        "main(['encode', 'a'])\n"
    )
    pipe = subprocess.PIPE
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    child = subprocess.Popen(
        [sys.executable, "-c", code], env=buffered, stdin=pipe, stdout=pipe, stderr=pipe
    )
    assert child.stdin and child.stdout and child.stderr
    child.stdout.close()
    child.stdin.close()
    assert (child.stderr.read(), child.wait()) == (b"", 1)
    child.stderr.close()
