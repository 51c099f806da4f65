"""`bench train`: train a world's networks and write them as weights with their recipe."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.progress import Progress

    from bench.training.trainer import Report


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("train", epilog="bench train digits --to my-weights   (30 minutes on two cores)")(
        train
    )


def train(
    task: Annotated[str, typer.Argument(help="digits or gmm-paper.")],
    to: Annotated[Path, typer.Option("--to", help="Folder of the weights.")] = Path("weights"),
    work: Annotated[
        Path, typer.Option("--work", help="Folder of checkpoints; the same one resumes.")
    ] = Path("runs/training"),
    seed: Annotated[int, typer.Option("--seed", help="Seed of everything.")] = 0,
    shorten: Annotated[
        float, typer.Option("--shorten", min=1e-4, max=1.0, help="Fraction of the steps, to try.")
    ] = 1.0,
    threads: Annotated[int, typer.Option("--threads", min=1, help="CPU threads.")] = 1,
    track: Annotated[bool, typer.Option("--track/--no-track", help="Log losses to MLflow.")] = True,
) -> None:
    """Train or distil the flow, the meta flow map and the judges of a task.

    Killed and started again, it continues and ends in the same weights.  Use them with
    TILTBENCH_WEIGHTS=<folder>.
    """
    from dataclasses import replace

    import torch

    from bench.core.params import UserError, nearest
    from bench.training.worlds import WORLDS

    if task not in WORLDS:
        raise UserError(f"no recipe for '{task}': {nearest(task, WORLDS)}")
    torch.set_num_threads(threads)
    recipe, trainer = WORLDS[task]
    recipe = replace(recipe, seed=seed).shortened(shorten)
    folder = work / f"{task}-seed{seed}"
    log = _mlflow_log(f"train {task}, seed {seed}") if track else (lambda *_: None)
    with _progress() as progress:
        networks = trainer(recipe, folder, lambda name, steps: _stage(progress, name, steps, log))
    _write(task, networks, recipe, to)


def _progress() -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Left

    shown = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Left()
    return Progress(*shown, TextColumn("{task.fields[loss]}"))


Log = Callable[[str, int, Mapping[str, float]], None]


def _stage(progress: Progress, name: str, steps: int, log: Log) -> Report:
    bar = progress.add_task(name, total=steps, loss="")

    def report(step: int, losses: Mapping[str, float]) -> None:
        text = "  ".join(f"{key} {value:.4f}" for key, value in losses.items())
        progress.update(bar, completed=step, loss=text)
        log(name, step, losses)

    return report


def _mlflow_log(title: str) -> Log:
    """Losses to MLflow, if it is installed."""
    import importlib.util

    if importlib.util.find_spec("mlflow") is None:
        return lambda *_: None
    from bench.tracking import training_log

    return training_log(title)


def _write(task: str, networks: dict[str, Any], recipe: Any, to: Path) -> None:
    """Weights, and beside them the recipe with its measured quality."""
    from dataclasses import asdict

    from safetensors.torch import save_file

    from bench.metrics.world_quality import quality
    from bench.training.worlds import tensors

    to.mkdir(parents=True, exist_ok=True)
    save_file(tensors(networks), to / f"{task}.safetensors")
    typer.echo("measuring quality ...")
    report = {
        "task": task,
        "recipe": asdict(recipe),
        "training": recipe.training(),
        "quality": quality(task, networks),
    }
    (to / f"{task}.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    typer.echo(json.dumps(report["quality"], indent=2))
    typer.echo(f"Weights: {to / task}.safetensors (use them with TILTBENCH_WEIGHTS={to})")
