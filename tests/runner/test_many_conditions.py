"""Cells of many conditions: the samples, ledgers and scores of one-prompt cells, in fewer calls."""

import platform
from dataclasses import asdict, replace

import pytest
import torch

from bench.core import plugins
from bench.core.cells import Cell, digest
from bench.core.params import UserError
from bench.core.values import ProblemSpec
from bench.core.work import Budget
from bench.plan.expand import expand
from bench.plan.questions import MatchingQuestion
from bench.plan.suite import build_suite
from bench.record.store import Store
from bench.record.tables import rows_agree
from bench.runner.cell import Job
from bench.runner.executors.inline import Inline
from bench.runner.instances import instances_of
from bench.runner.measuring import unpack_samples
from bench.runner.pilots import Pilots, pilot
from bench.runner.run import run_suite
from methods.steering.dps import DPS
from reports.data.entries import summarise
from reports.data.run import load_run
from reports.data.sensitivity import with_failures
from tests.worlds.pipeline_flows import REWARD, counted, task_name
from tests.worlds.silent import Silent

N = 2
PROMPTS = "a red fox|two cats|a small boat at sea"
METHODS = (
    "prior:steps=5",
    "best-of-n:steps=5,candidates=3",
    "best-of-n-pruned:steps=5,candidates=3,draws=2",
    "sop:steps=5,candidates=3,inner_steps=2",
    "dts:steps=5",
    "dps:steps=5",
    "tfg:steps=5,draws=2",
    "rollout:steps=5,inner_steps=2,draws=2",
    "mfm-g:posterior=glass,steps=5,draws=2,inner_steps=2",
    "fk:steps=5,particles=2",
    "tds:steps=5,particles=2",
    "svdd:steps=5,candidates=3",
    "psi-sampler:steps=5,particles=2,inner_steps=2",
)
"""Of every loop one: gradients, populations, searches, look-aheads."""
WITH_A_MAP = (
    "mfm-gf:steps=5,draws=2",
    "mfm-search:steps=5,particles=3,draws=2",
    "reno:steps=5,iterations=2",
    "zero-order:steps=5,iterations=2",
)


def content(methods, per=1, task="", reward=REWARD, **more):
    return {
        "name": "many",
        "tasks": [task or task_name("sd15", prompts=PROMPTS)],
        "rewards": [reward],
        "methods": list(methods),
        "seeds": 1,
        "n": N,
        "conditions_per_cell": per,
        **more,
    }


SHAPES = {"task": "shapes", "reward": "prompt"}


def rows_of(method, per, **more):
    """The rows of a method, `per` conditions to a cell."""
    return expand(build_suite(content([method], per, **more)))


def many(method, **more):
    """The first cell of three conditions."""
    return rows_of(method, 3, **more)[0].cell


# -- samples and ledgers ---------------------------------------------------------------------------


def assert_same(method, **more):
    """Samples to 1e-5 of the largest latent, rows and FLOPs to the row, and as predicted."""
    row, ones = rows_of(method, 3, **more)[0], rows_of(method, 1, **more)[:3]
    assert row.status == "pending", row.reason
    assert row.cell.conditions == tuple(one.cell.condition for one in ones)
    together = Job(row.cell, metrics=("reward",)).run()
    assert together.status == "ok", together.log
    apart = [Job(one.cell, metrics=("reward",)).run() for one in ones]
    x = unpack_samples(together.samples).x
    wanted = torch.cat([unpack_samples(one.samples).x for one in apart])
    assert (x - wanted).abs().max() < 1e-5 * wanted.abs().max()
    assert rows_agree(row, together)
    for name, total in together.work.items():
        if name not in ("seconds", "peak_bytes"):
            assert total == pytest.approx(sum(one.work[name] for one in apart)), name
    scores = [score for one in apart for score in one.scores["reward"]]
    assert together.scores["reward"] == pytest.approx(scores, rel=1e-4)
    assert together.costs["paper-nfe"] == pytest.approx(apart[0].costs["paper-nfe"])


