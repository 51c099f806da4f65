"""One fit over a set of prompts, and samples of those that it did not see."""

import pytest
import torch

from bench.core import plugins
from bench.core.metering import Meter
from bench.core.params import UserError
from bench.models import shapes_judge
from bench.models.shapes_prompts import parse
from bench.plan.expand import expand
from bench.plan.suite import build_suite
from bench.record.store import Store
from bench.record.tables import fit_agrees, rows_agree
from bench.runner.cell import Job
from bench.runner.executors.inline import Inline
from bench.runner.instances import instances_of
from bench.runner.measuring import unpack_samples
from bench.runner.problems import make_fit_problem
from bench.runner.run import run_suite
from methods.finetuning import regression
from reports.data.entries import summarise
from reports.data.run import load_run
from tests.worlds.pipeline_flows import REWARD, task_name
from tests.worlds.silent import Silent

PROMPTS = "a red fox|two cats|a small boat at sea"
OWN = {"own_samples": 6, "own_steps": 4}
SMALL = "rank=2,iterations=6,batch=2,steps=5,learning_rate=0.01"
ITM = f"itm:{SMALL}"
DRAFT = f"draft-k:{SMALL},fit_steps=3"
FITS = (DRAFT, f"flow-grpo:{SMALL},fit_steps=3,group=2,updates=2")
SLOW = (
    f"adjoint-matching:{SMALL},fit_steps=3,matched=2",
    f"diffusion-nft:{SMALL},fit_steps=3,group=2,updates=2",
    f"vgg-flow:{SMALL},fit_steps=3,matched=2",
)


def content(methods, per=3, held_out=0, name="sd15", **more):
    return {
        "name": "prompts",
        "tasks": [task_name(name, prompts=PROMPTS, **OWN)],
        "rewards": [REWARD],
        "methods": methods,
        "seeds": 1,
        "n": 2,
        "conditions_per_cell": per,
        "held_out_conditions": held_out,
        **more,
    }


def planned(method, *args, **more):
    (row,) = expand(build_suite(content([method], *args, **more)))
    assert row.status == "pending", row.reason
    return row


def fitted(row):
    attempt = Job(row.fit.cell).run()
    assert attempt.status == "ok", attempt.log
    return attempt


@pytest.mark.parametrize(
    "method", [ITM, *FITS, *(pytest.param(m, marks=pytest.mark.slow) for m in SLOW)]
)
def test_one_fit_is_for_all_prompts_of_a_cell(method, monkeypatch):
    """Both ledgers are as predicted, and the fit heard every prompt."""
    monkeypatch.setattr(regression, "PILOT", 16)
    row = planned(method)
    fit = fitted(row)
    assert row.fit.cell.conditions == row.cell.conditions
    assert fit_agrees(row.fit, fit), (row.fit.predicted, fit.work)
    sampled = Job(row.cell, fitted=fit.fitted).run()
    assert sampled.status == "ok", sampled.log
    assert rows_agree(row, sampled)
    base = unpack_samples(Job(row.cell, fitted=None).run().samples).x
    assert (unpack_samples(sampled.samples).x - base).abs().flatten(1).amax(1).min() > 0


def test_base_samples_are_made_under_every_prompt_of_the_fit():
    row = planned(ITM)
    problem = make_fit_problem(row.fit.cell, instances_of(row.fit.cell), Meter())
    alone = [
        make_fit_problem(one, instances_of(one), Meter()).data(4, 0) for one in row.fit.cell.each
    ]
    for part, data in zip(problem.each, alone, strict=True):
        assert torch.equal(part.data(4, 0), data)
    assert problem.conditions == list(row.cell.conditions)
    assert (alone[0] - alone[1]).abs().max() > 1e-3


def test_what_is_trained_hears_the_prompt_whose_turn_it_is():
    """So does its moving average, and every other copy."""
    from copy import deepcopy

    row = planned(ITM)
    instances = instances_of(row.fit.cell)
    problem = make_fit_problem(row.fit.cell, instances, Meter())
    model = problem.trainable_flow(2)
    x, t = torch.ones(2, *model.event_shape), torch.full((2,), 0.5)
    for k, condition in enumerate(row.fit.cell.conditions):
        assert problem.take_turn(k) is problem.each[k]
        wanted = instances.task.flow.velocity(x, t, condition)
        for copy in (model, deepcopy(model)):
            assert torch.allclose(copy.velocity(x, t), wanted, atol=1e-6)


