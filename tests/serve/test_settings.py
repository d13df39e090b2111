from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqtok.errors import ConfigError, LoadError
from vqtok.serve.layers import environment, file_layer, flags, resolve
from vqtok.serve.settings import ModelSettings, ServeSettings
from vqtok.serve.values import NAME, name_of_model


def complaint(*layers: Any) -> str:
    with pytest.raises(ConfigError) as error:
        resolve(layers)
    return str(error.value)


def test_later_layers_win() -> None:
    layers = [
        file_layer({"port": 9001, "slots": 1, "timeout": 5, "cache": 0}, "serve.yaml"),
        environment({"VQTOK_SERVE_PORT": "9002", "VQTOK_SERVE_SLOTS": "2", "HOME": "/root"}),
        flags({"port": 9003, "max_batch": None}),
    ]
    found = resolve(layers)
    assert (found.port, found.slots, found.timeout, found.cache) == (9003, 2, 5.0, 0)
    assert found.max_batch == ServeSettings().max_batch == 32


def test_file_may_say_all() -> None:
    found = resolve(
        [
            file_layer(
                {
                    "models": {
                        "small": "photo-tiny",
                        "large": {"tokenizer": "org/name", "size": 512, "precision": "bf16"},
                    },
                    "devices": [0, 1],
                    "cors": ["https://a.example", "https://b.example"],
                    "max_body": "1.5MiB",
                    "cache": "2 gb",
                    "log": "off",
                },
                "serve.yaml",
            )
        ]
    )
    assert found.models == {
        "small": ModelSettings(tokenizer="photo-tiny"),
        "large": ModelSettings(tokenizer="org/name", size=512, precision="bf16"),
    }
    assert list(found.models) == ["small", "large"]
    assert found.devices == "0,1"
    assert found.cors == ("https://a.example", "https://b.example")
    assert (found.max_body, found.cache, found.log) == (1_572_864, 2_000_000_000, "off")


def test_file_may_say_nothing() -> None:
    assert resolve([file_layer(None, "serve.yaml")]) == ServeSettings()


def test_words_are_the_same_everywhere() -> None:
    assert resolve([file_layer({"page": "no", "deterministic": "On"}, "a.yaml")]) == resolve(
        [environment({"VQTOK_SERVE_PAGE": "no", "VQTOK_SERVE_DETERMINISTIC": "On"})]
    )
    assert resolve([flags({"host": "localhost", "port": "9000"})]).host == "127.0.0.1"


def test_who_waits_for_a_worker_that_hangs_has_time_for_another() -> None:
    for timeout in (20.0, 30.0, 300.0):
        assert ServeSettings(timeout=timeout).hangs_after < timeout / 2
    assert ServeSettings(timeout=1.0).hangs_after == 5
    assert resolve([flags({"hang_timeout": "40"})]).hangs_after == 40


@pytest.mark.parametrize(
    "origin", ["http://localhost:3000", "https://[::1]:8000", "*", "chrome-extension://abc"]
)
def test_origins(origin: str) -> None:
    assert resolve([environment({"VQTOK_SERVE_CORS": origin})]).cors == (origin,)