@pytest.mark.parametrize("method", METHODS)
def test_a_cell_of_three_prompts_is_three_cells_of_one(method):
    assert_same(method)


@pytest.mark.parametrize("method", WITH_A_MAP)
def test_so_it_is_where_a_map_hears_prompts_and_the_reward_reads_them(method):
    assert_same(method, **SHAPES)


@pytest.mark.parametrize("name", ["sd3", "flux", "sana", "sdxl"])
def test_so_it_is_on_other_families(name):
    assert_same("mfm-gf:posterior=glass,steps=5", task=task_name(name, prompts=PROMPTS))


def test_so_it_is_where_guidance_ends_before_the_flow_does():
    task = task_name("sd15", prompts=PROMPTS, guided_until=0.5)
    assert_same("dps:steps=5", task=task)


def test_the_samples_of_a_prompt_do_not_depend_on_the_others():
    cell = many("tds:steps=5,particles=2")
    first, second, third = cell.conditions
    orders = ((first, second), (third, first), (second, third, first))
    found = [unpack_samples(Job(cell.under(*order)).run().samples).x for order in orders]
    own = [x[N * order.index(first) :][:N] for x, order in zip(found, orders, strict=True)]
    for x in own[1:]:
        assert (x - own[0]).abs().max() < 1e-5 * own[0].abs().max()


def test_a_population_has_one_prompt():
    """Two particles make the two samples of a prompt, and none of another."""
    group = unpack_samples(Job(many("fk:steps=5,particles=2")).run().samples).group
    assert group.tolist() == [0] * N + [1] * N + [2] * N


@pytest.mark.parametrize("method", ["prior:steps=5", "dps:steps=5", "fk:steps=5,particles=2"])
def test_prompts_share_the_calls_of_the_network(method):
    """Three times the rows in as many calls; a batch bounds how many prompts go together."""
    cell = many(method)
    Job(cell).run()  # counts the FLOPs of a row, once per process
    calls = []
    for batch in (1024, 2 * N, N):
        with counted(instances_of(cell).task.flow) as network:
            seen = []
            network.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args))
            Job(replace(cell, batch=batch)).run()
            calls.append(len(seen) - WARM_UP)
    assert calls == [calls[0], 2 * calls[0], 3 * calls[0]]


WARM_UP = 1
"""Call of the network before a cell is timed."""


# -- plans -----------------------------------------------------------------------------------------


