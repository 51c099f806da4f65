"""Two nodes of Ray in one process tree: the same samples, a lost node, a node that is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
import time
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace

import pytest
from typer.testing import CliRunner

from bench.cli.main import app
from bench.core.params import UserError
from bench.models.weights import PACKAGE
from bench.plan.expand import expand
from bench.plan.suite import build_suite
from bench.record.attempt import Attempt
from bench.record.store import Store
from bench.runner.cell import Job
from bench.runner.executors.ray import RayTune
from bench.runner.executors.ray_nodes import Node
from bench.runner.nodes import Look, Machine, differences, lacking, look
from bench.runner.run import run_suite
from tests.runner.test_resume import Silent, run_inline

CONTENT = {
    "name": "small",
    "tasks": ["gmm-paper"],
    "rewards": ["inverse"],
    "methods": ["dps", "oracle"],
    "budgets": ["paper-nfe=60"],
    "seeds": 2,
    "n": 96,
    "batch": 32,
}
LARGE = CONTENT | {"seeds": 3, "n": 2048, "batch": 64, "budgets": ["paper-nfe=200"]}
"""Six cells of 32 shards: a node is lost in the middle of one."""


@pytest.fixture
def nodes(request, tmp_path, monkeypatch):
    """A head and nodes of one core, the last of which has weights of its own.

    The parameter is (cores of the head, nodes beside it).
    """
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    weights = tmp_path / "weights"
    weights.mkdir()
    for name in ("digits.safetensors", "digits.json"):
        shutil.copy(PACKAGE / name, weights / name)
    cores, beside = request.param
    head = {"num_cpus": cores, "num_gpus": 0, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=head)
    try:
        plain = [made.add_node(num_cpus=1, num_gpus=0) for _ in range(beside - 1)]
        own = {"TILTBENCH_WEIGHTS": str(weights)}
        last = made.add_node(num_cpus=1, num_gpus=1, env_vars=own)
        yield made, [*plain, last], weights
    finally:
        made.shutdown()


def hashes(store):
    """SHA-256 of the samples of every cell."""
    cells = store.table("cells")
    assert (cells.status == "ok").all()
    return {c: hashlib.sha256(store.index.samples(c)).hexdigest() for c in cells.cell}


def run_on(nodes, root, content, watcher=None):
    suite = build_suite(content)
    store = Store(str(root), suite.name)
    executor = RayTune(nodes.address)
    return store, run_suite(suite, store, lambda: executor, watcher or Silent())


def spoil(weights):
    """Other weights of digits on the last node, of the same size; a suite that needs them."""
    path = weights / "digits.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    return CONTENT | {"name": "digits", "tasks": ["digits"], "rewards": ["template"]}


@pytest.mark.parametrize("nodes", [(1, 1)], indirect=True)
def test_two_nodes_give_what_one_process_gives_and_other_weights_are_refused(nodes, tmp_path):
    made, _, weights = nodes
    two, outcome = run_on(made, tmp_path / "two", CONTENT)
    one, _ = run_inline(tmp_path / "one", CONTENT)
    assert outcome.executed == 4 and hashes(two) == hashes(one)
    assert two.table("cells").predicted_equal.all()
    attempts = [two.index.last(cell).attempt for cell in two.table("cells").cell]
    processes = {attempt.machine["process"] for attempt in attempts}
    assert len(processes) == 2, "both nodes have computed"
    with pytest.raises(UserError) as refused:
        run_on(made, tmp_path / "two", spoil(weights))
    said = str(refused.value)
    assert said.startswith("the node ") and "the weights 'digits' are" in said
    assert "where the run was planned: copy the file from there" in said
    assert not list((tmp_path / "two").glob("digits/cells/*/attempts/*")), "nothing was computed"


@pytest.mark.slow
@pytest.mark.parametrize("nodes", [(0, 2)], indirect=True)
def test_the_doctor_asks_every_node(nodes, tmp_path):
    made, _, weights = nodes
    file, gone = tmp_path / "digits.json", tmp_path / "gone"
    file.write_text(json.dumps(spoil(weights)))
    asked = ["doctor", str(file), "--address", made.address, "--path", str(gone), "--json"]
    told = CliRunner().invoke(app, asked)
    assert told.exit_code == 1
    lacks = sorted(node["objections"] for node in json.loads(told.stdout)["nodes"])
    assert [len(sentences) for sentences in lacks] == [2, 1, 1], lacks
    assert all(f"there is no {gone} there: mount it" in sentences[-1] for sentences in lacks)


def test_what_the_doctor_says_of_nodes(monkeypatch):
    """Of three: one like this machine, one of another torch, one that does not answer."""
    here = Machine.here()
    found = [Look(here), Look(replace(here, host="far", torch="0.1", gpus=("a card",))), None]
    asked = [
        Node(f"10.0.0.{k}", {"CPU": 8.0}, one, "" if one else "it did not answer (x): install it")
        for k, one in enumerate(found)
    ]
    monkeypatch.setattr("bench.runner.executors.ray_cluster.cluster", lambda *_: nullcontext())
    monkeypatch.setattr("bench.runner.executors.ray_nodes.nodes_of", lambda *_: asked)
    told = CliRunner().invoke(app, ["doctor", "quickstart", "--address", "somewhere"])
    assert told.exit_code == 1
    assert f"10.0.0.1 (far): its torch is 0.1 and the driver's {here.torch}: run pip" in told.output
    assert "10.0.0.2: it did not answer (x): install it." in told.output
    assert "a card" in told.output and "as the driver" in told.output
    asked[1:] = []
    told = CliRunner().invoke(app, ["doctor", "quickstart", "--address", "somewhere"])
    assert told.exit_code == 0 and "1 node is as the driver" in told.output
    told = CliRunner().invoke(app, ["doctor", "--json"])
    assert isinstance(told.exception, UserError)


@pytest.mark.slow
@pytest.mark.parametrize("nodes", [(0, 2)], indirect=True)
@pytest.mark.parametrize("lost", [0, 1])
def test_a_node_killed_in_the_middle_loses_no_cell_and_no_finished_shard(nodes, tmp_path, lost):
    made, workers, _ = nodes
    root, stamps, open_cells = tmp_path / "two", {}, []

    class Killing(Silent):
        done = 0

        def finished(self, row, attempt):
            self.done += 1

    watcher, ended = Killing(), threading.Event()

    def watch():
        killed = False
        while not ended.is_set():
            found = stamped(root)
            for path, stamp in found.items():
                stamps.setdefault(path, set()).add(stamp)
            running = {path.parent.name for path in found}
            if not killed and watcher.done >= 2 and len(running) == 2:
                killed = True
                open_cells.extend(running)
                made.remove_node(workers[lost], allow_graceful=False)
            time.sleep(0.005)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        two, outcome = run_on(made, root, LARGE, watcher)
    finally:
        ended.set()
        thread.join()
    assert len(open_cells) == 2, "the node was not killed in the middle"
    assert outcome.executed == 6 and outcome.statuses == {"ok": 6}
    assert {number for cell in two.table("cells").cell for number in two.index._attempts(cell)} == {
        1
    }
    assert all(len(seen) == 1 for seen in stamps.values()), "a finished shard was computed again"
    one, _ = run_inline(tmp_path / "one", LARGE)
    assert hashes(two) == hashes(one)
    assert two.table("cells").predicted_equal.all()


def stamped(root):
    """Shards that are there now, with their times; folders go while they are listed."""
    found = {}
    for folder in root.glob("small/work/*"):
        with suppress(FileNotFoundError):
            found |= {path: path.stat().st_mtime_ns for path in folder.glob("*.shard")}
    return found


@dataclass(frozen=True)
class Asking(Job):
    """A job that tells what Ray set aside for it."""

    def run(self):
        import ray

        here, began = ray.get_runtime_context(), time.time()
        time.sleep(15.0)
        said = {"given": here.get_assigned_resources(), "span": (began, time.time())}
        return Attempt(self.id, "ok", machine=said | {"cards": here.get_accelerator_ids()["GPU"]})


@pytest.mark.slow
@pytest.mark.parametrize("nodes", [(2, 1)], indirect=True)
def test_parts_of_a_card_reach_ray(nodes):
    """Two cells share the one card that there is; a third waits for it."""
    made, _, _ = nodes
    content = CONTENT | {"seeds": 3, "methods": ["dps"], "resources": {"gpu": 0.5, "cpu": 0.25}}
    cells = [replace(row.cell, device="cuda") for row in expand(build_suite(content))]
    attempts = []
    RayTune(made.address).run([Asking(cell) for cell in cells], attempts.append)
    assert [a.status for a in attempts] == ["ok"] * 3
    assert all(a.machine["given"]["GPU"] == 0.5 for a in attempts)
    assert all(a.machine["given"]["CPU"] == 0.25 for a in attempts)
    assert all(a.machine["cards"] == ["0"] for a in attempts)
    spans = sorted(a.machine["span"] for a in attempts)
    assert spans[1][0] < spans[0][1], "two at once"
    assert spans[2][0] >= spans[0][1], "and no third"


def test_a_machine_that_differs_is_told_what_mends_it():
    here = Machine.here()
    assert differences(here, replace(here, host="other", gpus=("card",), cores=99)) == []
    other = replace(here, python="3.99.1", torch="0.1", code="0" * 64)
    said = differences(here, other)
    assert len(said) == 3 and "start Ray there from this Python" in said[0]
    assert f"pip install torch=={here.torch}" in said[1]
    assert "its code of tiltbench is 000000000000" in said[2] and "the same commit" in said[2]


def test_what_a_cell_lacks_is_said():
    digits = CONTENT | {"tasks": ["digits"], "rewards": ["template"]}
    (cell, *_) = [row.cell for row in expand(build_suite(digits))]
    assert list(lacking(cell)) == [] and look([cell]).lacks == ()
    newer = replace(cell, versions=cell.versions | {"method": "99"})
    (said,) = lacking(newer)
    assert f"the method 'dps' is of version {cell.versions['method']} there and 99" in said
    other = replace(cell, weights={"digits": "0" * 64, "judge": "1" * 64})
    first, second = lacking(other)
    assert "and 000000000000 where" in first and "'judge' are not there" in second


def test_an_address_without_a_cluster_is_one_sentence():
    with pytest.raises(UserError, match=r"cannot join the Ray cluster at 127\.0\.0\.1:1 "):
        CliRunner().invoke(app, ["doctor", "--address", "127.0.0.1:1"], catch_exceptions=False)
