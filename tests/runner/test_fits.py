"""Fits in the runner: shared by the cells that sample from them, with a ledger of their own."""

import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint
from pathlib import Path
from subprocess import PIPE

import pytest
import torch

from bench.api import FineTuning, FitProblem, Fitted, Samples, backward, forward
from bench.core import plugins
from bench.core.adapters import trained_state
from bench.core.integrate import euler, integrate, uniform_grid
from bench.core.params import UserError, param
from bench.core.work import Budget, Work
from bench.plan.budgets import parse_budget
from bench.plan.expand import expand
from bench.plan.suite import build_suite
from bench.record.store import Store
from bench.runner import pilots
from bench.runner.audit import audit
from bench.runner.executors.inline import Inline
from bench.runner.pilots import Measured
from bench.runner.run import pilots_of, run_suite

BATCH = 8


class Drift(FineTuning):
    """Learns the base velocity plus a constant."""

    @dataclass(frozen=True)
    class Params:
        steps: int = param(4, low=2, high=200)
        iterations: int = param(3, low=2, high=10_000)
        constant: float = param(1.0)
        fit_seed: int = param(0, low=0)
        rank: int = param(0, low=0)

    effort = ("steps",)
    fits = 0

    def work(self, spec):
        return forward("flow", self.params.steps)

    def fit_work(self, spec):
        return (2 * forward("flow", BATCH) + backward("flow", BATCH)) * self.params.iterations

    def fit(self, problem: FitProblem) -> Fitted:
        type(self).fits += 1
        flow = problem.trainable_flow(self.params.rank)
        optimizer = torch.optim.Adam(flow.parameters(), lr=1e-3)
        for k in range(self.params.iterations):
            x1 = problem.data(BATCH, k)
            x0 = problem.problem.noise("x0", k, x1.shape[1:], range(BATCH))
            t = torch.rand(BATCH, generator=torch.Generator().manual_seed(k))
            x = torch.lerp(x0, x1, t[:, None, None, None])
            target = problem.problem.flow.velocity(x, t) + self.params.constant
            loss = (flow.velocity(x, t) - target.detach()).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            problem.log(k, loss=float(loss.detach()))
        return Fitted(trained_state(flow, self.params.rank), {"loss": float(loss.detach())})

    @torch.no_grad()
    def sample(self, problem, n):
        grid = uniform_grid(self.params.steps)
        return Samples(integrate(euler(problem.flow.velocity), problem.x0(), grid))


class Diverging(Drift):
    """Its fit fails."""

    def fit(self, problem):
        raise FloatingPointError("the loss is not finite at step 0")


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setattr(Drift, "fits", 0)
    for name in ("Drift", "Diverging"):
        point = EntryPoint(name.lower(), f"{__name__}:{name}", "bench.methods")
        monkeypatch.setitem(plugins._installed("methods"), name.lower(), [point])


def content(*methods, budgets=("none",), **more):
    return {
        "name": "fits",
        "tasks": ["digits"],
        "rewards": ["class-mixture:strength=1"],
        "methods": list(methods),
        "budgets": list(budgets),
        "n": 12,
        "seeds": 2,
        **more,
    }


class Silent:
    def begin(self, total, workers):
        pass

    def finished(self, row, payload):
        pass


def run(root, suite, **options):
    store = Store(str(root), "fits")
    return store, run_suite(build_suite(suite), store, Inline, Silent(), **options)


def test_cells_share_a_fit_and_a_second_run_does_nothing(tmp_path):
    suite = content("drift", "drift:steps=6")
    store, outcome = run(tmp_path, suite)
    assert outcome.statuses == {"ok": 4}
    assert Drift.fits == 2
    cells = store.table("cells")
    assert cells.groupby("seed")["fit"].nunique().eq(1).all() and cells["fit"].nunique() == 2
    assert cells["fit_predicted_equal"].all() and cells["predicted_equal"].all()
    assert (cells["fit_paper_nfe"] == 3 * BATCH * 3).all()
    assert (cells["fit_flow_backward"] == 3 * BATCH).all()
    assert (cells["fit_flops_total"] > 0).all()
    _, again = run(tmp_path, suite)
    assert (again.executed, again.cached, Drift.fits) == (0, 4, 2)


def test_what_decides_the_fit_makes_another_one(tmp_path):
    store, _ = run(tmp_path, content("drift", "drift:constant=2", "drift:fit_seed=1"))
    fits = store.table("cells").groupby("method")["fit"].nunique()
    assert fits.to_dict() == {"drift": 2, "drift:constant=2": 2, "drift:fit_seed=1": 1}
    # the fit that is named is that of one of the seeds
    assert store.table("cells")["fit"].nunique() == Drift.fits == 4


