"""`bench train`: train a world's networks and write them as weights with their recipe."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.core.own_files import own_json
from bench.core.params import UserError

if TYPE_CHECKING:
    from bench.cli.train_subjects import Subject
    from bench.cli.train_view import Log
    from bench.core.workers import WorkerGroup
    from bench.metrics.validation import Networks
    from bench.runner.executors.ray_train import Tell
    from bench.training.recipes import Recipe

EXAMPLE = "\n\n".join(
    (
        "bench train digits --threads 2 --to my-weights   (half an hour on two cores)",
        "bench train gmm-paper --shorten 0.01 --to trial   (seconds, to try)",
        "bench train --data pictures/ --labels folders --to mine",
        "bench train --data points.npz:x --labels y --to mine --set map_steps=4000",
        "bench train --data points.npy --teacher trained:path=mine --to other",
        "bench train digits --workers 2   (two processes share each batch)",
        "bench train digits --workers 2 --fsdp   (and each holds half of the weights)",
        "bench train digits --device cuda --validate-every 500",
    )
)


def train(
    task: Annotated[
        str | None, typer.Argument(help="A task with a recipe, or with data: digits, gmm-paper ...")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            help="Own data: a folder of pictures, or a .npy, .npz, .safetensors, .parquet.",
        ),
    ] = None,
    labels: Annotated[
        str,
        typer.Option(
            "--labels",
            help="Classes of own data: folders, FILE.csv:COLUMN, an array or a column of the file.",
        ),
    ] = "",
    teacher: Annotated[
        str,
        typer.Option(
            "--teacher", help="A task whose flow is distilled, e.g. trained:path=DIR; no flow then."
        ),
    ] = "",
    network: Annotated[
        str | None, typer.Option("--network", help="Of own data: mlp, unet, dit or module:Class.")
    ] = None,
    settings: Annotated[
        list[str],
        typer.Option("--set", metavar="KEY=VALUE", help="A key of the recipe, e.g. batch=128."),
    ] = [],  # noqa: B006  # typer reads list defaults and never mutates them
    to: Annotated[Path, typer.Option("--to", help="Folder of the weights.")] = Path("weights"),
    work: Annotated[
        Path | None,
        typer.Option(
            "--work",
            help="Folder of checkpoints; the same one resumes.  "
            "Default: runs/training, for own data DIR/training.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of everything.")] = 0,
    shorten: Annotated[
        float,
        typer.Option(
            "--shorten", min=1e-4, max=1.0, help="Fraction of steps and of measuring, to try."
        ),
    ] = 1.0,
    validate_every: Annotated[
        int,
        typer.Option(
            "--validate-every", min=0, help="Steps between validations, and at the end; 0: none."
        ),
    ] = 2000,
    workers: Annotated[
        int, typer.Option("--workers", min=1, help="Processes that share each batch, through Ray.")
    ] = 1,
    fsdp: Annotated[
        bool, typer.Option("--fsdp", help="Let each of the workers hold its part of the weights.")
    ] = False,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:<number>.")] = "cpu",
    threads: Annotated[int, typer.Option("--threads", min=1, help="CPU threads per worker.")] = 1,
    track: Annotated[
        bool, typer.Option("--track/--no-track", help="Log losses and validations to MLflow.")
    ] = True,
) -> None:
    """Train or distil the flow, the meta flow map and the judges of a task, or of own data.

    Killed and started again, it continues and ends in the same weights; it refuses to go on with
    other data, other labels or another recipe.  Every validation prints a line with the time left;
    all its figures are in validation.jsonl beside the checkpoints, and in MLflow.  Use a task's
    weights with TILTBENCH_WEIGHTS=<folder>, and own data's as the task trained:path=<folder>.
    """
    import torch

    from bench.cli.train_subjects import subject_of
    from bench.cli.train_view import View
    from bench.core.devices import check_device
    from bench.core.workers import ALONE

    subject = subject_of(task, data, labels, teacher, network, settings)
    recipe = replace(subject.recipe(), seed=seed).shortened(shorten)
    check_device(device, workers)
    torch.set_num_threads(threads)
    trial = "" if shorten == 1 else f"-shortened-{shorten:g}"
    base = work or subject.checkpoints(to)
    folder = base / f"{subject.name}-seed{seed}{trial}"
    training = Training(subject.name, recipe, folder, validate_every, subject, fsdp)
    training.claim(workers)
    if workers == 1 and not any(folder.glob("*/*")):
        _say_how_long(subject, recipe, device)
    log = _mlflow_log(f"train {subject.name}, seed {seed}{trial}") if track else (lambda *_: None)
    with View(log) as view:
        if workers > 1:
            _together(training, workers, device, threads, view)
        networks = training(ALONE, device, view if workers == 1 else lambda _: None)
    _write(subject, networks, recipe, to, shorten)


@dataclass(frozen=True)
class Training:
    """The training of a world, as every worker runs it; called again it loads what it trained.

    subject: what is trained, `task` where it is not said.  fsdp: whether several workers hold the
    weights in parts.
    """

    task: str
    recipe: Recipe
    folder: Path
    validate_every: int
    subject: Subject | None = None
    fsdp: bool = False

    @property
    def _subject(self) -> Subject:
        from bench.cli.train_subjects import TaskSubject

        return self.subject or TaskSubject(self.task)

    def __call__(self, group: WorkerGroup, device: str, tell: Tell) -> Networks:
        """Train on this worker's share of each batch."""
        from bench.cli.train_view import Note
        from bench.core.divided_workers import DividedProcesses
        from bench.metrics.validation import Validator
        from bench.training.trainer import Setting
        from bench.training.validation import Journal, Validation

        if self.fsdp and group.size > 1:
            group = DividedProcesses(device)
        world, journal = self._subject.world(), Journal(self.folder / "validation.jsonl")
        measure = Validator(world.law)

        def stage(name: str, steps: int) -> Setting:
            def note(step: int, figures: Mapping[str, float], measured: bool = False) -> None:
                if group.rank == 0:
                    tell(Note(name, steps, step, dict(figures), measured))

            every, measured = self.validate_every, partial(note, measured=True)
            return Setting(
                report=note,
                device=device,
                group=group,
                validation=Validation(name, every, measure, journal, measured) if every else None,
                begin=lambda step: note(step, {}),
                finish=partial(measure.learn, name),
            )

        share = replace(self.recipe, batch=self.recipe.batch // group.size)
        return world.train(share, self.folder, stage)

    def claim(self, workers: int) -> None:
        """Take the folder, unless its checkpoints belong to other data or to another recipe.

        Raises UserError also where so many workers cannot share the training as they are asked to.
        """
        if self.fsdp and workers == 1:
            raise UserError("--fsdp divides weights among workers: give --workers as well")
        if self.recipe.batch % workers:
            raise UserError(
                f"{workers} workers cannot share a batch of {self.recipe.batch} equally: use a "
                "number that divides it"
            )
        identity = self._subject.identity()
        own = json.loads(json.dumps({**asdict(self.recipe), **identity}))
        path = self.folder / "recipe.json"
        mend = "choose another folder with --to, or restore the file"
        found = own_json(path, mend) if path.exists() else own
        # what a recipe did not say when it was written is what it says by default today
        found = {**_defaults(self.recipe), **found}
        changed = sorted(k for k in own.keys() | found.keys() if own.get(k) != found.get(k))
        if changed:
            other = [k for k in changed if k in identity]
            what = "other data" if other else "another recipe"
            raise UserError(
                f"{self.folder} holds the training of {what} ({', '.join(changed)} differ): choose "
                "another --work folder, or delete this one"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(own, indent=2) + "\n", encoding="utf-8")


def _defaults(recipe: Recipe) -> dict[str, Any]:
    """The keys of a recipe that have a default, as JSON."""
    known = {f.name: f.default for f in fields(recipe) if f.default is not MISSING}
    out: dict[str, Any] = json.loads(json.dumps(known))
    return out


def _together(
    training: Training, workers: int, device: str, threads: int, hear: Callable[[Any], None]
) -> None:
    """Train on Ray workers of this machine; rank 0 leaves the checkpoints in the folder."""
    from bench.runner.executors.ray_cluster import cluster
    from bench.runner.executors.ray_train import train_together

    absolute = replace(training, folder=training.folder.resolve())
    with cluster(None, workers * threads):
        each = {"CPU": threads} if device == "cpu" else {"CPU": threads, "GPU": 1}
        train_together(absolute, workers, each, threads, hear)


def _mlflow_log(title: str) -> Log:
    """Figures to MLflow, if it is installed."""
    import importlib.util

    if importlib.util.find_spec("mlflow") is None:
        return lambda *_: None
    from bench.tracking.live import training_log

    return training_log(title)


def _say_how_long(subject: Subject, recipe: Recipe, device: str) -> None:
    """Minutes on this machine, before a training that is not over in a moment."""
    from bench.worlds import pace
    from reports.text.numbers import seconds as duration

    if not pace.is_long(recipe):
        return
    typer.echo("trying how long this takes ...")
    found = pace.seconds_of(subject.world(), recipe, device)
    parts = ", ".join(f"{name} {duration(seconds)}" for name, seconds in found.items())
    typer.echo(f"About {duration(sum(found.values()))} on this machine ({parts}).")


def _write(
    subject: Subject, networks: Networks, recipe: Recipe, to: Path, share: float = 1.0
) -> None:
    """Weights, and beside them the recipe with its quality, measured on a share of the draws."""
    from safetensors.torch import save_file

    from bench.worlds import tensors

    networks = {name: net.to("cpu") for name, net in networks.items()}
    to.mkdir(parents=True, exist_ok=True)
    path = to / f"{subject.name}.safetensors"
    save_file(tensors(networks), path)
    part = "" if share == 1 else f" on {share:g} of the draws, or a few"
    typer.echo(f"measuring quality{part} ...")
    report = {
        **subject.describe(to),
        "recipe": asdict(recipe),
        "training": recipe.training(),
        **({} if share == 1 else {"quality_measured_on": share}),
        "quality": subject.world().quality(networks, share),
    }
    path.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    typer.echo(json.dumps(report["quality"], indent=2))
    typer.echo(f"Weights: {path} ({subject.how_to_use(to)})")
