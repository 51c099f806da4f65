"""Freed memory stays with a worker while a cell runs, and is in nobody else's peak."""

import ctypes
import subprocess
import sys

import pytest

MEASURE = """
import resource, sys
import torch
from bench.runner import memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

if sys.argv[1] == "keep":
    memory.keep_freed()
def step():
    tensors = [torch.ones(1_000_000) for _ in range(40)]
    del tensors

for _ in range(3):
    step()
before = faults()
step()
spent = faults() - before
memory.reset()
print(spent, memory.peak())
"""


def measured(mode: str) -> tuple[int, int]:
    """Page faults of 40 tensors of 4 MB, freed once before, and the peak in bytes after a reset."""
    ran = subprocess.run([sys.executable, "-c", MEASURE, mode], capture_output=True, text=True)
    faults, peak = map(int, ran.stdout.split())
    return faults, peak


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="glibc's allocator only")
def test_a_worker_keeps_freed_memory_and_returns_it_between_cells():
    kept, peak_kept = measured("keep")
    given_back, peak = measured("as it is")
    assert kept < 1000 < 20_000 < given_back
    assert peak_kept < peak + 16_000_000
