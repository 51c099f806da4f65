"""`resources: {workers: 2}`: a fit on Ray Train, started by a cell, and how it may end."""

from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load

from bench.core.params import UserError
from bench.plan.expand import expand
from bench.plan.resources import read_resources, requested, workers_of
from bench.plan.suite import build_suite
from bench.record.tables import fit_agrees
from bench.runner.cell import Job
from bench.runner.endings import GONE, GOOD, CellResult
from bench.runner.executors.ray_cluster import cluster
from bench.runner.executors.shared_fit import Told, _check_room, _together

TWO = {"workers": 2}
FSDP = {**TWO, "fsdp": True}
ITM = "itm:iterations=6,batch=16"

FAILING = '''
import os, signal
from methods.finetuning.itm import ImplicitTiltMatching


class Failing(ImplicitTiltMatching):
    """Ends on the second worker, the first waits for it."""

    def losses(self, problem):
        whole = super().losses(problem)

        def step(model, k):
            if k == 2 and problem.group.rank == 1:
                {end}
            return whole(model, k)

        return step
'''
ENDS = {
    "raises": 'raise ValueError(f"the second of {type(problem.group).__name__}")',
    "diverges": 'raise FloatingPointError("not finite")',
    "dies": "os.kill(os.getpid(), signal.SIGKILL)",
    "swells": "held = bytearray(2**32); held[::4096] = bytes([1]) * 2**20; import time; "
    "time.sleep(60)",
}


def planned(method, **more):
    given = {"tasks": ["gmm-paper"], "rewards": ["linear"], "methods": [method], "seeds": 1}
    return expand(build_suite({"name": "t", "n": 4, **given, **more}))[0]


@pytest.fixture(scope="module")
def ray():
    with cluster(None, 2) as found:
        yield found


@pytest.fixture
def failing(tmp_path, request):
    file = tmp_path / f"{tmp_path.name}.py"
    file.write_text(FAILING.replace("{end}", ENDS[request.param]))
    return f"{file}:Failing:iterations=6,batch=16"


@pytest.mark.parametrize("resources", [TWO, FSDP], ids=["whole", "divided"])
def test_a_fit_that_two_workers_share(ray, resources):
    """The same cell, the same weights up to rounding, and the work of both on one ledger."""
    one, two = planned(ITM), planned(ITM, resources=resources)
    assert one.fit.cell.id == two.fit.cell.id and one.cell.id == two.cell.id
    alone, shared = Job(one.fit.cell).run(), Job(two.fit.cell).run()
    assert shared.status == "ok", shared.log
    assert fit_agrees(two.fit, shared) and not shared.machine.get("changed")
    rows = [name for name in alone.work if "flow" in name or "reward" in name]
    assert rows and all(shared.work[name] == alone.work[name] for name in rows)
    assert shared.costs["paper-nfe"] == alone.costs["paper-nfe"]
    assert shared.curve and [row["step"] for row in shared.curve] == [6]
    weights, ours = load(alone.fitted), load(shared.fitted)
    assert all((ours[name] - value).abs().max() < 1e-5 for name, value in weights.items())


@pytest.mark.parametrize(
    ("failing", "resources", "wanted"),
    [
        ("raises", TWO, ("failed", "ValueError: the second of Processes")),
        ("raises", FSDP, ("failed", "ValueError: the second of DividedProcesses")),
        pytest.param("diverges", TWO, ("diverged", "not finite"), marks=pytest.mark.slow),
    ],
    indirect=["failing"],
)
def test_what_one_worker_raises_is_the_answer_of_the_fit(ray, failing, resources, wanted):
    attempt = Job(planned(failing, resources=resources).fit.cell).run()
    assert (attempt.status, attempt.reason) == wanted
    assert not attempt.fitted and attempt.work["flow_forward"] > 0


@pytest.mark.parametrize("resources", [TWO, FSDP], ids=["whole", "divided"])
@pytest.mark.parametrize("failing", ["dies"], indirect=True)
def test_a_fit_whose_worker_died_is_lost_and_run_again_unasked(ray, failing, resources):
    attempt = Job(planned(failing, resources=resources).fit.cell).run()
    assert attempt.status == "failed" and attempt.lost
    assert "worker 1" in attempt.reason and "goes on from the last checkpoint" in attempt.reason


@pytest.mark.parametrize("failing", ["swells"], indirect=True)
def test_a_worker_that_holds_too_much_is_ended_and_says_so(ray, failing):
    attempt = Job(planned(failing, resources={**TWO, "memory": "3GiB"}).fit.cell).run()
    assert attempt.status == "failed" and not attempt.lost
    assert "more than the 3.00 GiB of its resources, and was ended" in attempt.reason


def test_workers_that_cannot_be_had_are_asked_for_in_vain():
    with pytest.raises(UserError, match="2 workers needs 4 CPU and Ray has 2: let `resources`"):
        _check_room({"CPU": 2.0}, {"CPU": 2.0}, 2)
    with pytest.raises(UserError, match="2 workers needs 2 GPU and Ray has 0"):
        _check_room({"CPU": 2.0}, {"CPU": 1.0, "GPU": 1.0}, 2)


def test_who_waits_for_the_workers_takes_no_core_from_them():
    row = planned(ITM, resources=TWO)
    assert set(requested(row.fit.cell)) == {"memory"} and workers_of(row.fit.cell) == 2
    assert requested(row.cell) == {"CPU": 1.0} and workers_of(row.cell) == 1


def test_a_batch_that_cannot_be_shared_is_refused_by_the_plan():
    with pytest.raises(UserError, match="3 workers cannot share the 16 rows of a step of 'itm'"):
        planned(ITM, resources={"workers": 3})
    with pytest.raises(UserError, match="workers is a whole number from 1, not 0"):
        read_resources({"workers": 0})
    with pytest.raises(UserError, match="take a whole card each"):
        read_resources({"workers": 2, "gpu": 0.5})


def test_a_fit_of_one_s_own_is_not_shared_unless_it_says_how(tmp_path):
    file: Path = tmp_path / "its_own_fit.py"
    file.write_text(
        "from methods.finetuning.itm import ImplicitTiltMatching\n\n\n"
        "class Own(ImplicitTiltMatching):\n"
        '    """Its own."""\n\n    shared_rows = None\n'
    )
    with pytest.raises(UserError, match="cannot be shared: leave `workers` out"):
        planned(f"{file}:Own:iterations=6,batch=16", resources=TWO)


def test_workers_that_began_again_are_counted_once():
    """A node that is taken away ends its workers, and Ray Train begins anew from the checkpoint."""
    made = [CellResult(work={"flow_forward": k, "peak_bytes": 9 - k}) for k in (1.0, 2.0, 4.0)]
    told = [Told(0, replace(made[0], ending=GONE)), Told(1, made[1]), Told(0, made[2])]
    whole = _together(told, GOOD)
    assert whole.work == {"flow_forward": 6.0, "peak_bytes": 7.0}
