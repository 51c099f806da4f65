"""All weights of every family of pipelines, fitted by two workers that hold a half each."""

from functools import partial

import pytest

from bench.plan.expand import expand
from bench.plan.suite import build_suite
from bench.runner.fitting import fit
from tests.methods.finetuning.test_shared_fits import far
from tests.worlds.pipeline_flows import planned_rows
from tests.worlds.tiny_pipelines import PIPELINES
from tests.worlds.two_workers import together

FIT = "itm:iterations=3,batch=4"
REFUSED = "dit"
"""diffusers' DiT asks the first block's embedding for the time, past the block."""


def cell_of(name):
    if name == "shapes":
        given = {"tasks": [name], "rewards": ["prompt"], "methods": [FIT], "n": 2, "seeds": 1}
        return expand(build_suite({"name": "t", **given}))[0].fit.cell
    (row,) = planned_rows(name, [FIT], own_samples=4, own_steps=2)
    return row.fit.cell


NAMES = (*PIPELINES, "shapes")


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What both ranks say of each fit, in the order of the names."""
    folder = tmp_path_factory.mktemp("divided")
    jobs = [partial(fit, cell_of(name), None, folder / str(k)) for k, name in enumerate(NAMES)]
    return together("divided", jobs, folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name != REFUSED])
def test_two_workers_with_a_half_each_fit_as_one(told, name):
    """Adam moves weights that have next to no gradient by the sign of its rounding."""
    alone = fit(cell_of(name), None, None)
    ours = [told[rank, NAMES.index(name)] for rank in range(2)]
    assert [one.made.ending.status for one in ours] == ["ok"] * 2, ours[0].made.ending
    assert max(far(one.made, alone) for one in ours) < 1e-3
    rows = ("flow_forward", "flow_backward")
    assert all(sum(one.made.work[n] for one in ours) == alone.work[n] for n in rows)
    halves = [one.held for one in ours]
    assert max(halves) < 1.01 * min(halves)


@pytest.mark.slow
def test_a_block_that_is_entered_from_the_side_is_refused_in_one_sentence(told):
    ending = told[0, NAMES.index(REFUSED)].made.ending
    assert ending.status == "failed"
    assert "a part of one of its blocks without the block: leave fsdp out" in ending.reason