def test_a_fit_of_one_prompt_is_what_it_was():
    """In its id, and so in its weights; a fit that sees one of three is that of the one."""
    one, *others = expand(build_suite(content([ITM], per=1)))
    assert len(others) == 2
    assert planned(ITM).fit.id != one.fit.id
    assert planned(ITM, 3, 2).fit.id == one.fit.id


def test_a_fit_over_two_prompts_raises_the_reward_of_both():
    row = planned(
        "draft-k:rank=4,iterations=16,batch=4,steps=5,fit_steps=3,learning_rate=0.03", 3, 1
    )
    means = []
    for weights in (None, fitted(row).fitted):
        sampled = Job(row.cell, metrics=("reward",), fitted=weights).run()
        means.append([m.value for m in sampled.metrics if m.metric == "reward"])
    gains = [after - before for before, after in zip(*means, strict=True)]
    assert len(gains) == 3
    assert min(gains[:2]) > 1e-4, gains


def test_held_out_prompts_are_sampled_and_named(tmp_path):
    store = Store(str(tmp_path), "prompts")
    outcome = run_suite(
        build_suite(content([DRAFT, "prior:steps=5"], 3, 1)), store, Inline, Silent()
    )
    assert outcome.failed == 0
    fit = next(row.fit for row in outcome.plan if row.fit)
    assert [one.condition for one in fit.cell.each] == PROMPTS.split("|")[:2]
    for name in ("metrics", "samples"):
        table = store.table(name).merge(store.table("cells")[["cell", "method_name"]])
        unseen = table[table["held_out"]]
        assert set(unseen["condition"]) == {"a small boat at sea"}
        assert set(unseen["method_name"]) == {"draft-k"}
    cells = store.table("cells")
    assert cells["predicted_equal"].all()
    assert cells[cells["fit"] != ""]["fit_predicted_equal"].all()
    found = load_run(tmp_path / "prompts")
    entries = summarise(found.cells, found.metrics).entries
    notes = {e.method.partition(":")[0]: e.estimate("reward").note for e in entries}
    assert "under the 1 held-out conditions" in notes["draft-k"]
    assert "held-out" not in notes["prior"]


def test_a_method_that_fits_one_prompt_at_a_time_has_a_cell_for_each(monkeypatch):
    monkeypatch.setattr(plugins.load("methods", "itm"), "many_conditions", False)
    rows = expand(build_suite(content([ITM], 3, 1)))
    assert [row.cell.condition for row in rows] == PROMPTS.split("|")
    assert [row.status for row in rows] == ["pending", "pending", "skipped"]
    assert rows[0].fit.cell.condition == "a red fox"


def test_a_fit_is_left_something_to_see():
    with pytest.raises(UserError, match="raise conditions_per_cell"):
        build_suite(content([ITM], 1, 1))
    with pytest.raises(UserError, match="choose another conditions_per_cell"):
        expand(build_suite(content([ITM], 2, 1)))


def test_a_killed_fit_goes_on_with_the_prompt_that_is_next(tmp_path):
    """The weights and the ledger are those of a fit that was not killed."""
    cell = planned(DRAFT).fit.cell
    whole = fitted(planned(DRAFT))
    problem = make_fit_problem(cell, instances_of(cell), Meter(count_flops=True))
    for part in problem.each:
        part.problem.workdir = tmp_path
    second = problem.each[1].problem
    score, calls = second.reward, []

    def killed(x):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return score(x)

    second.reward = killed
    with pytest.raises(KeyboardInterrupt):
        instances_of(cell).method.fit(problem)
    again = Job(cell, workdir=tmp_path).run()
    assert again.status == "ok", again.log
    assert again.fitted == whole.fitted
    for name, rows in whole.work.items():
        if name not in ("seconds", "peak_bytes"):
            assert again.work[name] == rows, name


@pytest.mark.parametrize("size", [1, 2])
def test_data_of_a_fit_are_those_of_its_labels(size):
    """The flow of `shapes` hears the noun: pairs of another class are none of its own."""
    given = content(["itm:iterations=2,batch=2"], size)
    row = expand(build_suite({**given, "tasks": ["shapes"], "rewards": ["prompt"]}))[0]
    instances = instances_of(row.fit.cell)
    problem = make_fit_problem(row.fit.cell, instances, Meter())
    for part, noun in zip(problem.each, ("circle", "triangle")[:size], strict=True):
        shown = instances.task.decode(part.data(64, 0)).detach()
        found = shapes_judge.measure(shown).agreement(parse(f"a {noun}"))
        assert found.mean() > 0.8, noun
