"""What every method must keep.

A method is run at a small setting on problems that the checks take apart: with other seeds, other
batches, half the budget, and without what it does not need.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import replace

import torch

from bench.conformance.findings import (
    CHECK_TOLERANCE,
    Broken,
    Check,
    Skipped,
    apart,
    check_params,
    check_tensor,
    expect,
    globals_kept,
    one_line,
)
from bench.conformance.method_subject import MethodSubject, N
from bench.core.metering import OverBudget
from bench.core.methods import Need
from bench.core.params import range_of
from bench.core.problem import Problem
from bench.core.units import ROLES
from bench.core.values import ProblemSpec
from bench.core.work import Rows, Work
from bench.plan.matching import bounds
from bench.plan.prediction import sample_work
from bench.runner.cell import sample_in_batches

SMALL_BATCH = 4


def samples(s: MethodSubject) -> None:
    """n finite float32 samples of the task's shape come back, with weights and groups to match."""
    found = s.first.samples
    check_tensor("x", found.x, (N, *s.spec.event_shape))
    if found.log_weight is not None:
        check_tensor("log_weight", found.log_weight, (N,))
    if found.group is not None:
        whole = not found.group.is_floating_point() and tuple(found.group.shape) == (N,)
        expect(whole, f"group must hold one integer per sample, {N} in all")
    expect(
        all(isinstance(value, float) for value in found.info.values()),
        "info must hold floats: convert tensors with float(...)",
    )


def parameters(s: MethodSubject) -> None:
    """Params is a frozen dataclass with valid defaults, and tunable numbers have a range."""
    check_params(type(s.method), search_ranges=True)


def effort(s: MethodSubject) -> None:
    """Effort parameters are integers with a declared range, and predicted work grows with them."""
    if not s.method.effort:
        raise Skipped("no parameter buys compute")
    known = {f.name for f in dataclasses.fields(s.method.Params)}
    for name in s.method.effort:
        expect(name in known, f"effort names '{name}', which is not a parameter")
        declared = range_of(s.method.Params, name)
        ranged = declared.low is not None and declared.high is not None
        expect(ranged, f"the effort parameter '{name}' declares no range: give low and high")
        _check_growth(s, name)


def _check_growth(s: MethodSubject, name: str) -> None:
    low, high = bounds(s.method, name)
    values = sorted({round(low * (high / low) ** (k / 6)) for k in range(7)})
    tried = [s.method.with_params(**{name: v}) for v in values]
    costs = [sample_work(method, s.spec).cost("paper-nfe") for method in tried]
    for (v, cost), (w, more) in itertools.pairwise(zip(values, costs, strict=True)):
        expect(
            more >= cost,
            f"work falls from {cost:g} to {more:g} paper-nfe as '{name}' rises from {v} to {w}: "
            "matching needs work that grows",
        )
    expect(costs[-1] > costs[0] or low == high, f"'{name}' is in effort, but work ignores it")


def predicted_work(s: MethodSubject) -> None:
    """work() predicts the measured rows exactly, or bounds them if it says upper_bound."""
    _check_work(sample_work(s.method, s.spec), s.first.work)


def _check_work(predicted: Work, measured: Work) -> None:
    wrong = []
    for role in ROLES:
        for kind in (field.name for field in dataclasses.fields(Rows)):
            wanted = getattr(predicted.rows(role), kind)
            got = getattr(measured.rows(role), kind) / N
            over = got > wanted + 1e-6 * max(1.0, wanted)
            under = got < wanted - 1e-6 * max(1.0, wanted)
            if over or (under and not predicted.upper_bound):
                wrong.append(f"{wanted:g} {role} {kind} rows per sample, measured {got:g}")
    expect(not wrong, f"predicted {'; '.join(wrong)}")


def same_seed(s: MethodSubject) -> None:
    """The same seed gives the same samples, to the bit."""
    same = torch.equal(s.first.samples.x, s.run().samples.x)
    expect(same, "the same seed gave other samples: draw all random numbers from problem.noise")


