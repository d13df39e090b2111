"""A server of stubs, as a process: `python serve_stub_main.py SETTINGS ENGINE`, both as JSON.

Of the settings, `names` are models, 64x64 each. Of the engine, `fails` keeps it from starting,
`slow` makes the main process take its time before there is anything, and API processes are `deaf`
that never come to answer.
"""

from __future__ import annotations

import json
import sys
import time

from serve_stubs import StubEngine, stub_facts

from vqtok.errors import LoadError
from vqtok.serve.lit import supervise
from vqtok.serve.lit.office import Office
from vqtok.serve.main import run
from vqtok.serve.settings import ServeSettings


class Failing:
    def __init__(self, text: str) -> None:
        self.text = text

    def __call__(self, device: str) -> StubEngine:
        raise LoadError(self.text)


class Slow(dict):
    """Models that take long to be looked up, as real ones do."""

    def __bool__(self) -> bool:
        print("looking", file=sys.stderr, flush=True)
        time.sleep(60)
        return True


def main() -> int:
    settings, engine = map(json.loads, sys.argv[1:3])
    names = settings.pop("names", ["stub"])
    fails, slow = engine.pop("fails", None), engine.pop("slow", False)
    if engine.pop("deaf", False):
        Office.open = lambda *_: time.sleep(600)  # type: ignore[method-assign,assignment]
        supervise.OPENS = 1.0
    engine = {key: tuple(v) if isinstance(v, list) else v for key, v in engine.items()}
    loads = Slow() if slow else {}
    for name in names:
        facts = stub_facts(name, size=64)
        loads[name] = facts, Failing(fails) if fails else StubEngine(facts, **engine)
    return run(ServeSettings(**{"log": "off", **settings}), loads)


if __name__ == "__main__":
    status = main()
    heavy = [name for name in ("torch", "transformers", "diffusers") if name in sys.modules]
    sys.exit(f"it brought {', '.join(heavy)}" if heavy else status)
