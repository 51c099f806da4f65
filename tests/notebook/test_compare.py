"""`bench.compare`: the cells of the command line, objects with an identity, honest answers."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bench import compare, from_velocity
from bench.api import Method, NoParams, Samples, UserError, euler, forward, integrate
from bench.cli import report as report_verb
from bench.core import plugins
from bench.notebook.names import method_names, reward_name, task_name
from bench.plan.expand import expand
from bench.plan.suite import build_suite
from bench.tasks.gmm import RandomMixture
from methods.steering.dps import DPS
from rewards.quadratic import WellReward

ROOT = Path(__file__).parents[2]
GENERATOR = torch.Generator()


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """Objects of one test are unknown to the next."""
    monkeypatch.setattr(plugins, "_LOCAL", {})


class Plain(Method[NoParams]):
    """Four Euler steps, with gradients left on, as people write them."""

    start = "x0"

    def work(self, spec):
        return forward("flow", spec.calls(spec.grid(4)[:-1]))

    def sample(self, problem, n):
        grid, x0 = problem.grid(4), problem.noise(self.start, 0, problem.event_shape)
        return Samples(integrate(euler(problem.flow.velocity), problem.started(x0, grid), grid))


class Other(Plain):
    """The same from other noise."""

    start = "other"


def still(x, t):
    """The velocity of N(0, I) carried to itself: (2 t - 1) x / ((1 - t)^2 + t^2)."""
    t = t[:, None]
    return (2 * t - 1) * x / ((1 - t) ** 2 + t**2)


def compared(tmp_path, methods=("prior", Plain), reward=lambda x: -x.square().sum(1), **changes):
    given = {
        "task": from_velocity(still, (2,)), "budget": None, "seeds": 2, "n": 32,
        "root": str(tmp_path), "quiet": True,
    }  # fmt: skip
    return compare(list(methods), reward=reward, **{**given, **changes})


def cells(content):
    return {row.id for row in expand(build_suite({"name": "x", "n": 16, "seeds": 1, **content}))}


def test_what_is_installed_has_the_cells_of_the_command_line(tmp_path):
    names = cells(
        {"tasks": ["gmm:dimension=3"], "rewards": ["quadratic:curvature=2,strength=4"],
         "methods": ["dps:guidance=2", "prior"], "budgets": ["paper-nfe=20"]}
    )  # fmt: skip
    task, reward = RandomMixture.create(dimension=3), WellReward.create(curvature=2.0)
    found = compare(
        [DPS.create(guidance=2.0), "prior"], task, reward, "paper-nfe=20", 1,
        strength=4, n=16, root=str(tmp_path), quiet=True,
    )  # fmt: skip
    assert set(found.cells.cell) == names and set(found.cells.status) == {"ok"}
    assert set(found.cells.method) == {"dps:guidance=2", "prior"}
    task.mixture.means.add_(1.0)
    assert task_name(task) == "RandomMixture"


def test_the_same_call_computes_nothing_and_another_one_what_is_new(tmp_path):
    first = compared(tmp_path)
    assert (first.executed, first.cached) == (4, 0)
    again = compared(tmp_path)
    assert (again.executed, again.cached) == (0, 4)
    assert again.table.drop(columns="seconds").equals(first.table.drop(columns="seconds"))
    more = compared(tmp_path, ["prior", Plain, "best-of-n:steps=4"], seeds=3)
    assert (more.executed, more.cached) == (5, 4)
    assert more.folder == first.folder == tmp_path / first.folder.name


def test_another_reward_or_network_is_never_taken_for_the_old_one(tmp_path):
    net, found = nn.Linear(2, 2), []
    for change in (0, 1):
        with torch.no_grad():
            net.weight.fill_(0.1 * change)
        task = from_velocity(lambda x, t: still(x, t) + net(x), (2,))
        for power in (2, 4):
            reward = [lambda x: -x.pow(2).sum(1), lambda x: -x.pow(4).sum(1)][power == 4]
            found.append(compared(tmp_path, task=task, reward=reward, name="one-folder"))
    assert [f.executed for f in found] == [4, 4, 4, 4]
    assert len({f.table.reward[0] for f in found}) == 4
    assert len({c for f in found for c in f.cells.cell}) == 16


def test_a_module_is_taken_as_it_is_now():
    class Velocity(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.drop = nn.Linear(3, 2), nn.Dropout()

        def forward(self, x, t):
            return self.drop(self.net(torch.cat([x, t[:, None]], 1)))

    own = Velocity()
    task = from_velocity(own, (2,), data=torch.randn(10, 2))
    x, t = torch.randn(4, 2), torch.rand(4)
    before = task.flow.velocity(x, t)
    nn.init.zeros_(own.net.weight)
    assert own.training and torch.equal(task.flow.velocity(x, t), before)
    assert task.trainable_flow is not None and from_velocity(own, (2,)).trainable_flow is None


def test_the_best_has_its_interval_and_says_what_does_not_show(tmp_path):
    near = compared(tmp_path, [Plain, Other], seeds=3)
    best = near.best()
    assert not best.clear and len(best.unclear) == 1
    assert "these seeds cannot tell from" in str(best)
    assert best.interval[0] < best.mean < best.interval[1]

    far = compared(tmp_path, ["prior", "best-of-n:steps=4,candidates=16"], seeds=4, n=256)
    top = far.best("reward")
    assert top.method.startswith("best-of-n") and top.clear and "clearly ahead" in str(top)
    kept = far.best()  # sixteen candidates leave a point: nobody's law
    assert kept.method == "prior" and "`best-of-n" in str(kept)
    with pytest.raises(UserError, match="no method is better by 'diversity'"):
        far.best("diversity")
    with pytest.raises(UserError, match="no budget 'paper-nfe=7'"):
        far.best(budget="paper-nfe=7")
    alone = compared(tmp_path, ["prior"]).best()
    assert alone.method == "prior" and "nothing to compare" in str(alone)


def test_table_and_report_are_there_for_a_notebook(tmp_path):
    found = compared(tmp_path)
    assert list(found.table.method) == ["prior", "Plain"]
    assert found.table.reward.notna().all() and found.table.reward_half.notna().all()
    shown = found._repr_html_()
    assert "<table" in shown and "Plain" in shown and "report.html" in shown
    page = found.report()
    assert page.path.read_text() == page.page and "<iframe srcdoc=" in page._repr_html_()
    assert found.report(tmp_path / "sent.html").path.read_text() == page.page


def test_the_page_can_be_made_again_without_the_notebook(tmp_path, capsys):
    found = compared(tmp_path)
    plugins._LOCAL.clear()
    found.report().path.unlink()
    report_verb.report(found.folder)
    assert "unknown task 'flow'" in capsys.readouterr().out
    assert found.report().path.read_text() == found.page


def test_a_score_of_numpy_has_no_gradient_and_costs_only_that(tmp_path):
    found = compared(tmp_path, ["prior", "dps"], lambda x: -np.abs(x.numpy()).sum(1))
    status = dict(zip(found.cells.method, found.cells.status, strict=True))
    assert status == {"prior": "ok", "dps": "skipped"}
    assert "differentiable reward" in found.table.trouble[1]


def test_conditions_schedules_decoders_and_data_reach_the_run(tmp_path):
    heard = []

    def velocity(x, t, condition):
        heard.append((condition, tuple(t.unique().tolist())))
        return still(x, t)

    task = from_velocity(
        velocity, (2,), data=np.random.default_rng(0).normal(size=(4000, 3)).astype("float32"),
        decode=lambda z: torch.cat([z, z[:, :1]], 1), times=[0.25, 0.5, 1.0],
        conditions=["a", "b"], name="mine",
    )  # fmt: skip
    found = compared(
        tmp_path, ["prior:steps=2"], lambda x, c: x.sum(1) + len(c), task=task, seeds=1
    )
    assert set(found.cells.condition) == {"a", "b"} and set(found.cells.status) == {"ok"}
    assert {c for c, _ in heard} == {"a", "b"}
    assert {t for c, ts in heard[1:] for t in ts} >= {0.25, 0.5}
    assert abs(found.table.reward[0] - 1) < 1.5
    law = compared(tmp_path, ["prior"], task=from_velocity(still, (2,), data=torch.randn(4000, 2)))
    assert law.table["reward-excess"].notna().all()


def test_a_module_with_data_is_fine_tuned(tmp_path):
    class Velocity(nn.Module):
        def __init__(self):
            super().__init__()
            self.push = nn.Linear(2, 2)
            nn.init.zeros_(self.push.weight)

        def forward(self, x, t):
            return still(x, t) + self.push(x)

    task = from_velocity(Velocity(), (2,), data=torch.randn(256, 2))
    found = compared(
        tmp_path, ["draft-k:iterations=2,batch=8,steps=5"], lambda x: x[:, 0], task=task, seeds=1
    )
    assert list(found.table.status) == ["ok"], found.table.trouble[0]


def test_the_notebooks_threads_and_random_numbers_are_its_own(tmp_path):
    torch.set_num_threads(2)
    try:
        torch.manual_seed(3)
        compared(tmp_path)
        assert torch.get_num_threads() == 2
        drawn = torch.rand(3)
    finally:
        torch.set_num_threads(1)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(3), drawn)


def same(x):
    return x


BAD = {
    "a list as task": (lambda: task_name([1]), "from_velocity"),
    "a number as reward": (lambda: reward_name(3), "a function of a batch"),
    "a class that is no reward": (lambda: reward_name(dict), "not the class dict"),
    "a function as method": (lambda: method_names([same]), "a method is a name or"),
    "two of a name": (
        lambda: method_names([Plain, type("Plain", (Plain,), {})]),
        "two methods are called 'Plain'",
    ),
    "a velocity of another shape": (
        lambda: from_velocity(lambda x, t: x[:, :1], (2,)),
        r"returned shape \(3, 1\) for x of shape \(3, 2\)",
    ),
    "a velocity that fails": (
        lambda: from_velocity(lambda x, t: nowhere(x), (2,)),  # noqa: F821
        "the velocity fails .*NameError",
    ),
    "data of another shape": (
        lambda: from_velocity(still, (2,), data=torch.zeros(5, 3)),
        "the data have shape",
    ),
    "data that are not finite": (
        lambda: from_velocity(still, (2,), data=torch.full((5, 2), torch.nan)),
        "not finite",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_compared_is_one_sentence(what):
    call, says = BAD[what]
    with pytest.raises(UserError, match=says):
        call()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"reward": lambda x: x}, r"returned shape \(3, 2\) for 3 samples of shape \(2,\)"),
        ({"reward": lambda x: x.nothing}, "the reward fails on a batch of shape .*nothing"),
        ({"reward": lambda x: (x, GENERATOR)}, "nobody can tell when the reward 'lambda'"),
        ({"executor": "cloud"}, "there is no executor 'cloud'"),
        ({"methods": ["dpss"]}, "did you mean 'dps'"),
        ({"samples": 3}, "unknown suite key 'samples'"),
        ({"budgets": ["paper-nfe=9"]}, "compare takes no 'budgets': give budget="),
        ({"tune": {}}, "compare takes no 'tune': use 'bench sweep'"),
        ({"root": "memory://runs"}, "reads its tables on this machine"),
    ],
)  # fmt: skip
def test_a_bad_call_is_one_sentence(tmp_path, changes, says):
    with pytest.raises(UserError, match=says):
        compared(tmp_path, **changes)


def test_a_name_that_is_installed_is_not_shadowed():
    def quadratic(x):
        return x.sum(1)

    assert reward_name(quadratic, 2.0) == "own-quadratic:strength=2"


# -- processes ------------------------------------------------------------------------------------

SCRIPT = """
import torch
from bench import compare, from_velocity
from bench.api import Method, NoParams, Samples, euler, forward, integrate

