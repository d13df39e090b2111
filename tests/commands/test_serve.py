from __future__ import annotations

import json
import re
import textwrap
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import pytest
from serve_processes import free_port, running

from vqtok.cli import main
from vqtok.cli.serving import CHOSEN, SETTINGS
from vqtok.commands.serve import Request, settings_of
from vqtok.errors import ConfigError, LoadError
from vqtok.pictures import probe_pictures
from vqtok.serve.layers import flags, resolve
from vqtok.serve.settings import ModelSettings, ServeSettings
from vqtok.training.yamls import read_yaml

DEFAULT = "photo-tiny"


def settings(request: Request, **environ: str) -> ServeSettings:
    return settings_of(request, environ, DEFAULT)


def mistake(request: Request, kind: type[Exception] = ConfigError) -> str:
    with pytest.raises(kind) as error:
        settings(request)
    return str(error.value)


def said(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[Any, str, str]:
    """Status, standard output and standard error of a command."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    out, err = capsys.readouterr()
    return end.value.code, out, err


# --- which settings come of it ----------------------------------------------------------------


def test_default_is_the_tokenizer_in_the_package() -> None:
    assert settings(Request()).models == {"photo-tiny": ModelSettings(tokenizer="photo-tiny")}


def test_option_over_variable_over_file(tmp_path: Path) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text("port: 9001\nslots: 1\ntimeout: 5\nmodels: {small: photo-tiny}\n")
    request = Request(config=str(file), others={"port": 9003, "slots": None})
    found = settings(request, VQTOK_SERVE_PORT="9002", VQTOK_SERVE_SLOTS="2")
    assert (found.port, found.slots, found.timeout) == (9003, 2, 5.0)
    assert list(found.models) == ["small"]
    named = settings(Request(tokenizer="org/name", config=str(file)))
    assert named.models == {"name": ModelSettings(tokenizer="org/name")}


def test_models_of_the_command_line() -> None:
    found = settings(
        Request(
            tokenizer="org/vqgan",
            name="large",
            models=["small=photo-tiny", "odd=a=b"],
            chosen={"precision": "bf16", "size": None, "settings": ["dim=8", "a.b=1"]},
        )
    )
    assert found.models == {
        "large": ModelSettings(
            tokenizer="org/vqgan", precision="bf16", settings={"dim": 8, "a": {"b": 1}}
        ),
        "small": ModelSettings(tokenizer="photo-tiny"),
        "odd": ModelSettings(tokenizer="a=b"),
    }


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (
            Request(models=["photo-tiny"]),
            "--model takes NAME=TOKENIZER, such as 'small=photo-tiny'; got 'photo-tiny'",
        ),
        (
            Request(tokenizer="a/x", models=["x=b"]),
            "--model x=b: there is another model called 'x'",
        ),
        (
            Request(chosen={"size": None, "precision": "bf16"}),
            "--precision is about the tokenizer that is the command's argument, and there is none; "
            "other models have their settings in the file that --config names",
        ),
        (
            Request(models=["a=b"], chosen={"config": "x.yaml"}),
            "--tokenizer-config is about the tokenizer that is the command's argument, and there "
            "is none; other models have their settings in the file that --config names",
        ),
        (
            Request(name="a"),
            "--name is about the tokenizer that is the command's argument, and there is none; "
            "other models have their settings in the file that --config names",
        ),
        (
            Request(tokenizer="x", chosen={"precision": "bf17"}),
            "the command line: models.x.precision is ieee32, tf32, bf16 or fp16; got 'bf17'",
        ),
    ],
)
def test_mistakes(request_: Request, expected: str) -> None:
    assert mistake(request_) == expected


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "serve.yaml"
    assert mistake(Request(config=str(file)), LoadError) == (
        f"{file}, which --config names, cannot be read: No such file or directory"
    )
    file.write_text("port: 8000\nport: 9000\n")
    assert mistake(Request(config=str(file))) == f"{file}, line 2: 'port' stands twice"


# --- the verb ---------------------------------------------------------------------------------


def option_of(hint: Any) -> Any:
    return get_args(hint)[1]


def test_every_setting_is_an_option() -> None:
    assert set(SETTINGS) == set(ServeSettings.model_fields) - {"models", "api_key"}
    names = {"sets": "settings", "tokenizer_config": "config"}
    assert {names.get(name, name) for name in CHOSEN} == (
        set(ModelSettings.model_fields) - {"tokenizer"}
    )


def test_help_tells_the_defaults() -> None:
    for name, hint in SETTINGS.items():
        shown = re.search(r" \[(.*)\]$", option_of(hint).help)
        value = getattr(ServeSettings(), name)
        if shown is None:
            assert value in (None, ()), name
        elif isinstance(value, bool):
            assert shown[1] == ("yes" if value else "no"), name
        else:
            assert getattr(resolve([flags({name: shown[1]})]), name) == value


def test_help_shows_a_file_that_can_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = said(["serve", "--help"], capsys)
    assert status == 0
    example = textwrap.dedent(out[out.index("A file for --config:") :].partition("\n")[2])
    found = read_yaml(example, "help")
    assert ServeSettings.model_validate(found).models["large"] == ModelSettings(
        tokenizer="org/name", precision="bf16", size=512
    )


def test_options_reach_the_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[ServeSettings] = []

    def run(found: ServeSettings) -> int:
        seen.append(found)
        return 1

    monkeypatch.setattr(import_module("vqtok.serve.main"), "run", run)
    key = tmp_path / "key"
    key.write_text("secret")
    options = (
        "org/x --name a --model b=photo-tiny --port 9000 --no-page --deterministic --cors https://u"
    )
    options += (
        " --cors https://v --max-body 1MB --devices 0,1 --size 256x384 --set a=1 --family vqgan"
    )
    with pytest.raises(SystemExit) as end:
        main(
            ["serve", *options.split(), "--api-key-file", str(key), "--tokenizer-config", "c.yaml"]
        )
    assert end.value.code == 1
    assert seen == [
        ServeSettings(
            models={
                "a": ModelSettings(
                    tokenizer="org/x",
                    size="256x384",
                    settings={"a": 1},
                    family="vqgan",
                    config="c.yaml",
                ),
                "b": ModelSettings(tokenizer="photo-tiny"),
            },
            port=9000,
            page=False,
            deterministic=True,
            cors=("https://u", "https://v"),
            max_body=1_000_000,
            devices="0,1",
            api_key="secret",
            api_key_file=str(key),
        )
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["--port", "80"],
            "vqtok: --port: port is a whole number from 1024 to 65535 (ports below are for a proxy "
            "in front); got 80\n",
        ),
        (
            ["photo-tini"],
            "vqtok: loading photo-tini\n"
            "vqtok: there is no tokenizer called 'photo-tini', neither in the package nor as a "
            "folder. Did you mean 'photo-tiny'? In the package: photo-tiny; `vqtok info --list` "
            "names other projects' checkpoints. On the hub, write org/name.\n",
        ),
        (
            ["--max-batch", "x"],
            "vqtok: --max-batch: max_batch is a whole number from 1 to 4096; got 'x'\n",
        ),
        (["--device", "cuda:99"], "vqtok: there is no device 'cuda:99' here: torch sees 0 GPUs\n"),
        (["--devices", "all"], "vqtok: devices is 'all', and torch sees no GPU here\n"),
    ],
)
def test_mistake_is_a_line(
    arguments: list[str],
    expected: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    port = [] if "--port" in arguments else ["--port", str(free_port())]
    assert said(["serve", *arguments, *port], capsys) == (2, "", expected)


# --- once for real ----------------------------------------------------------------------------


def test_real_tokenizer_is_served() -> None:
    from vqtok.tokenizer import VisualTokenizer

    picture = next(iter(probe_pictures().values()))
    options = ("--device", "cpu", "--size", "64", "--api-processes", "1", "--port", "PORT")
    with running("-m", "vqtok.serve", DEFAULT, *options) as there:
        status, body = there.ask("/v1/encode", picture, "image/png")
        code, lines = there.end()
        log = [json.loads(line) for line in there.lines("out")]
    assert (status, code) == (200, 0)
    tok = VisualTokenizer.from_pretrained(DEFAULT).with_preprocess(size=64)
    [expected] = tok.encode_codes([picture])
    assert json.loads(body)["pictures"][0]["codes"] == expected.tolist()
    assert ("/v1/encode", 200) in [(line["path"], line["status"]) for line in log]
    assert lines == [
        "vqtok: loading photo-tiny",
        "vqtok: warming up photo-tiny on cpu",
        f"vqtok: serving photo-tiny at http://127.0.0.1:{there.port}/ (cpu; 1 API process; the "
        "page is there, too)",
        "vqtok: leaving in 2 s; until then work is taken",
        "vqtok: stopped",
    ]
