"""Trackers that a run can be exported to, as folders that need neither account nor network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench.record.store import Store
from bench.tracking.wandb_folder import write as write_wandb

EXPORTS: dict[str, Callable[[Store, Path, str], str]] = {"wandb": write_wandb}
"""By name: writes a run for a project into a folder, and says what to do with it."""
