"""Clocks wait for launched work, and peaks of memory are those of one cell."""

import torch

from bench.core import accelerator
from bench.core.metering import Meter
from bench.runner import memory


class Device:
    """Stands for CUDA: counts who waits, and reports a peak."""

    def __init__(self, monkeypatch, used=True):
        self.waits, self.resets = [], 0
        for name, fake in {
            "is_initialized": lambda: used,
            "device_count": lambda: 2,
            "synchronize": self.waits.append,
            "reset_peak_memory_stats": self.reset,
            "max_memory_allocated": lambda k: 10 * (k + 1),
        }.items():
            monkeypatch.setattr(torch.cuda, name, fake)

    def reset(self, device):
        self.resets += 1


def test_the_ledger_waits_for_every_device_at_both_ends(monkeypatch):
    device = Device(monkeypatch)
    meter = Meter()
    assert device.waits == [0, 1]
    meter.work()
    assert device.waits == [0, 1, 0, 1]


def test_calls_do_not_wait_except_to_count_a_price(monkeypatch):
    device = Device(monkeypatch)
    meter = Meter(count_flops=True)
    flow = meter.wrap("flow", lambda x: x @ torch.ones(3, 3), key=("waits for prices",))
    device.waits.clear()
    flow(torch.ones(4, 3))
    counting = len(device.waits)
    flow(torch.ones(4, 3))
    assert counting == 4 and len(device.waits) == counting


def test_an_accelerator_that_nobody_used_is_left_alone(monkeypatch):
    device = Device(monkeypatch, used=False)
    Meter().work()
    accelerator.reset_peak()
    assert not device.waits and not device.resets and accelerator.peak_bytes() == 0


def test_device_memory_is_summed_and_reset(monkeypatch):
    device = Device(monkeypatch)
    accelerator.reset_peak()
    assert device.resets == 2 and accelerator.peak_bytes() == 30


def test_the_peak_is_that_of_the_cell_and_not_of_the_worker():
    def peak_with(megabytes):
        memory.reset()
        block = torch.ones(megabytes, 2**18)
        del block
        return memory.peak()

    large, small = peak_with(400), peak_with(1)
    assert large - small > 300 * 2**20
