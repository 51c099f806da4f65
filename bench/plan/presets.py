"""Presets: parameters with a name and a provenance, written `METHOD@PRESET` wherever methods are.

    <root>/presets/NAME.yaml
        name: NAME
        methods:
          dps:
            params: {guidance: 0.8}
            provenance: {sweep: ..., trial: 17, tuning_score: ..., tuning_seeds: [first, last], ...}

A suite is resolved before it is planned, so that a stored suite says what ran without the preset.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from bench.core import atomic
from bench.core.documents import read_yaml
from bench.core.params import UserError, format_name, nearest, parse_name

ROOT_VARIABLE = "TILTBENCH_ROOT"


def folder(root: str | None = None) -> Path:
    """Where presets lie: beside the runs; in runs/presets here, where those lie elsewhere."""
    found = root or os.environ.get(ROOT_VARIABLE, "runs")
    return Path("runs" if "://" in found else found) / "presets"


def path_of(name: str, root: str | None = None) -> Path:
    """The file of a preset; a name that ends in .yaml is a path."""
    return Path(name) if name.endswith((".yaml", ".yml")) else folder(root) / f"{name}.yaml"


def read(name: str, root: str | None = None) -> dict[str, Any]:
    """The content of a preset; UserError if there is none."""
    path = path_of(name, root)
    if not path.is_file():
        known = [p.stem for p in folder(root).glob("*.yaml")]
        raise UserError(f"no preset '{name}' ({path}): {nearest(name, known)}")
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} cannot be read as a preset: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("methods"), dict):
        raise UserError(f"{path} is not a preset: it should hold the key methods")
    return content


def write(name: str, methods: dict[str, dict[str, Any]], root: str | None = None) -> Path:
    """Add methods to a preset, in one step; entries of other methods stay."""
    path = path_of(name, root)
    kept = read(name, root)["methods"] if path.is_file() else {}
    content = {"name": path.stem, "methods": kept | methods}
    atomic.write(path, yaml.safe_dump(content, sort_keys=False).encode())
    return path


def resolved(text: str, seeds: Sequence[int], root: str | None = None) -> str:
    """`dps@tuned:steps=20` with the preset's parameters written out; others are left as they are.

    Parameters given in the name win.  Raises UserError if `seeds` were tuned on.
    """
    name, given = parse_name(text)
    method, at, preset = name.rpartition("@")
    if not at or ":" in preset:  # of a folder's name
        return text
    methods = read(preset, root)["methods"]
    if method not in methods:
        raise UserError(
            f"the preset '{preset}' has no method '{method}': {nearest(method, methods)}"
        )
    entry = methods[method]
    if not isinstance(entry, dict) or not isinstance(entry.get("params"), dict):
        raise UserError(f"the preset '{preset}' says no params of '{method}'")
    try:
        first, last = entry.get("provenance", {}).get("tuning_seeds", (0, -1))
        shared = {seed for seed in seeds if first <= seed <= last}
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"the preset '{preset}' does not say on which seeds '{method}' was tuned: write "
            "provenance: {tuning_seeds: [FIRST, LAST]}, or leave provenance out"
        ) from error
    if shared:
        raise UserError(
            f"{method}@{preset} was tuned on seed {min(shared)}, which this suite would report: "
            "report other seeds"
        )
    return format_name(method, {**entry["params"], **given})