def test_samples_come_from_the_fitted_flow(tmp_path):
    from bench.runner.measuring import unpack_samples

    far = "drift:iterations=200,constant=5"
    store, outcome = run(tmp_path, content("prior:steps=4", far, seeds=1))
    base, fitted = (unpack_samples(store.index.samples(row.id)).x for row in outcome.plan)
    assert (fitted - base).mean() > 0.05
    fit = outcome.plan[1].fit
    curve = store.read(f"cells/{fit.id}/attempts/1/curve.parquet")
    assert len(curve) > 0 and "loss" in store.index.last(fit.id).attempt.info


def test_a_failed_fit_is_the_fate_of_its_cells(tmp_path):
    store, outcome = run(tmp_path, content("diverging:fit_seed=0"))
    assert outcome.statuses == {"diverged": 2}
    assert outcome.failed == 2
    reasons = set(store.table("cells")["reason"])
    assert reasons == {"its fit: the loss is not finite at step 0"}
    again = content("diverging:fit_seed=0")
    assert run(tmp_path, again)[1].executed == 0
    assert run(tmp_path, again, retry_failed=True)[1].executed == 1


def planned(*budgets, method="drift"):
    return expand(build_suite(content(method, budgets=budgets, seeds=1)))


def test_a_fit_is_matched_to_its_budget():
    (row,) = planned("paper-nfe=50:fit=2400")
    assert row.fit.cell.method_params["iterations"] == 100
    assert row.fit.cost == 2400
    assert row.cell.method_params["steps"] == 50
    assert row.cell.fit == row.fit.id


def test_a_served_sample_carries_its_share_of_the_fit():
    (row,) = planned("paper-nfe=50:fit=2400,served=100")
    assert row.cell.method_params["steps"] == 50 - 24
    (row,) = planned("paper-nfe=50:served=2", method="drift:iterations=10")
    assert row.status == "infeasible" and "share of the fit" in row.reason
    (row,) = planned("paper-nfe=50:fit=24")
    assert row.status == "infeasible" and row.reason == "the fit needs at least 48 paper-nfe"


def test_methods_without_a_fit_ignore_its_terms():
    (row,) = planned("paper-nfe=50:fit=2400,served=100", method="prior")
    assert row.fit is None and row.cell.method_params["steps"] == 50


def test_fits_are_priced_in_flops(tmp_path):
    store = Store(str(tmp_path), "fits")
    store.open()
    suite = content("drift", budgets=["flops=1e8:fit=1e10"], seeds=1)
    (row,) = expand(build_suite(suite), pilots_of(store))
    assert 0.9 <= row.fit.cost / row.budget.fit_budget <= 1
    _, outcome = run(tmp_path, suite)
    assert outcome.statuses == {"ok": 1}
    measured = store.table("cells").iloc[0]["fit_flops_total"]
    assert measured == pytest.approx(row.fit.cost, rel=0.01)


def test_fits_are_priced_in_seconds_by_a_pilot(tmp_path, monkeypatch):
    """The pilot's two iterations take 0.5 s in all: 40 s pay for 160."""
    rates = {("flow", "forward"): 3.0, ("flow", "backward"): 6.0}
    shortest = (2 * forward("flow", BATCH) + backward("flow", BATCH)) * 2
    found = Measured(replace(shortest, seconds=0.5), rates)
    monkeypatch.setattr(pilots, "pilot_fit", lambda cell, method: found)
    monkeypatch.setattr(pilots, "pilot", lambda cell, method, n: Measured(Work(), {}))
    monkeypatch.setattr(pilots, "_seconds", lambda cell, method: 0.1 * method.params.steps)
    store = Store(str(tmp_path), "fits")
    store.open()
    suite = content("drift", budgets=["seconds=2:fit=40", "seconds=2:fit=40,served=40"], seeds=1)
    alone, served = expand(build_suite(suite), pilots_of(store))
    assert alone.fit.cell.method_params["iterations"] == 160
    assert alone.fit.cost == pytest.approx(40)
    assert alone.cell.method_params["steps"] == 20
    assert served.cell.method_params["steps"] == 10


def test_an_audit_counts_the_fit_again(tmp_path):
    store, outcome = run(tmp_path, content("drift"))
    findings = audit(store, outcome.plan, flops=True)
    assert [f.method for f in findings] == ["drift", "drift (fit)"]
    assert all(f.ok for f in findings)
    assert findings[1].counted_flops > 0


