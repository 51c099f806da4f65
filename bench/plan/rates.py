"""Measured rates: how many FLOPs a second a device did in each role, and hours that follow.

`python -m benchmarks.gpu` measures and writes them, one file a device:

    {"device": "NVIDIA H100", "rates": {"bfloat16": {"flow": {"forward": 4e14, ...}, ...}, ...}}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.core import atomic
from bench.core.params import UserError
from bench.core.units import Kind, Role
from bench.core.work import PLACE, Work

SHIPPED = Path(__file__).parent / "measured"
"""Rates that come with this package; a file of one's own about the same device goes before them."""

Flops = Mapping[tuple[Role, Kind], float]
"""FLOPs of a row."""


@dataclass(frozen=True)
class Rates:
    """FLOPs per second by dtype, role and kind, on the device of that name, as a file says."""

    device: str
    file: str
    rates: Mapping[str, Mapping[str, Mapping[str, float]]]

    @property
    def shipped(self) -> bool:
        """Whether they came with this package."""
        return Path(self.file).parent == SHIPPED

    def seconds(self, work: Work, flops: Flops, dtype: str) -> float | None:
        """Of computing `work` at these FLOPs a row; None if a rate that it needs is missing.

        A Jacobian-vector product is two forwards.
        """
        total = 0.0
        for (role, kind), each in flops.items():
            rows = work.vector[PLACE[role, kind]]
            rate = self.rates.get(dtype, {}).get(role, {}).get(kind, 0.0)
            if rows * each and not rate:
                return None
            total += rows * each / rate if rows * each else 0.0
        return total


def read_rates(folder: Path) -> list[Rates]:
    """All that are stored in a folder, by file name; UserError for a file that holds none."""
    return [_read(path) for path in sorted(folder.glob("*.json"))]


def known_rates(own: Path) -> list[Rates]:
    """Those of one's own folder, then those that are shipped of other devices."""
    mine = read_rates(own)
    measured = {rates.device for rates in mine}
    return mine + [rates for rates in read_rates(SHIPPED) if rates.device not in measured]


def _read(path: Path) -> Rates:
    try:
        said: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        rates = {
            dtype: {role: {k: float(v) for k, v in kinds.items()} for role, kinds in roles.items()}
            for dtype, roles in said["rates"].items()
        }
        return Rates(str(said["device"]), str(path), rates)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(
            f"{path} holds no rates: remove it, or write it anew with 'python -m benchmarks.gpu'"
        ) from error


def write_rates(path: Path, device: str, rates: Mapping[str, Any], **more: str) -> None:
    """Store them where `read_rates` looks."""
    text = json.dumps({"device": device, **more, "rates": rates}, indent=1) + "\n"
    atomic.write(path, text.encode())
