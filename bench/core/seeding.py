"""The global generators, for plugins that draw from them: seeded by name, and put back.

Our own methods draw from `Problem.noise` or from generators of their own, and never see this.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_all(label: str) -> None:
    """Seed the generators of PyTorch (all devices), NumPy and Python by a name."""
    seed = int.from_bytes(hashlib.blake2b(label.encode(), digest_size=8).digest(), "big")
    torch.manual_seed(seed % 2**63)
    np.random.seed(seed % 2**32)  # noqa: NPY002  # the legacy generator is what is global
    random.seed(seed)


@contextmanager
def seeded(label: str) -> Iterator[None]:
    """`seed_all` inside, and the generators of the CPU as they were afterwards."""
    kept = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    seed_all(label)
    try:
        yield
    finally:
        torch.set_rng_state(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002
        random.setstate(kept[2])
