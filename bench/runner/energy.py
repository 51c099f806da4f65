"""Energy, where the device reports it: NVIDIA's counters through NVML, Intel's through RAPL.

Both count the whole device, so a figure means something only while nothing else runs on it.
"""

from __future__ import annotations

from pathlib import Path

RAPL = Path("/sys/class/powercap")


def joules() -> dict[str, float]:
    """Joules counted so far by every counter that can be read, by name; empty without one."""
    return _packages() | _gpus()


def spent_since(before: dict[str, float]) -> float | None:
    """Joules since `before`, or None where no counter can be read.

    A counter that wrapped around in between makes the figure unknown, not wrong.
    """
    now = joules()
    spent = [now[name] - value for name, value in before.items() if name in now]
    return sum(spent) if spent and min(spent) >= 0 else None


def _packages() -> dict[str, float]:
    out = {}
    for path in sorted(RAPL.glob("intel-rapl:?/energy_uj")):
        try:
            out[path.parent.name] = int(path.read_text()) / 1e6
        except OSError:  # readable by root only on many machines
            continue
    return out


def _gpus() -> dict[str, float]:
    try:
        import pynvml
    except ImportError:
        return {}
    try:
        pynvml.nvmlInit()
        handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
        energy = pynvml.nvmlDeviceGetTotalEnergyConsumption
        return {f"gpu{k}": energy(handle) / 1e3 for k, handle in enumerate(handles)}
    except pynvml.NVMLError:
        return {}
