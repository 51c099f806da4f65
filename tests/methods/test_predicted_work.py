"""Every built-in method on every task and reward: predicted work is measured work, to the row."""

import pytest
import torch

from bench.core import plugins
from bench.core.cells import Cell
from bench.core.metering import Meter
from bench.core.work import Budget
from bench.plan.binding import bind
from bench.plan.expand import expand
from bench.plan.suite import build_suite
from bench.runner.cell import Job, sample_in_batches
from bench.runner.instances import instances_of
from bench.runner.problems import make_problem

METHODS = [
    "prior",
    "prior:solver=heun",
    "exact",
    "oracle:steps=5,integrator=ancestral",
    "best-of-n",
    "best-of-n-fewstep",
    "dps:steps=5",
    "dps:steps=5,scale=rescale,integrator=sde",
    "rollout:steps=5,draws=2,inner_steps=3",
    "rollout:steps=5,draws=2,posterior=sde,inner_steps=3,integrator=ancestral",
    "rollout:steps=5,draws=2,inner_steps=2,estimator=G",
    "rollout:steps=5,draws=2,posterior=glass-heun,inner_steps=1",
    "rollout:steps=5,draws=2,posterior=glass-heun,inner_steps=2,estimator=G",
    "mfm-g:steps=5,draws=2,scale=clip",
    "mfm-g:steps=5,draws=2,inner_steps=2",
    "mfm-g:steps=5,draws=2,posterior=glass,inner_steps=3",
    "mfm-g:steps=5,draws=3,posterior=gaussian",
    "mfm-gf:steps=5,draws=2",
    "mfm-gf:steps=5,draws=3,posterior=exact",
    "mfm-gf:steps=5,draws=3,posterior=sde,inner_steps=2",
]
WORLDS = {
    "gmm-paper": ["linear", "quadratic", "inverse"],
    "gmm:dimension=3": ["linear", "quadratic", "inverse"],
    "digits": ["class-mixture", "class", "inpaint", "template"],
}


def rows(task, reward, methods, n=6, budget="none", batch=1024):
    content = {
        "name": "t",
        "tasks": [task],
        "rewards": [reward],
        "methods": methods,
        "seeds": 1,
        "n": n,
        "budgets": [budget],
        "batch": batch,
    }
    return expand(build_suite(content))


def sampled(cell: Cell, limit=None):
    instances, meter = instances_of(cell), Meter(limit)
    problem = make_problem(cell, instances, meter, range(cell.n))
    samples = sample_in_batches(instances.method, problem, cell)
    return samples, meter.work()


@pytest.mark.parametrize(("task", "reward"), [(t, r) for t, rs in WORLDS.items() for r in rs])
def test_predicted_work_is_measured_work(task, reward):
    ran = 0
    for row in rows(task, reward, METHODS):
        if row.status == "skipped":
            continue
        samples, work = sampled(row.cell)
        assert work.same_rows(row.predicted * row.cell.n), row.method_label
        assert samples.x.shape == (row.cell.n, *instances_of(row.cell).task.event_shape)
        assert torch.isfinite(samples.x).all()
        ran += 1
    assert ran >= 10


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_samples_whatever_the_batch(method):
    """128 rows at once and in batches of 50 agree up to rounding; another seed differs."""
    (whole,) = rows("gmm-paper", "linear", [method], n=128)
    (parts,) = rows("gmm-paper", "linear", [method], n=128, batch=50)
    assert whole.id == parts.id
    x, y = sampled(whole.cell)[0].x, sampled(parts.cell)[0].x
    assert torch.allclose(x, y, atol=1e-3), (x - y).abs().max()
    assert torch.equal(x, sampled(whole.cell)[0].x)


def test_methods_are_compared_with_common_noise():
    """With no guidance every steering method is the base model from the same initial noise."""
    labels = ["mfm-g", "dps", "mfm-gf:draws=3", "rollout:draws=2"]
    joined = [f"{m}{',' if ':' in m else ':'}guidance=0,steps=8" for m in labels]
    out = [sampled(row.cell)[0].x for row in rows("gmm-paper", "linear", joined)]
    assert all(torch.allclose(out[0], other, atol=1e-5) for other in out[1:])


def test_one_draw_gradient_free_is_the_base_model():
    base, one = rows("gmm-paper", "inverse", ["dps:guidance=0,steps=8", "mfm-gf:draws=1,steps=8"])
    assert torch.allclose(sampled(base.cell)[0].x, sampled(one.cell)[0].x, atol=1e-5)


def test_over_budget_is_a_status():
    (row,) = rows("gmm-paper", "linear", ["mfm-g:steps=10,draws=2"])
    too_little = Budget("paper-nfe", 20.0)
    attempt = Job(row.cell, too_little).run()
    assert attempt.status == "over_budget" and "exceeds" in attempt.reason
    assert attempt.costs["paper-nfe"] <= 20


def test_what_is_missing_is_said():
    by_method = {r.cell.method: r for r in rows("digits", "template", ["oracle", "exact", "dps"])}
    assert by_method["oracle"].status == "skipped"
    assert "closed-form value function" in by_method["oracle"].reason
    assert by_method["dps"].status == "pending"
    (row,) = rows("gmm-paper", "linear", ["mfm-g:posterior=exact"])
    assert "gradients pass through" in row.reason
    (row,) = rows("gmm-paper", "class-mixture", ["prior"])
    assert "scores 8x8 digits" in row.reason


def test_predictions_load_no_weights(monkeypatch):
    from bench.models import weights

    monkeypatch.setattr(weights, "read_weights", lambda path: pytest.fail("weights were loaded"))
    assert bind("digits", "template").spec.has_flow_map
    assert rows("digits", "class-mixture", ["mfm-g"], budget="paper-nfe=100")[0].matched


def test_steering_with_the_closed_form_reaches_the_tilted_law():
    """The oracle's sliced W2 is the floor's, up to its noise; the prior is far away."""
    content = {
        "name": "t",
        "tasks": ["gmm-paper"],
        "rewards": ["inverse"],
        "n": 2048,
        "seeds": 4,
        "methods": ["exact", "oracle:steps=100", "prior:steps=50"],
    }
    found: dict[str, list[float]] = {}
    for row in expand(build_suite(content)):
        attempt = Job(row.cell, None, ("sliced-w2",)).run()
        found.setdefault(row.cell.method, []).append(attempt.metrics[0].value)
    mean = {name: sum(values) / len(values) for name, values in found.items()}
    assert mean["oracle"] < 2 * mean["exact"]
    assert mean["prior"] > 8 * mean["exact"]


def test_every_builtin_is_documented():
    for group in ("methods", "rewards", "tasks", "metrics"):
        for plugin in plugins.describe(group):
            if plugin.distribution == "tiltbench":
                assert len(plugin.summary) > 20, plugin
    for plugin in plugins.describe("methods"):
        if plugin.distribution == "tiltbench":
            assert "Cost per sample" in (plugins.load("methods", plugin.name).__doc__ or "")
