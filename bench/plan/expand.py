"""Planning: from a suite to rows, each a cell whose parameters spend its budget, or a reason.

Matching depends on neither condition nor seed: a method is matched once for a task, a reward and a
budget, and the row is then spread over both, so many conditions to a cell as the block says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from bench.core import plugins
from bench.core.cells import About, Cell, Planned, PlannedFit, plain_values
from bench.core.methods import FineTuning, Method
from bench.core.params import UserError, incidental, parse_name
from bench.core.protocols import Condition
from bench.core.tasks import Task
from bench.core.work import Budget, Work
from bench.plan.binding import Bound, bind, lacking
from bench.plan.budgets import parse_budget
from bench.plan.fits import UNLIMITED, plan_fit
from bench.plan.matching import Match
from bench.plan.prediction import sample_work
from bench.plan.questions import Answers, MatchingQuestion, Pilot
from bench.plan.suite import Block, Suite


def expand(suite: Suite, pilots: Pilot | None = None) -> list[Planned]:
    """All rows of a suite, in order, without duplicates.

    Budgets in FLOPs or seconds need `pilots`.
    """
    if pilots is not None:
        pilots.begin()
    answers = Answers(pilots)
    rows = _expanded(suite, answers)
    return _expanded(suite, answers) if pilots is not None and pilots.settle() else rows


def _expanded(suite: Suite, answers: Answers) -> list[Planned]:
    rows: dict[str, Planned] = {}
    for block in suite.blocks:
        for task_text in block.tasks:
            for reward_text in block.rewards:
                for row in _planned(block, task_text, reward_text, answers):
                    rows.setdefault(row.row, _called(row, suite.presets))
    return list(rows.values())


def _called(row: Planned, presets: Mapping[str, str]) -> Planned:
    """The row with the name of its preset beside that of its method."""
    name = presets.get(row.method_label)
    return row if name is None else replace(row, preset=name)


def _planned(block: Block, task_text: str, reward_text: str, answers: Answers) -> list[Planned]:
    """Rows of one task and reward; what a plugin raises while planning is a UserError."""
    try:
        return _rows(_Problem(block, bind(task_text, reward_text), answers))
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"planning {task_text} with {reward_text} failed in a plugin "
            f"({type(error).__name__}: {error}): run 'bench check' on it"
        ) from error


@dataclass(frozen=True)
class _Problem:
    """A block's task and reward, and who answers the questions of matching."""

    block: Block
    bound: Bound
    answers: Answers


def _rows(problem: _Problem) -> list[Planned]:
    block = problem.block
    budgets = [parse_budget(text) for text in block.budgets]
    methods = [(m, b) for b in budgets for m in block.with_companions(b)]
    conditions, seeds = problem.bound.task.conditions("report"), block.seed_list()
    base, size = _problem_cell(problem, seeds[0]), block.conditions_per_cell
    base = base.under(*conditions[:size])
    shares = [_Share(conditions[k : k + size], block) for k in range(0, len(conditions), size)]
    # What fits cost depends on how many conditions they see, and on nothing else of these.
    sizes = dict.fromkeys(len(share.seen) for share in shares)
    rows = {n: [_row(problem, base, m, b, n) for m, b in methods] for n in sizes}
    spread = [row for s in shares for made in rows[len(s.seen)] for row in s.spread(made)]
    own_fits = block.fits == "per-seed"
    return [_of_seed(row, seed, own_fits) for row in spread for seed in seeds]


def _of_seed(row: Planned, seed: int, own_fits: bool) -> Planned:
    """The row at a seed, with a fit of its own if wanted, unless the method's label says which.

    To train again is to repeat a method that trains: seeds that share a fit say nothing of another.
    """
    cell, fit = replace(row.cell, seed=seed), row.fit
    named = "fit_seed" in parse_name(row.method_label)[1]
    if fit is None or not own_fits or named or "fit_seed" not in fit.cell.method_params:
        return replace(row, cell=cell)
    own = {"fit_seed": seed}
    again = replace(fit.cell, seed=seed, method_params={**fit.cell.method_params, **own})
    fit = replace(fit, cell=again)
    params = {**cell.method_params, **own}
    return replace(row, cell=replace(cell, method_params=params, fit=fit.id), fit=fit)


@dataclass(frozen=True)
class _Share:
    """The conditions of a cell, of which a fit sees all but the last ones that are held out."""

    conditions: list[Condition]
    block: Block

    @property
    def seen(self) -> list[Condition]:
        """Those that a fit is for."""
        left = len(self.conditions) - self.block.held_out_conditions
        if left < 1:
            raise UserError(
                f"{len(self.conditions)} conditions are left for the last cell, and all of them "
                "are held out: choose another conditions_per_cell"
            )
        return self.conditions[:left]

    def spread(self, row: Planned) -> list[Planned]:
        """The row in one cell, or in one for each where its fit is for one at a time."""
        fit, said = row.fit, "its fit is for one condition at a time, and this one is held out"
        if fit is None:
            return [replace(row, cell=row.cell.under(*self.conditions))]
        if plugins.load("methods", row.cell.method).many_conditions:
            return [_refitted(row, fit, self.conditions, self.seen)]
        skipped = replace(row, status="skipped", reason=said)
        rows = {len(self.seen) + k: skipped for k in range(self.block.held_out_conditions)}
        each = enumerate(self.conditions)
        return [_refitted(rows.get(k, row), fit, [c], [c]) for k, c in each]


