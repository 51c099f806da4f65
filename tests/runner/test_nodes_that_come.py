"""A node that joins a cluster in the middle of a run computes what is left, or is refused."""

import os
import shutil
import time
from dataclasses import dataclass

import pytest

from bench.core.params import UserError
from bench.models.weights import PACKAGE
from bench.plan.expand import expand
from bench.plan.suite import build_suite
from bench.record.attempt import Attempt
from bench.runner.cell import Job
from bench.runner.executors.ray import RayTune
from tests.runner import test_cluster
from tests.runner.test_cluster import CONTENT, run_on, spoil
from tests.worlds.silent import Silent

# A fixture: pytest looks for it in this module.
nodes = test_cluster.nodes


@dataclass(frozen=True)
class Napping(Job):
    """A job that takes its time, and says which worker had it."""

    def run(self):
        time.sleep(5.0)
        return Attempt(self.id, "ok", machine={"process": os.getpid()})


class Growing(Silent):
    """Does something as soon as a cell has ended."""

    def __init__(self, then):
        self.then = then

    def finished(self, row, attempt):
        if self.then is not None:
            self.then, then = None, self.then
            then()


@pytest.mark.slow
@pytest.mark.parametrize("nodes", [(0, 1)], indirect=True)
def test_a_node_that_joins_computes_what_is_left(nodes):
    """One worker at the beginning; another as soon as the first cell has ended."""
    made, _, _ = nodes
    jobs = [Napping(row.cell) for row in expand(build_suite(CONTENT | {"seeds": 6}))]
    attempts = []

    def sink(attempt):
        attempts.append(attempt)
        if len(attempts) == 1:
            made.add_node(num_cpus=1, num_gpus=0)

    RayTune(made.address).run(jobs, sink)
    assert sorted(a.cell for a in attempts) == sorted(job.id for job in jobs)
    assert len({a.machine["process"] for a in attempts}) == 2, "both have computed"


@pytest.mark.slow
@pytest.mark.parametrize("nodes", [(0, 1)], indirect=True)
def test_a_node_that_joins_with_other_weights_is_refused_by_name(nodes, tmp_path):
    """The node of the beginning has the right weights, the one that comes later others."""
    made, _, right = nodes
    wrong = tmp_path / "wrong"
    shutil.copytree(right, wrong)
    content = spoil(wrong) | {"seeds": 6, "n": 2048}
    own = {"TILTBENCH_WEIGHTS": str(wrong)}
    joined = Growing(lambda: made.add_node(num_cpus=1, num_gpus=0, env_vars=own))
    with pytest.raises(UserError) as refused:
        run_on(made, tmp_path / "two", content, joined)
    said = str(refused.value)
    assert said.startswith("the node ") and "the weights 'digits' are" in said
    kept = list((tmp_path / "two").glob("digits/cells/*/attempts/*"))
    assert 1 <= len(kept) < 6
    shutil.copy(PACKAGE / "digits.safetensors", wrong / "digits.safetensors")
    _, outcome = run_on(made, tmp_path / "two", content)
    assert outcome.executed == 6 - len(kept), "the same command goes on"
    assert outcome.statuses["ok"] == 6