def test_cells_of_one_condition_are_what_they_were():
    """Also the last one of a task whose conditions do not divide."""
    ones, twos = ([row.cell for row in rows_of("prior:steps=5", per)] for per in (1, 2))
    conditions = [cell.condition for cell in ones]
    assert [len(cell.each) for cell in twos] == [2] * (len(ones) // 2) + [1] * (len(ones) % 2)
    assert [one.condition for cell in twos for one in cell.each] == conditions
    assert [one.id for cell in twos for one in cell.each] == [cell.id for cell in ones]
    known = Cell("t", {}, "r", {}, 1.0, None, "m", {}, 2, 0, 1, {}, {})
    assert known.id == "9faa55075b1159bd"


def test_a_number_of_conditions_is_at_least_one():
    with pytest.raises(UserError, match="conditions_per_cell"):
        build_suite(content(["prior"], per=0))


# -- records and tables ----------------------------------------------------------------------------


def run(root, per, methods=("prior:steps=5", "dps:steps=5"), **more):
    """A finished run, and what it did."""
    store = Store(str(root), f"by {per}")
    suite = build_suite(content(methods, per, **{**SHAPES, **more}))
    return store, run_suite(suite, store, Inline, Silent())


def test_tables_and_report_are_those_of_one_prompt_cells(tmp_path):
    (one, _), (many, outcome) = run(tmp_path, 1), run(tmp_path, 4)
    assert outcome.failed == 0
    cells, metrics, samples = (many.table(name) for name in ("cells", "metrics", "samples"))
    assert cells["predicted_equal"].all()
    assert cells["n"].sum() == one.table("cells")["n"].sum() == len(samples)
    mine, theirs = (
        s.table("metrics").merge(s.table("cells")[["cell", "method"]]) for s in (many, one)
    )
    joined = mine.merge(theirs, on=["condition", "metric", "method"], suffixes=("", "_one"))
    assert len(joined) == len(mine) == len(theirs) == len(metrics)
    exact = joined[joined["metric"].isin(["reward", "diversity"])]
    assert exact["value"].to_numpy() == pytest.approx(exact["value_one"].to_numpy(), rel=1e-4)
    assert (samples.groupby(["cell", "condition"]).size() == N).all()
    assert set(many.table("results")["condition"]) == set(one.table("results")["condition"])
    runs = [load_run(tmp_path / f"by {per}") for per in (1, 4)]
    entries = [summarise(found.cells, found.metrics).entries for found in runs]
    for first, second in zip(*entries, strict=True):
        reward, other = (entry.estimate("reward") for entry in (first, second))
        assert {row[:2] for row in reward.rows} == {row[:2] for row in other.rows}
        assert reward.half == pytest.approx(other.half, rel=1e-3, nan_ok=True)
        assert (
            with_failures(second, entries[1], "reward", "higher").estimate("reward").rows
            == other.rows
        )
        assert reward.mean == pytest.approx(other.mean, abs=1e-5)


def test_a_second_run_does_nothing_and_new_metrics_do_not_sample(tmp_path, monkeypatch):
    store, first = run(tmp_path, 4, ["prior:steps=5"])
    assert first.executed == len(first.plan)
    _, again = run(tmp_path, 4, ["prior:steps=5"])
    assert (again.executed, again.remeasured) == (0, 0)
    monkeypatch.setattr(plugins.load("metrics", "reward"), "version", "next")
    _, third = run(tmp_path, 4, ["prior:steps=5"])
    assert (third.executed, third.remeasured) == (0, len(first.plan))
    metrics = store.table("metrics")
    newer = metrics[metrics["version"] == "next"]
    assert newer["condition"].nunique() == len(newer) == sum(len(r.cell.each) for r in first.plan)


def test_a_budget_that_a_prompt_oversteps_stops_the_cell():
    row = rows_of("dps:steps=5", 3)[0]
    enough = row.predicted.cost("paper-nfe")
    assert Job(row.cell, Budget("paper-nfe", enough)).run().status == "ok"
    stopped = Job(row.cell, Budget("paper-nfe", 0.5 * enough)).run()
    assert stopped.status == "over_budget"
    assert 0 < stopped.work["flow_forward"] < row.predicted.flow.forward * row.cell.total


def test_a_budget_that_is_measured_is_matched_on_cells_of_as_many_prompts():
    """A pilot runs all of them: FLOPs of a row do not depend on that, seconds per sample do."""
    (row,) = expand(build_suite(content(["dps"], 3, budgets=["flops=1e9"])), Pilots())
    attempt = Job(row.cell, row.limit).run()
    assert attempt.status == "ok", attempt.reason
    assert rows_agree(row, attempt)
    assert 0.8 < attempt.costs["flops"] / row.budget.amount <= 1.0
    cell, method = row.cell, DPS.create(steps=5)
    alone, together = (pilot(c, method, N) for c in (cell.each[0], cell))
    assert together.work.same_rows(alone.work)
    assert together.flop_rates == alone.flop_rates


def test_a_pilot_of_one_condition_is_known_by_the_name_it_had():
    """What was piloted before cells could hold many is not piloted again."""
    (row,) = rows_of("dps", 1)[:1]
    plain = replace(row.cell, condition=None)
    question = MatchingQuestion(plain, DPS.create(), ProblemSpec((3,)), Budget("flops", 1.0), {})
    said = asdict(replace(plain, seed=0, method_params={}))
    for name in ("resources", "device", "conditions"):
        said.pop(name)
    own = [said, str(question.budget), platform.node(), platform.processor()]
    assert Pilots._key(question) == digest(own)
    three = replace(question, cell=plain.under(1, 2, 3))
    assert Pilots._key(three) != Pilots._key(question)
    assert Pilots._key(three) == Pilots._key(replace(question, cell=plain.under(4, 5, 6)))
