"""`bench study value`: how well posterior samplers estimate the value function and its gradient."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.options import DEFAULT_ROOT, AsJson, Root

if TYPE_CHECKING:
    from torch import Tensor

    from bench.metrics.value_estimation import Truth, ValueQuestion
    from bench.metrics.value_study import Found

Times = Annotated[list[float], typer.Option("--time", help="Time of the contexts, repeatable.")]
Draws = Annotated[list[int], typer.Option("--draws", min=1, help="Draws N, repeatable.")]

TIMES, DRAWS = [0.1, 0.2, 0.3, 0.5], [1, 4, 16, 64, 200, 1000]
"""The paper's times; 200 is its number of particles, 1000 leaves hardly any noise of the draws."""

group = typer.Typer(help="Measure one ingredient of the methods by itself.")
group.callback()(lambda: None)  # one command alone would swallow its own name


@group.command("value", epilog="bench study value -t digits -r class-mixture")
def value(
    task: Annotated[str, typer.Option("-t", "--task", help="Task, e.g. digits.")],
    reward: Annotated[str, typer.Option("-r", "--reward", help="Reward, e.g. class:strength=2.")],
    times: Times = TIMES,
    draws: Draws = DRAWS,
    contexts: Annotated[int, typer.Option("--contexts", min=2, help="Number of contexts.")] = 128,
    root: Root = DEFAULT_ROOT,
    run: Annotated[
        str | None, typer.Option("--run", help="A run folder whose report shows what was found.")
    ] = None,
    figure: Annotated[Path | None, typer.Option("--figure", help="Draw an SVG or PNG.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Tables as Markdown.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare estimates of V and of its gradient with the truth, per sampler, time and draws.

    The truth is the closed form where the task has one, and otherwise 200 SDE rollouts of 200
    steps per context, which are kept under ROOT/studies.  Intervals are over contexts.
    """
    from bench.cli import study_view as view
    from bench.core.params import UserError
    from bench.metrics import value_study as vs
    from bench.metrics.value_rates import exact_rates
    from bench.record import layout
    from bench.record.store import open_run

    if "://" in root:
        raise UserError("bench study keeps its rollouts on this machine: give --root a folder")
    store = None if run is None else open_run(run)
    rows, rates = [], []
    questions = {t: _question(task, reward, t, contexts) for t in times}
    _say_how_long(questions, (task, reward), max(draws), Path(root) / "studies")
    for t, question in questions.items():
        typer.echo(f"t = {t:g} ...", err=True)
        truth, floor = _truth(question, (task, reward), Path(root) / "studies")
        found = [*vs.study(question, truth, sorted(set(draws))), *floor]
        rows += vs.study_rows(t, found) + vs.paired_gains(t, found)
        rate = exact_rates(question)
        rates += [] if rate is None else [(t, rate)]
    if figure is not None:
        view.draw_figure(rows, figure)
    about = {"task": task, "reward": reward, "contexts": contexts}
    about |= _described(next(iter(questions.values())))
    data = json.dumps(view.as_data(about, rows, rates), indent=1)
    if store is not None:
        store.write(layout.value_study(_digest([task, reward])), data.encode())
        typer.echo(f"Kept with {store.url}: 'bench report {run}' shows it.", err=True)
    if as_json:
        typer.echo(data)
    else:
        view.show(rows, rates, markdown)


def _described(question: ValueQuestion) -> dict[str, Any]:
    """What estimates of a question are compared with, and what a draw more costs each sampler."""
    from bench.metrics import value_estimation as ve

    exact = question.task.oracle(question.reward, question.strength) is not None
    rollouts = f"{ve.REFERENCE_PARTICLES} SDE rollouts of {ve.REFERENCE_STEPS} steps per context"
    samplers = ve.samplers(question.task)
    return {
        "truth": "the closed form" if exact else rollouts,
        "rows_per_draw": {name: sampler.rows_per_draw for name, (sampler, _) in samplers.items()},
    }


def _say_how_long(
    questions: dict[float, ValueQuestion], names: tuple[str, str], draws: int, folder: Path
) -> None:
    """Minutes on this machine, from one batch of every sampler, before anything is drawn."""
    from bench.metrics.study_pace import seconds_of_draws, seconds_of_rollouts
    from reports.text.numbers import seconds

    first = next(iter(questions.values()))
    exact = first.task.oracle(first.reward, first.strength) is not None
    made = [not exact and not _kept(q, names, folder).is_file() for q in questions.values()]
    total = len(made) * seconds_of_draws(first, draws)
    total += sum(made) * seconds_of_rollouts(first) if any(made) else 0.0
    typer.echo(
        f"About {seconds(total)} of draws on this machine, then statistics; fewer --contexts, "
        "--draws or --time take less.",
        err=True,
    )


def _kept(question: ValueQuestion, names: tuple[str, str], folder: Path) -> Path:
    """Where the rollouts of a question lie."""
    return folder / f"value-{_key(question, names)}.safetensors"


def _question(task_text: str, reward_text: str, t: float, n: int) -> ValueQuestion:
    """Contexts of the task's held-out data at t, and the bound reward."""
    from bench.core.params import UserError
    from bench.metrics.value_estimation import ValueQuestion, contexts
    from bench.plan.binding import make_reward, make_task

    if not 0 < t < 1:
        raise UserError(f"--time must lie between 0 and 1, not {t:g}")
    _, task = make_task(task_text)
    name, reward, strength = make_reward(reward_text)
    reason = reward.compatible(task)
    if reason is not None:
        raise UserError(f"the reward '{name}' cannot be asked on '{task_text}': {reason}")
    reward.bind(task)
    condition = task.conditions("report")[0]
    return ValueQuestion(task, reward, strength, contexts(task, t, n), t, condition)


def _truth(
    question: ValueQuestion, names: tuple[str, str], folder: Path
) -> tuple[Truth, list[Found]]:
    """The closed form, or long rollouts with what one half of them says of the other."""
    from bench.metrics import value_estimation as ve
    from bench.metrics import value_study as vs

    oracle = question.task.oracle(question.reward, question.strength)
    if oracle is not None:
        return ve.exact_truth(question, oracle), []
    known = _cached_rollouts(question, names, folder)
    whole, *halves = (
        ve.Truth(known[f"value-{k}"], known[f"gradient-{k}"]) for k in ("all", "first", "second")
    )
    particles = ve.REFERENCE_PARTICLES
    return whole, vs.half_against_half(question, (halves[0], halves[1]), particles)


def _cached_rollouts(
    question: ValueQuestion, names: tuple[str, str], folder: Path
) -> dict[str, Tensor]:
    """V and grad V from all rollouts and from each half, read from `folder` or made."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    from bench.metrics import value_estimation as ve

    path = _kept(question, names, folder)
    if path.is_file():
        with suppress(SafetensorError, OSError):  # damaged: made again, and said below
            return dict(load_file(path))
    steps, particles = ve.REFERENCE_STEPS, ve.REFERENCE_PARTICLES
    typer.echo(
        f"  {particles} rollouts of {steps} steps per context (kept in {path}) ...", err=True
    )
    draws = ve.rollout_draws(question)
    half = particles // 2
    parts = {"all": slice(None), "first": slice(half), "second": slice(half, None)}
    tensors: dict[str, Tensor] = {}
    for name, rows in parts.items():
        truth = ve.rollout_truth(question, ve.part(draws, rows))
        tensors |= {f"value-{name}": truth.value, f"gradient-{name}": truth.gradient}
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial)
    partial.replace(path)
    return tensors


def _key(question: ValueQuestion, names: tuple[str, str]) -> str:
    """Hash of everything that decides the rollouts."""
    from bench.metrics import value_estimation as ve

    task, reward = question.task, question.reward
    decides: list[Any] = [*names, question.t, len(question.x), task.version, reward.version]
    decides += [ve.REFERENCE_STEPS, ve.REFERENCE_PARTICLES, task.weights(), reward.weights()]
    return _digest(decides)


def _digest(decides: list[Any]) -> str:
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:12]
