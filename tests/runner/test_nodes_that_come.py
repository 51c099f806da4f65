"""A node that joins a cluster in the middle of a run computes what is left, or is refused."""

import shutil

import pytest

from bench.core.params import UserError
from bench.models.weights import PACKAGE
from tests.runner import test_cluster
from tests.runner.test_cluster import CONTENT, hashes, run_on, spoil
from tests.runner.test_resume import Silent, run_inline

# A fixture: pytest looks for it in this module.
nodes = test_cluster.nodes

TWELVE = CONTENT | {"seeds": 6, "n": 1024, "batch": 64}


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
def test_a_node_that_joins_computes_what_is_left(nodes, tmp_path):
    made, _, _ = nodes
    joined = Growing(lambda: made.add_node(num_cpus=1, num_gpus=0))
    two, outcome = run_on(made, tmp_path / "two", TWELVE, joined)
    assert outcome.executed == 12 and outcome.statuses == {"ok": 12}
    attempts = [two.index.last(cell).attempt for cell in two.table("cells").cell]
    assert len({attempt.machine["process"] for attempt in attempts}) == 2, "both have computed"
    one, _ = run_inline(tmp_path / "one", TWELVE)
    assert hashes(two) == hashes(one)


@pytest.mark.slow
@pytest.mark.parametrize("nodes", [(0, 1)], indirect=True)
def test_a_node_that_joins_with_other_weights_is_refused_by_name(nodes, tmp_path):
    """The node of the beginning has the right weights, the one that comes later others."""
    made, _, right = nodes
    wrong = tmp_path / "wrong"
    shutil.copytree(right, wrong)
    content = spoil(wrong) | {"seeds": 6, "n": 512}
    own = {"TILTBENCH_WEIGHTS": str(wrong)}
    joined = Growing(lambda: made.add_node(num_cpus=1, num_gpus=0, env_vars=own))
    with pytest.raises(UserError) as refused:
        run_on(made, tmp_path / "two", content, joined)
    said = str(refused.value)
    assert said.startswith("the node ") and "the weights 'digits' are" in said
    kept = list((tmp_path / "two").glob("digits/cells/*/attempts/*"))
    assert 1 <= len(kept) < 12
    shutil.copy(PACKAGE / "digits.safetensors", wrong / "digits.safetensors")
    store, outcome = run_on(made, tmp_path / "two", content)
    assert outcome.executed == 12 - len(kept), "the same command goes on"
    assert hashes(store)
