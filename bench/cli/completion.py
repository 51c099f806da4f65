"""What the shell completes: names of what is installed (`bench --install-completion`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

Completion = Callable[[str], list[str]]
"""From what has been typed to what it may become."""

SUITES = Path(__file__).parent.parent / "plan" / "suites"


def installed(group: str) -> Completion:
    """Names of a group of plugins, found without importing any."""

    def complete(typed: str) -> list[str]:
        from bench.core import plugins

        return sorted(n for n in plugins.points(group) if n.startswith(typed))  # type: ignore[arg-type]

    return complete


def suites(typed: str) -> list[str]:
    """Names of the suites that come with the package."""
    return sorted(path.stem for path in SUITES.glob("*.yaml") if path.stem.startswith(typed))


KINDS = ("tasks", "rewards", "methods", "metrics", "suites", "runs", "presets")
"""What `bench list` lists."""


def kinds(typed: str) -> list[str]:
    """Of what `bench list` lists."""
    return [kind for kind in KINDS if kind.startswith(typed)]


def runs(typed: str) -> list[str]:
    """Folders of runs below ./runs."""
    found = sorted(str(path.parent) for path in Path("runs").glob("*/suite.yaml"))
    return [run for run in found if run.startswith(typed)]
