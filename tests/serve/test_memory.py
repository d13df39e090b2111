"""What an API process tells the allocator."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from vqtok.serve.lit import memory

SCRIPT = """
import resource
from vqtok.serve.lit.memory import keep_memory
keep_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
bytes(1 << 20)
before = faults()
for _ in range(100):
    bytes(bytearray(1 << 20))
print(faults() - before)
"""


def test_both_thresholds_are_set(monkeypatch):
    said = []
    library = SimpleNamespace(mallopt=lambda *what: said.append(what))
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(memory.sys, "platform", "linux")
    memory.keep_memory()
    assert said == [(-3, 4 << 20), (-1, 32 << 20)]


def test_where_there_is_no_such_thing_nothing_happens(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: SimpleNamespace())
    monkeypatch.setattr(memory.sys, "platform", "linux")
    memory.keep_memory()
    monkeypatch.delattr(memory.ctypes, "CDLL")
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    memory.keep_memory()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is Linux's")
def test_memory_that_was_used_is_used_again():
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert int(ran.stdout) < 2000  # pages; without it 25,600