def test_variables_are_text() -> None:
    found = resolve(
        [
            environment(
                {
                    "VQTOK_SERVE_MODELS": "org/name, b=photo-tiny",
                    "VQTOK_SERVE_DETERMINISTIC": "True",
                    "VQTOK_SERVE_PAGE": "off",
                    "VQTOK_SERVE_DRAIN_DELAY": " 0.5 ",
                    "VQTOK_SERVE_CORS": "https://a.example,*",
                    "VQTOK_SERVE_DEVICES": "0",
                    "VQTOK_SERVE_MAX_BODY": "1MB",
                    "VQTOK_SERVE_API_KEY": "secret",
                }
            )
        ]
    )
    assert found.models == {
        "name": ModelSettings(tokenizer="org/name"),
        "b": ModelSettings(tokenizer="photo-tiny"),
    }
    assert (found.deterministic, found.page, found.drain_delay) == (True, False, 0.5)
    assert (found.cors, found.devices) == (("https://a.example", "*"), "0")
    assert (found.max_body, found.api_key) == (1_000_000, "secret")
    assert "secret" not in repr(found)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (
            flags({"port": 80}),
            "--port: port is a whole number from 1024 to 65535 (ports below are for a proxy in "
            "front); got 80",
        ),
        (
            flags({"host": "example.org"}),
            "--host: host is 127.0.0.1 (this machine alone), 0.0.0.0 (every IPv4 address) or :: "
            "(every address); got 'example.org'",
        ),
        (
            environment({"VQTOK_SERVE_API_PROCESSES": "two"}),
            "VQTOK_SERVE_API_PROCESSES: api_processes is a whole number from 1 to 64; got 'two'",
        ),
        (
            environment({"VQTOK_SERVE_PAGE": "maybe"}),
            "VQTOK_SERVE_PAGE: page is true or false; got 'maybe'",
        ),
        (
            file_layer({"max_body": "3 apples"}, "a.yaml"),
            "a.yaml: max_body is a number of bytes, such as 64MB or 1.5GiB; got '3 apples'",
        ),
        (
            file_layer({"page": "maybe"}, "a.yaml"),
            "a.yaml: page is true or false; got 'maybe'",
        ),
        (
            file_layer({"models": {"a": 3}}, "a.yaml"),
            "a.yaml: models.a is the name of a tokenizer, or a map of its settings; got 3",
        ),
        (
            file_layer({"models": {"a": {"size": 256}}}, "a.yaml"),
            "a.yaml: models.a.tokenizer is missing; it is the name of a tokenizer",
        ),
        (
            file_layer({"models": {"a": {"tokenizer": "x", "size": 2.5}}}, "a.yaml"),
            "a.yaml: models.a.size is a number, or HEIGHTxWIDTH such as 256x384; got 2.5",
        ),
        (
            file_layer({"models": {"a": {"tokenizer": "x", "settings": {"b": 1}, "sise": 1}}}, "a"),
            "a: there is no setting 'models.a.sise'. Did you mean 'models.a.size'? Known: "
            "models.a.backend, models.a.config, models.a.family, models.a.filename, "
            "models.a.policy, models.a.precision, models.a.revision, models.a.settings, "
            "models.a.size, models.a.subfolder, models.a.tokenizer, models.a.variant.",
        ),
        (
            file_layer({"models": {"a": {"tokenizer": "x", "size": "7x"}}}, "a.yaml"),
            "a.yaml: models.a.size is a number, or HEIGHTxWIDTH such as 256x384; got '7x'",
        ),
        (
            file_layer({"models": {"a": {"tokenizer": "x", "policy": "centre"}}}, "a.yaml"),
            "a.yaml: models.a.policy is one of adm, center, extend, native, pad, stretch, taming, "
            "torchvision; got 'centre'",
        ),
        (
            flags({"models": {"a b": "x"}}),
            "the command line: models has the name 'a b'; a name is letters, digits, '.', '_' and "
            "'-', for it stands in paths",
        ),
        (
            flags({"devices": "0,0"}),
            "--devices: devices names a GPU twice: 0,0; workers_per_device gives one several",
        ),
        (
            flags({"devices": "all", "device": "cpu"}),
            "--devices: devices are GPUs, and device is 'cpu'; leave one of the two out",
        ),
        (
            flags({"port": "abc"}),
            "--port: port is a whole number from 1024 to 65535 (ports below are for a proxy in "
            "front); got 'abc'",
        ),
        (
            environment({"VQTOK_SERVE_CORS": '["*"]'}),
            "VQTOK_SERVE_CORS: cors has '[\"*\"]'; an origin is *, or scheme://host or "
            "scheme://host:port, such as https://example.org",
        ),
        (
            flags({"cors": ["https://a.example", "https://example.org/"]}),
            "--cors: cors has 'https://example.org/'; an origin is *, or scheme://host or "
            "scheme://host:port, such as https://example.org",
        ),
        (
            environment({"VQTOK_SERVE_MODELS": "a=photo-tiny,a=other"}),
            "VQTOK_SERVE_MODELS: models has two called 'a': photo-tiny and other; write "
            "NAME=TOKENIZER with another name",
        ),
        (
            environment({"VQTOK_SERVE_API_KEY": ""}),
            "VQTOK_SERVE_API_KEY: api_key is empty; it is the key that requests must carry, and "
            "unset where they need none",
        ),
        (
            environment({"VQTOK_SERVE_API_KEY": "two words"}),
            "VQTOK_SERVE_API_KEY: api_key holds what no header can carry; a key is letters, digits "
            "and signs of ASCII, without spaces",
        ),
        (
            environment({"VQTOK_SERVE_API_KEY": "schl\u00fcssel"}),
            "VQTOK_SERVE_API_KEY: api_key holds what no header can carry; a key is letters, digits "
            "and signs of ASCII, without spaces",
        ),
        (
            flags({"timeout": 0.0, "slots": 0}),
            "--timeout: timeout is a number of seconds above 0; got 0.0.\n"
            "--slots: slots is a whole number from 1 to 4096; got 0.",
        ),
    ],
)
def test_complaints_name_who_said_it(layer: Any, expected: str) -> None:
    # In the order of the fields, not of the layers.
    assert sorted(complaint(layer).splitlines()) == sorted(expected.splitlines())