def other_seed(s: MethodSubject) -> None:
    """Another seed gives other samples."""
    same = torch.equal(s.first.samples.x, s.run(seed=1).samples.x)
    expect(not same, "two seeds gave the same samples: draw random numbers from problem.noise")


def batch_size(s: MethodSubject) -> None:
    """Samples and work do not depend on the batch size, up to rounding."""
    batched = s.run(batch=SMALL_BATCH)
    gap = apart(s.first.samples.x, batched.samples.x)
    expect(
        gap <= CHECK_TOLERANCE,
        f"samples differ by {gap:.1e} between batches of {N} and {SMALL_BATCH}: each row may "
        "depend on its own noise only",
    )
    expect(s.first.work.same_rows(batched.work), "the work depends on the batch size")


def budget(s: MethodSubject) -> None:
    """A budget equal to the prediction suffices; half of what is used stops the method."""
    predicted = sample_work(s.method, s.spec).cost("paper-nfe")
    used = s.first.work.cost("paper-nfe")
    if not predicted or not used:
        raise Skipped("the method spends nothing that a budget limits")
    try:
        s.run(limit=predicted * N)
    except OverBudget as error:
        raise Broken(f"the predicted work does not suffice: {error}") from error
    try:
        s.run(limit=used / 2)
    except OverBudget:
        return
    except Exception as error:
        raise Broken(f"at the budget it raised {one_line(error)}: let OverBudget pass") from error
    raise Broken("it went on after OverBudget: let it pass; problem.checkpoint keeps samples")


def needs(s: MethodSubject) -> None:
    """The method runs, at the predicted work, without anything that it does not name in needs."""
    expect(all(isinstance(need, Need) for need in s.method.needs), "needs must hold bench.api.Need")
    cell, spec = s.cell(), _bare(s.spec, s.method.needs)
    problem = _stripped(s.problem(cell), s.method.needs)
    try:
        sample_in_batches(s.method, problem, cell)
    except Exception as error:
        absent = sorted(set(Need) - {Need.FIT} - s.method.needs)
        raise Broken(
            f"it raised {one_line(error)} on a problem without {', '.join(absent)}: "
            "name what it uses in needs"
        ) from error
    _check_work(sample_work(s.method, spec), problem.meter.work())


def _bare(spec: ProblemSpec, needs: frozenset[Need]) -> ProblemSpec:
    """The spec of a problem that offers what is needed and nothing else."""
    wants_posterior = bool(needs & {Need.POSTERIOR, Need.PATHWISE_POSTERIOR})
    return replace(
        spec,
        reward_differentiable=Need.REWARD_GRADIENT in needs,
        has_flow_map=Need.FLOW_MAP in needs,
        has_posterior=wants_posterior,
        has_oracle=Need.ORACLE in needs,
    )


def _stripped(problem: Problem, needs: frozenset[Need]) -> Problem:
    spec, reward = _bare(ProblemSpec(problem.event_shape), needs), problem.reward
    return replace(
        problem,
        reward=reward if spec.reward_differentiable else lambda x: reward(x.detach()).detach(),
        flow_map=problem.flow_map if spec.has_flow_map else None,
        posterior=problem.posterior if spec.has_posterior else None,
        oracle=problem.oracle if spec.has_oracle else None,
        data_variance=problem.data_variance if Need.DATA_VARIANCE in needs else None,
    )


def process_state(s: MethodSubject) -> None:
    """Sampling changes no global random state, default dtype, gradient mode or thread count."""
    with globals_kept():
        s.run()


def inputs(s: MethodSubject) -> None:
    """Sampling leaves the flow and the reward as they were."""
    before = s.answers()
    s.run()
    same = all(torch.equal(a, b) for a, b in zip(before, s.answers(), strict=True))
    expect(same, "the flow or the reward answers differently afterwards: work on copies")


CHECKS: tuple[Check[MethodSubject], ...] = (
    samples,
    parameters,
    effort,
    predicted_work,
    same_seed,
    other_seed,
    batch_size,
    budget,
    needs,
    process_state,
    inputs,
)
