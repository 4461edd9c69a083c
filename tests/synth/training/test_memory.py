"""Freed memory is kept: the same large block again costs no page faults."""

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import numpy as np
from synth.training.memory import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(2_000_000)
before = faults()
for _ in range(20):
    np.ones(2_000_000)
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library here is not glibc")
def test_pages_are_not_given_back_and_cleared_again():
    found = {}
    for word in ("kept", "given back"):
        ran = subprocess.run([sys.executable, "-c", SCRIPT, word], capture_output=True, text=True, check=True)
        found[word] = int(ran.stdout)
    assert found["kept"] < found["given back"] / 10


def test_another_c_library_is_left_alone(monkeypatch):
    from synth.training import memory

    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    assert memory.keep_freed_memory.__wrapped__() is False