def test_unknown_key_names_the_near_one() -> None:
    text = complaint(file_layer({"prot": 8000}, "serve.yaml"))
    known = ", ".join(sorted(set(ServeSettings.model_fields) - {"api_key"}))
    assert text == (f"serve.yaml: there is no setting 'prot'. Did you mean 'port'? Known: {known}.")


def test_unknown_variable_names_the_near_one() -> None:
    with pytest.raises(ConfigError) as error:
        environment({"VQTOK_SERVE_PROT": "8000"})
    known = ", ".join(sorted(f"VQTOK_SERVE_{name.upper()}" for name in ServeSettings.model_fields))
    assert str(error.value) == (
        f"there is no variable VQTOK_SERVE_PROT. Did you mean 'VQTOK_SERVE_PORT'? Known: {known}."
    )


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("VQTOK_SERVE_PORT", "tcp://10.0.0.1:80"),
        ("VQTOK_SERVE_SERVICE_HOST", "10.0.0.1"),
        ("VQTOK_SERVE_PORT_80_TCP_ADDR", "10.0.0.1"),
    ],
)
def test_variables_of_a_service_are_told_apart(variable: str, value: str) -> None:
    with pytest.raises(ConfigError) as error:
        environment({variable: value})
    assert str(error.value) == (
        f"{variable} is what Kubernetes sets for a Service of that name; the pod needs "
        "enableServiceLinks: false, or the Service another name"
    )


def test_file_is_a_map_without_the_key() -> None:
    with pytest.raises(ConfigError) as error:
        file_layer(["port"], "a.yaml")
    assert str(error.value) == "a.yaml: a file is a map of settings; got ['port']"
    with pytest.raises(ConfigError) as error:
        file_layer({"api_key": "secret"}, "a.yaml")
    assert str(error.value) == (
        "a.yaml: a key doesn't belong into settings; put it into a file of its own, which "
        "api_key_file names, or into VQTOK_SERVE_API_KEY"
    )


def test_key_is_read_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("from-the-file\n")
    asked = flags({"api_key_file": str(file)})
    assert resolve([asked]).api_key == "from-the-file"
    assert resolve([environment({"VQTOK_SERVE_API_KEY": "said"}), asked]).api_key == "said"
    file.write_text("two words")
    assert complaint(asked) == (
        f"--api-key-file: {file}: api_key holds what no header can carry; a key is letters, digits "
        "and signs of ASCII, without spaces"
    )
    file.write_text("\n")
    assert complaint(asked) == (
        f"--api-key-file: {file} is empty; it holds the key that requests must carry"
    )
    file.unlink()
    with pytest.raises(LoadError) as error:
        resolve([asked])
    assert str(error.value) == (f"--api-key-file: {file} cannot be read: No such file or directory")


@pytest.mark.parametrize(
    ("tokenizer", "name"),
    [
        ("photo-tiny", "photo-tiny"),
        ("org/name", "name"),
        ("runs/mine/tokenizer", "mine"),
        ("tokenizer", "tokenizer"),
        ("./taming/vqgan f16.ckpt", "vqgan-f16.ckpt"),
        ("C:\\weights\\mine", "mine"),
        ("..", "tokenizer"),
    ],
)
def test_models_are_named_after_their_tokenizers(tokenizer: str, name: str) -> None:
    assert name_of_model(tokenizer) == name


@given(st.text(max_size=20))
def test_names_stand_in_paths(tokenizer: str) -> None:
    assert NAME.fullmatch(name_of_model(tokenizer))
