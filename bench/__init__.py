"""tiltbench: alignment methods for flow and diffusion models at equal measured compute.

    from bench import compare, from_velocity

Both are imported when they are first asked for, so that `import bench` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.notebook.comparing import compare as compare
    from bench.tasks.velocity import from_velocity as from_velocity

__all__ = ["compare", "from_velocity"]


def __getattr__(name: str) -> Any:
    """What a notebook imports from here."""
    if name == "compare":
        from bench.notebook.comparing import compare

        return compare
    if name == "from_velocity":
        from bench.tasks.velocity import from_velocity

        return from_velocity
    raise AttributeError(f"module 'bench' has no attribute '{name}'")
