"""Named random numbers: pure functions of (seed, task, condition, sample index, name, step).

Every method meets the same noise under the same name, whatever its batch size, device or reward,
so methods are compared with common random numbers, and more samples extend a run.  Numbers are
drawn on the CPU in blocks of 64 sample indices from a counter-based generator (Philox).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

BLOCK = 64
"""Sample indices per generator: small enough to waste little, large enough to be fast."""


@dataclass(frozen=True)
class NoiseSource:
    """The random numbers of one run of one condition of one task."""

    seed: int
    task: str
    condition: str = ""
    device: str = "cpu"
    dtype: torch.dtype = torch.float32

    def normal(self, name: str, step: int, shape: tuple[int, ...], rows: range) -> Tensor:
        """Standard normals (len(rows), *shape) for the sample indices `rows`."""
        first, last = rows.start // BLOCK, (rows.stop - 1) // BLOCK
        blocks = [self._block(name, step, shape, block) for block in range(first, last + 1)]
        joined = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
        start = rows.start - first * BLOCK
        chosen = torch.from_numpy(joined[start : start + len(rows)])
        # The host need not wait for an accelerator to take them.
        return chosen.to(device=self.device, dtype=self.dtype, non_blocking=True)

    def _block(
        self, name: str, step: int, shape: tuple[int, ...], block: int
    ) -> npt.NDArray[np.floating[Any]]:
        label = "\x1f".join(map(str, (self.seed, self.task, self.condition, name, step, block)))
        digest = hashlib.blake2b(label.encode(), digest_size=16).digest()
        key = np.frombuffer(digest, dtype=np.uint64)
        generator = np.random.Generator(np.random.Philox(key=key))
        size = (BLOCK, *shape)
        if self.dtype == torch.float64:
            return np.asarray(generator.standard_normal(size))
        return np.asarray(generator.standard_normal(size, dtype=np.float32))


def uniform(normal: Tensor) -> Tensor:
    """Uniforms on (0, 1) from standard normals: u = Phi(z)."""
    u: Tensor = torch.special.ndtr(normal)
    return u