class Mine(Method[NoParams]):
    def work(self, spec):
        return forward("flow", spec.calls(spec.grid(4)[:-1]))
    def sample(self, problem, n):
        grid = problem.grid(4)
        x0 = problem.started(problem.x0(), grid)
        return Samples(integrate(euler(problem.flow.velocity), x0, grid))

net = torch.nn.Linear(2, 2)
torch.nn.init.eye_(net.weight)
def run(executor):
    return compare(
        [Mine, "prior"], from_velocity(lambda x, t: 0.1 * net(x), (2,)), lambda x: x.sum(1),
        budget=None, seeds=1, n=16, root="runs", executor=executor, workers=1, name=executor,
    )
if __name__ == "__main__":
    torch.nn.init.zeros_(net.bias)
    ray, inline = run("ray"), run("inline")
    assert set(ray.cells.status) == {"ok"}, ray.table.trouble.tolist()
    assert list(ray.cells.cell) == list(inline.cells.cell)
    assert list(ray.table.reward) == list(inline.table.reward)
    print("both", ray.executed, inline.executed)
"""


def test_objects_of_a_script_run_on_ray_as_they_do_here(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True,
        env={
            "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin",
            "RAY_ADDRESS": "127.0.0.1:1",  # of somebody else's cluster, which is left alone
        },
    )  # fmt: skip
    assert done.stdout.endswith("both 2 2\n"), done.stdout + done.stderr


def test_importing_bench_costs_nothing():
    code = (
        "import bench, sys; bad = {'torch', 'ray', 'pandas', 'numpy'} & set(sys.modules); "
        "assert not bad, bad; assert {'compare', 'from_velocity'} <= set(bench.__all__)\n"
        "from bench import compare; assert not {'ray', 'mlflow', 'optuna'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
