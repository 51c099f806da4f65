"""Options that several verbs share."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any

import typer

from bench.cli.completion import installed, suites

Tasks = Annotated[
    list[str],
    typer.Option(
        "-t", "--task", help="Task, e.g. gmm:dimension=16.", autocompletion=installed("tasks")
    ),
]
Rewards = Annotated[
    list[str],
    typer.Option(
        "-r",
        "--reward",
        help="Reward, e.g. class-mixture:strength=5.",
        autocompletion=installed("rewards"),
    ),
]
Methods = Annotated[
    list[str],
    typer.Option(
        "-m",
        "--method",
        help="Method, e.g. mfm-g:draws=4,scale=rescale, or file.py:Class.",
        autocompletion=installed("methods"),
    ),
]
Budgets = Annotated[
    list[str], typer.Option("-b", "--budget", help="Budget, e.g. paper-nfe=500; none to pin.")
]
Seeds = Annotated[int | None, typer.Option("--seeds", help="Number of seeds.")]
Name = Annotated[str | None, typer.Option("--name", help="Name of the run (default: the suite's).")]
Settings = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override a suite key, e.g. n=512.")
]
Baselines = Annotated[
    bool,
    typer.Option(
        "--baselines/--no-baselines",
        help="Without a suite: add prior and both Best-of-N at every budget.",
    ),
]
SuiteName = Annotated[
    str | None,
    typer.Argument(
        metavar="[SUITE]", help="A shipped suite or a YAML file.", autocompletion=suites
    ),
]
Root = Annotated[
    str, typer.Option("--root", help="Folder or URL of runs.", envvar="TILTBENCH_ROOT")
]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
Executor = Annotated[
    str | None,
    typer.Option(
        "--executor",
        help="ray (default, where it is installed); inline (this process: crashes and hangs are "
        "not contained); or process (one).",
    ),
]
Address = Annotated[str | None, typer.Option("--address", help="Ray cluster to join.")]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Cells at once (default: cores).")
]
Device = Annotated[
    str | None, typer.Option("--device", help="Where networks run: cpu, cuda or cuda:<number>.")
]
Dtype = Annotated[
    str | None,
    typer.Option("--dtype", help="Precision of networks: float32, bfloat16 or float16."),
]
NoTrack = Annotated[bool, typer.Option("--no-track", help="Do not write to MLflow.")]

DEFAULT_ROOT = "runs"

GOES_ON = "what has finished is stored; the same command goes on"
"""What is said of a run that was stopped, if there is nothing better."""
INCIDENTAL = ("device", "batch", "seconds", "resources")
"""Keys of a suite that change where and how cells run, and not which."""


def suite_content(
    suite: str | None,
    tasks: list[str],
    rewards: list[str],
    methods: list[str],
    budgets: list[str],
    seeds: int | None,
    name: str | None,
    settings: list[str],
    baselines: bool,
    device: str | None = None,
    dtype: str | None = None,
) -> dict[str, Any]:
    """The suite that the command line asks for, before validation.

    Without SUITE and without -t, -r, -m it is the quickstart.  The device decides no samples, so
    that an ad-hoc run is the same on each.  A shipped suite of which something is changed has a
    folder of its own, beside that of the whole one.
    """
    from bench.core.params import UserError
    from bench.plan.suite import apply_settings, load_suite, shipped

    given: dict[str, Any] = {
        "tasks": tasks,
        "rewards": rewards,
        "methods": methods,
        "budgets": budgets,
    }
    given = {key: value for key, value in given.items() if value}
    if seeds is not None:
        given["seeds"] = seeds
    if dtype is not None:
        given["dtype"] = dtype
    if suite is None and not (tasks or rewards or methods):
        suite = "quickstart"
    if suite is None:
        missing = [f"-{k[0]}" for k in ("tasks", "rewards", "methods") if k not in given]
        if missing:
            raise UserError(f"without a suite, {' and '.join(missing)} must be given too")
        given["baselines"] = baselines
        content: dict[str, Any] = {"name": name or _own_name(given, settings), **given}
    else:
        content = load_suite(suite)
        if suite in shipped() and (suffix := _change(given, settings)):
            content["name"] = f"{content['name']}-{suffix}"
        content |= given
        if "blocks" in content:
            content["blocks"] = [{**block, **given} for block in content["blocks"]]
    if name:
        content["name"] = name
    if device is not None:
        settings = [*settings, f"device={device}"]
    return apply_settings(content, settings)


def _own_name(given: dict[str, Any], settings: list[str]) -> str:
    """The same ad-hoc command finds its run again; another one does not overwrite it."""
    return f"custom-{_hashed(given, settings)}"


def _change(given: dict[str, Any], settings: list[str]) -> str:
    """What tells a changed suite from the whole one; "" where nothing that counts was changed."""
    counted = [text for text in settings if text.partition("=")[0] not in INCIDENTAL]
    return _hashed(given, counted) if given or counted else ""


def _hashed(given: dict[str, Any], settings: list[str]) -> str:
    text = json.dumps([given, sorted(settings)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:6]
