"""What runs beside the processor: waiting for it before a clock is read, and its memory.

Kernels are launched and forgotten; a clock that is read without waiting times the launches.
Nothing here starts an accelerator that nobody used.
"""

from __future__ import annotations

import platform

import torch


def device_name(device: str) -> str:
    """What a device is called: the card's name, or the processor's."""
    if device.startswith("cuda") and torch.cuda.is_available():
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()


def settle() -> None:
    """Wait for every launched kernel on every device that this process uses."""
    for device in _used():
        torch.cuda.synchronize(device)


def reset_peak() -> None:
    """Forget earlier peaks of device memory."""
    for device in _used():
        torch.cuda.reset_peak_memory_stats(device)


def peak_bytes() -> int:
    """Largest device memory allocated since `reset_peak`, summed over devices; 0 without one."""
    return sum(torch.cuda.max_memory_allocated(device) for device in _used())


def _used() -> range:
    used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return range(torch.cuda.device_count() if used else 0)
