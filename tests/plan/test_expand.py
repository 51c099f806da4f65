"""From a suite to rows: a method is matched once, and every row is a cell of its own."""

import json
import pickle
from dataclasses import asdict, replace

import pytest

from bench.core import cells
from bench.core.methods import FineTuning
from bench.core.units import UNITS
from bench.core.work import Work, backward, forward
from bench.plan import questions
from bench.plan.binding import bind
from bench.plan.expand import expand
from bench.plan.matching import match
from bench.plan.prediction import fit_work, sample_work
from bench.plan.suite import build_suite
from methods.finetuning.mfm_ft import MFMFineTuning
from methods.steering.dps import DPS
from methods.steering.mfm import MFMGradient

SHAPES = {
    "name": "once",
    "tasks": ["shapes"],
    "rewards": ["prompt:strength=30"],
    "methods": ["prior", "mfm-g", "itm"],
    "budgets": ["paper-nfe=60:fit=100000", "paper-nfe=120:fit=100000"],
    "seeds": 3,
    "n": 8,
}


@pytest.fixture
def matched(monkeypatch) -> list[str]:
    """Every method that is matched, as often as it is."""
    seen: list[str] = []

    def counted(method, *rest):
        seen.append(type(method).__name__)
        return match(method, *rest)

    monkeypatch.setattr(questions, "match", counted)
    return seen


def test_a_method_is_matched_once_for_all_conditions_and_seeds(matched):
    rows = expand(build_suite(SHAPES))
    conditions = {str(row.cell.condition) for row in rows}
    assert len(conditions) > 1
    assert len(rows) == 3 * 2 * 3 * len(conditions)
    assert sorted(matched) == sorted(["Prior", "MFMGradient", "ImplicitTiltMatching"] * 2)


def test_problems_of_one_shape_share_a_match(matched):
    """What rows decide depends on parameters, shapes and flags: the reward's name is none."""
    content = {**SHAPES, "tasks": ["gmm-paper"], "rewards": ["linear", "quadratic"], "seeds": 1}
    rows = expand(build_suite({**content, "methods": ["dps"], "budgets": ["paper-nfe=100"]}))
    assert len(rows) == 2 and matched == ["DPS"]
    assert rows[0].matched == rows[1].matched == {"steps": 25}


def test_every_row_has_a_cell_of_its_own():
    rows = expand(build_suite(SHAPES))
    assert len({row.row for row in rows}) == len(rows)
    fitted = [row for row in rows if row.fit is not None]
    for row in fitted:
        assert row.cell.fit == row.fit.id
        assert row.fit.cell.condition == row.cell.condition
        assert row.fit.cell.seed == row.cell.seed == row.cell.method_params["fit_seed"]
    # One fit for a condition and a seed, whatever the budget of sampling.
    repeated = {(str(row.cell.condition), row.cell.seed) for row in fitted}
    assert len({row.fit.id for row in fitted}) == len(repeated)


@pytest.mark.parametrize(
    ("asked", "seed"),
    [({"methods": ["itm:fit_seed=2"]}, 2), ({"methods": ["itm"], "fits": "shared"}, 0)],
)
def test_seeds_share_a_fit_that_is_named_or_if_they_are_told_to(asked, seed):
    rows = expand(build_suite({**SHAPES, **asked}))
    fitted = [row for row in rows if row.fit is not None]
    assert {row.fit.cell.seed for row in fitted} == {seed}
    assert len({row.cell.seed for row in fitted}) > 1
    assert len({row.fit.id for row in fitted}) == len({str(r.cell.condition) for r in fitted})


def test_an_id_is_worked_out_once(monkeypatch):
    cell = expand(build_suite(SHAPES))[0].cell
    fresh, calls = replace(cell, seed=7), []
    monkeypatch.setattr(cells, "canonical", lambda value: calls.append(1) or json.dumps(value))
    assert fresh.id == fresh.id and len(calls) == 1
    assert replace(fresh, seed=8).id != fresh.id
    assert "id" not in asdict(fresh)
    assert pickle.loads(pickle.dumps(fresh)).id == fresh.id


def test_guidance_doubles_the_rows_of_flow_and_map_and_nothing_else():
    spec = bind("gmm-paper", "linear").spec
    guided = replace(spec, guided=True)
    for method in (DPS.create(steps=10), MFMGradient.create(steps=10, draws=3)):
        plain, doubled = sample_work(method, spec), sample_work(method, guided)
        assert doubled.same_rows(replace_rows(plain, flow=2, map=2)), (
            f"{type(method).__name__}: {doubled} for {plain}"
        )
    fit = MFMFineTuning.create(iterations=10)
    assert isinstance(fit, FineTuning)
    assert fit_work(fit, guided).same_rows(replace_rows(fit_work(fit, spec), flow=2, map=2))


def replace_rows(work: Work, **factors: int) -> Work:
    total = Work()
    for role in ("flow", "map", "decoder", "reward", "oracle"):
        rows, factor = work.rows(role), factors.get(role, 1)
        total = (
            total + forward(role, factor * rows.forward) + backward(role, factor * rows.backward)
        )
    return total


def test_half_the_steps_fit_under_guidance():
    """DPS spends two flow rows and two reward rows a step, and twice the former when guided."""
    spec = bind("gmm-paper", "linear").spec
    found = [
        match(DPS.create(), replace(spec, guided=guided), 120, lambda w: w.cost("model-nfe"), {})
        for guided in (False, True)
    ]
    assert [match.values["steps"] for match in found] == [120, 60]


def test_a_unit_knows_how_it_counts():
    work = forward("flow", 3) + backward("reward", 2) + Work(flops=7.0, seconds=0.5)
    assert {name: work.cost(name) for name in UNITS} == {
        "paper-nfe": 5,
        "model-nfe": 3,
        "flops": 7,
        "seconds": 0.5,
    }
    assert [name for name, unit in UNITS.items() if unit.piloted] == ["flops", "seconds"]