def _refitted(
    row: Planned, fit: PlannedFit, conditions: list[Condition], seen: list[Condition]
) -> Planned:
    """The row under other conditions; its fit is another one, too."""
    fit = replace(fit, cell=fit.cell.under(*seen))
    return replace(row, cell=replace(row.cell.under(*conditions), fit=fit.id), fit=fit)


def _row(
    problem: _Problem, base: Cell, method_text: str, budget: Budget | None, conditions: int
) -> Planned:
    """The row of one method at one budget, under the conditions and the seed of `base`.

    conditions: how many its fit is for, where one may be for many.
    """
    bound = problem.bound
    name, given = parse_name(method_text)
    method: Method[Any] = plugins.load("methods", name).create(**given)
    refusal = bound.refusal or lacking(method, bound.spec, bound.task)
    found: Match | None = None
    fit, unaffordable = None, ""
    cell = _cell(base, name, method)
    if refusal is None and isinstance(method, FineTuning):
        spec = replace(bound.spec, conditions=conditions if method.many_conditions else 1)
        question = MatchingQuestion(cell, method, spec, budget or UNLIMITED, given)
        limited = budget is not None
        method, fit, unaffordable = plan_fit(question, problem.answers, limited)
    if refusal is None and budget is not None:
        spent = 0.0 if fit is None else fit.cost
        question = MatchingQuestion(cell, method, bound.spec, budget, given, spent)
        found = problem.answers.match(question)
        method = method.with_params(**found.values)
    status, reason = _status(refusal, found, budget, unaffordable)
    predicted = Work() if refusal else sample_work(method, bound.spec)
    cell = _cell(base, name, method)
    return Planned(
        cell=cell if fit is None else replace(cell, fit=fit.id),
        task_label=bound.task_label,
        reward_label=bound.reward_label,
        method_label=method_text,
        budget=budget,
        status=status,
        reason=reason,
        matched={} if found is None else found.values,
        predicted=predicted,
        use=float("nan") if found is None else found.use,
        expected=float("nan") if found is None else found.cost,
        map_training=bound.task.training().get("map", 0.0) if predicted.map.total > 0 else 0.0,
        underused=found is not None and found.underused,
        alternatives=() if found is None else found.alternatives,
        fit=fit,
        about=_about(method, bound.task),
    )


def _about(method: Method[Any], task: Task[Any]) -> About:
    """What both classes declare."""
    return About(
        method_summary=method.summary,
        method_standing=method.standing,
        method_tag=method.tag,
        method_caveat=method.caveat,
        method_push=method.push,
        method_best_of=method.best_of,
        method_colour=method.colour,
        task_summary=task.summary,
        task_noun=task.noun,
    )


def _status(
    refusal: str | None, found: Match | None, budget: Budget | None, unaffordable: str
) -> tuple[str, str]:
    if refusal is not None:
        return "skipped", refusal
    if unaffordable:
        return "infeasible", unaffordable
    if found is not None and not found.feasible:
        assert budget is not None
        share = " besides its share of the fit" if budget.n_served else ""
        return "infeasible", f"needs at least {found.needed:g} {budget.unit} per sample{share}"
    return "pending", ""


def _problem_cell(problem: _Problem, seed: int) -> Cell:
    """What the cells of a task and a reward share, without a method and a condition yet."""
    block, bound = problem.block, problem.bound
    task, reward = (parse_name(label)[0] for label in (bound.task_label, bound.reward_label))
    return Cell(
        task=task,
        task_params=plain_values(bound.task.params),
        reward=reward,
        reward_params=plain_values(bound.reward.params),
        strength=bound.strength,
        condition=None,
        method="",
        method_params={},
        n=block.n,
        seed=seed,
        threads=block.threads,
        versions={
            "task": plugins.version_of("tasks", task),
            "reward": plugins.version_of("rewards", reward),
        },
        weights={**bound.task.weights(), **bound.reward.weights()},
        dtype=block.dtype,
        batch=block.batch,
        seconds=block.seconds,
        device=block.device,
        resources=block.resources,
        incidental=incidental(type(bound.reward.params)),
    )


def _cell(base: Cell, name: str, method: Method[Any]) -> Cell:
    """The cell of a method with its parameters."""
    return replace(
        base,
        method=name,
        method_params=plain_values(method.params),
        versions={
            **base.versions,
            "method": plugins.version_of("methods", name),
            **_data_version(base, method),
        },
        weights={**base.weights, **method.weights()},
    )


def _data_version(base: Cell, method: Method[Any]) -> dict[str, str]:
    """Marks fits that are handed the data of their own condition, where a task tells them apart.

    Such fits were once handed the data of every condition; their cells are others.
    """
    reads = isinstance(method, FineTuning) and method.reads_data
    own = plugins.load("tasks", base.task).draw_data_under is not Task.draw_data_under
    return {"data": "of the condition"} if reads and own else {}