def test_a_fit_that_overruns_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(Drift, "fit_work", lambda self, spec: forward("flow", 1))
    _, outcome = run(tmp_path, content("drift", budgets=["paper-nfe=50:fit=30"]))
    assert outcome.statuses == {"over_budget": 2}


@pytest.mark.parametrize(
    "text, budget",
    [
        ("paper-nfe=50:fit=1e6,served=100", Budget("paper-nfe", 50, "sample", 1e6, 100)),
        ("flops=1e9/run:served=10", Budget("flops", 1e9, "run", None, 10)),
    ],
)
def test_budgets_with_fits_are_read_and_written(text, budget):
    assert parse_budget(text) == budget
    assert parse_budget(str(budget)) == budget


@pytest.mark.parametrize("text", ["paper-nfe=5:fits=3", "paper-nfe=5:fit", "paper-nfe=5:fit=x"])
def test_bad_fit_terms_are_refused(text):
    with pytest.raises(UserError, match=r"budget"):
        parse_budget(text)


def test_sampling_may_not_spend_the_fits_share(tmp_path, monkeypatch):
    """50 per sample of which the fit takes 24: a sampler that takes 30 is stopped."""
    (row,) = planned("paper-nfe=50:fit=2400,served=100")
    assert row.limit == Budget("paper-nfe", 26)

    def greedy(self, problem, n):
        x = problem.x0()
        for _ in range(30):
            x = x + problem.flow.velocity(x, torch.full((n,), 0.5)) * 0
        return Samples(x)

    monkeypatch.setattr(Drift, "sample", greedy)
    _, outcome = run(tmp_path, content("drift", budgets=["paper-nfe=50:fit=2400,served=100"]))
    assert outcome.statuses == {"over_budget": 2}
    _, outcome = run(tmp_path, content("drift", budgets=["paper-nfe=50:fit=2400"]))
    assert outcome.statuses == {"ok": 2}


KILLED = {
    "name": "fits",
    "tasks": ["gmm-paper"],
    "rewards": ["linear"],
    "methods": ["itm:iterations=160,batch=64,steps=4"],
    "n": 8,
    "seeds": 1,
}


def command(root: Path, suite: Path) -> list[str]:
    options = ["--root", str(root), "--executor", "inline", "--no-track"]
    return [sys.executable, "-m", "bench", "run", str(suite), *options]


def test_a_killed_fit_goes_on_from_its_last_checkpoint(tmp_path):
    """It ends in the bits and with the work of a fit that nobody disturbed."""
    suite = tmp_path / "fits.yaml"
    suite.write_text(json.dumps(KILLED))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(whole, suite), check=True, capture_output=True)
    driver = subprocess.Popen(command(killed, suite), stdout=PIPE, stderr=PIPE)
    while not list(killed.glob("fits/work/*/fit/*.pt")):
        assert driver.poll() is None, driver.communicate()
        time.sleep(0.01)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    assert not list(killed.glob("fits/cells/*/attempts/*/result.json")), "it was over before"
    steps = [int(re.sub(r"\D", "", p.stem)) for p in killed.glob("fits/work/*/fit/*.pt")]
    assert 0 < max(steps) < 160

    subprocess.run(command(killed, suite), check=True, capture_output=True)
    stores = [Store(str(root), "fits") for root in (whole, killed)]
    fits = {cell.fit for store in stores for cell in store.table("cells").itertuples()}
    (fit,) = fits
    assert stores[0].index.fitted(fit) == stores[1].index.fitted(fit)
    one, other = (store.table("cells").iloc[0] for store in stores)
    assert one["fit_predicted_equal"] and other["fit_predicted_equal"]
    for column in ("fit_paper_nfe", "fit_model_nfe", "fit_flow_backward"):
        assert one[column] == other[column]
    assert other["fit_flops_total"] == pytest.approx(one["fit_flops_total"], rel=1e-12)
    assert not list(killed.glob("fits/work/*")), "checkpoints of a fit that has ended"


def test_a_run_from_before_seeds_had_fits_of_their_own_is_planned_as_it_was(tmp_path):
    suite = content("drift", fits="shared")
    store, outcome = run(tmp_path, suite)
    assert Drift.fits == 1 and outcome.statuses == {"ok": 2}
    stored = store.suite()
    for block in stored["blocks"]:
        del block["fits"]
    store.save_suite(stored)
    again = expand(build_suite(Store(str(tmp_path), "fits").suite()))
    assert [row.id for row in again] == [row.id for row in outcome.plan]
