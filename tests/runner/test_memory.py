"""Freed memory stays with a worker while a cell runs, and is in nobody else's peak."""

import ctypes
import subprocess
import sys

import pytest

MEASURE = """
from pathlib import Path
import torch
from bench.runner import memory

def resident():
    return 4096 * int(Path("/proc/self/statm").read_text().split()[1])

memory.keep_freed()
torch.ones(10).sum()
before = resident()
tensors = [torch.ones(size) for size in sizes]
del tensors
freed = resident()
memory.reset()
print(before, freed, resident(), memory.peak())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="glibc's allocator only")
@pytest.mark.parametrize("sizes", ["[1_000_000] * 40", "[20_000_000] * 2", "[100_000_000]"])
def test_a_worker_keeps_freed_memory_and_returns_it_between_cells(sizes):
    code = f"sizes = {sizes}\n{MEASURE}"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    before, freed, returned, peak = map(int, ran.stdout.split())
    assert freed > before + 140_000_000  # tensors of 160 MB or more, freed and kept
    assert returned < before + 20_000_000
    assert peak < before + 20_000_000
