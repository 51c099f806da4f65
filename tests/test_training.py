"""Training: objectives and their minimisers, resuming to the same bits, whole weights."""

import io
import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from rich.console import Console
from torch import nn

from bench.cli.training import Training
from bench.cli.training_view import Note, View
from bench.core import glass
from bench.core.interpolant import Linear
from bench.core.params import UserError
from bench.metrics import validation
from bench.models import digits, weights
from bench.models.digits_data import FOLDS, fold, load
from bench.models.exact import MixtureFlow, MixturePosterior
from bench.models.gaussian import GaussianModel
from bench.models.meta_flow_map import FlowNet, MetaFlowMapNet
from bench.models.mixture import Mixture, paper_mixture
from bench.training import losses, recipes
from bench.training.recipes import Recipe
from bench.training.trainer import Setting, TrainConfig, Trainer, step_generator
from bench.training.validation import Journal, Validation


def small(**changes) -> Recipe:
    values = {"flow_steps": 30, "map_steps": 30, "batch": 32, "map_width": 16, "flow_width": 16}
    return Recipe(**{**values, "depth": 1, "classifier_steps": 20, **changes})


def gaussian_world(d=3):
    g = torch.Generator().manual_seed(0)
    root = torch.randn(d, d, generator=g, dtype=torch.float64)
    mean = torch.randn(1, d, generator=g, dtype=torch.float64)
    covariance = (root @ root.T / d)[None]
    return Mixture(torch.ones(1).double(), mean, covariance)


def gaussian_map(mixture) -> MetaFlowMapNet:
    """A map whose Gaussian skip is the truth and whose network is zero."""
    net = MetaFlowMapNet((mixture.dimension,), width=8, depth=1).double()
    values, basis = torch.linalg.eigh(mixture.covariances[0])
    net.gaussian.mean.copy_(mixture.means[0])
    net.gaussian.basis.copy_(basis)
    net.gaussian.eigenvalues.copy_(values)
    return net


def draw_of(mixture, n=64, seed=0):
    g = torch.Generator().manual_seed(seed)
    x1 = mixture.sample(n, g)
    double = torch.float64
    t, split = torch.rand(2, n, generator=g, dtype=double)
    s, u = torch.rand(2, n, generator=g, dtype=double).sort(0).values
    noise, other = torch.randn(2, *x1.shape, generator=g, dtype=double)
    return losses.Draw(x1, Linear().noised(x1, other, t), t, noise, s, u, split)


def test_the_gaussian_skip_is_the_exact_map_of_a_gaussian():
    """Diagonal = GLASS velocity, semigroup closes, one jump = exact posterior transport."""
    mixture = gaussian_world()
    net, draw = gaussian_map(mixture), draw_of(mixture)
    velocity = glass.posterior_velocity(Linear(), mixture.velocity, draw.x, draw.t)
    expected = velocity(draw.x_bar, draw.s)
    got = net.velocity(draw.x_bar, draw.s, draw.s, draw.x, draw.t)
    assert torch.allclose(got, expected, atol=1e-8)
    prediction, target = losses.semigroup(net, net, draw)
    assert torch.allclose(prediction, target, atol=1e-8)
    n = 20_000
    x = torch.tensor([[0.3, -0.5, 1.0]]).double().expand(n, 3)
    t = torch.full((n,), 0.4).double()
    eps = torch.randn(n, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ones, zeros = torch.ones(n).double(), torch.zeros(n).double()
    draws = net.jump(eps, zeros, ones, x, t)
    post = mixture.posterior(x[:1], t[:1])
    assert torch.allclose(draws.mean(0), post.mean[0, 0], atol=0.02)
    assert torch.allclose(torch.cov(draws.T), post.covariance[0, 0], atol=0.02)


OBJECTIVES = {
    "semigroup": lambda teacher: losses.semigroup,
    "diagonal-distilled": losses.diagonal_distilled,
    "eulerian-self": lambda teacher: losses.eulerian(losses.self_velocity),
    "eulerian-teacher": lambda teacher: losses.eulerian(losses.teacher_velocity(teacher)),
    "lagrangian-self": lambda teacher: losses.lagrangian(losses.self_velocity),
    "lagrangian-teacher": lambda teacher: losses.lagrangian(losses.teacher_velocity(teacher)),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_vanishes_on_the_exact_map_and_not_elsewhere(name):
    """On a Gaussian world the exact map is known; a perturbed one must pay, with a gradient."""
    mixture = gaussian_world()
    net, draw = gaussian_map(mixture), draw_of(mixture)
    objective = OBJECTIVES[name](mixture.velocity)
    prediction, target = objective(net, net, draw)
    assert torch.allclose(prediction, target, atol=1e-7)
    assert not target.requires_grad
    g = torch.Generator().manual_seed(3)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3, generator=g)
    prediction, target = objective(net, net, draw)
    loss = losses.adaptive(prediction, target, power=0.5)
    loss.backward()
    assert float(loss.detach()) > 1e-3
    assert float(net.net.leave[1].weight.grad.abs().sum()) > 0


def test_the_mean_flow_target_is_unbiased_for_the_eulerian_one():
    """Averaged over x1 given (x, x_bar), the single-sample target is the teacher's."""
    mixture = gaussian_world()
    net = gaussian_map(mixture)
    nn.init.normal_(net.net.leave[1].weight, std=0.3, generator=torch.Generator().manual_seed(0))
    n = 100_000
    one = draw_of(mixture, n=1, seed=5)
    star = glass.combine(Linear(), one.x, one.t, one.x_bar, one.s)
    g = torch.Generator().manual_seed(1)
    u, z = torch.rand(n, 1, generator=g).double(), torch.randn(n, 1, 3, generator=g).double()
    x1 = mixture.posterior_draws(star.x, star.t, u, z)[:, 0]
    many = losses.Draw(
        x1,
        one.x.repeat(n, 1),
        one.t.repeat(n),
        (one.x_bar - one.s[:, None] * x1) / (1 - one.s[:, None]),
        one.s.repeat(n),
        one.u.repeat(n),
        one.split.repeat(n),
    )
    _, noisy = losses.eulerian(losses.data_velocity)(net, net, many)
    _, exact = losses.eulerian(losses.teacher_velocity(mixture.velocity))(net, net, one)
    error = noisy.std(0) / n**0.5
    assert ((noisy.mean(0) - exact[0]).abs() < 5 * error + 1e-9).all()


def test_the_skip_fades_with_the_context():
    """At t = 0 the context says nothing; at t = 1 it says everything."""
    net = gaussian_map(gaussian_world())
    g = torch.Generator().manual_seed(0)
    eps, x, other = torch.randn(3, 5, 3, generator=g, dtype=torch.float64)
    zeros, ones = torch.zeros(5).double(), torch.ones(5).double()
    at_zero = net.jump(eps, zeros, ones, x, zeros)
    assert torch.equal(at_zero, net.jump(eps, zeros, ones, other, zeros))
    assert (net.jump(eps, zeros, ones, x, ones) - x).abs().max() < 0.01


@pytest.mark.parametrize("form", ["raw", "gaussian", "diagonal"])
def test_every_parametrisation_is_finite_and_differentiable(form):
    net = MetaFlowMapNet((1, 2, 2), width=8, depth=1, parametrisation=form)
    nn.init.normal_(net.net.leave[1].weight)
    for t in (0.0, 0.5, 1.0):
        for s, u in ((0.0, 1.0), (0.5, 0.5), (1.0, 1.0), (0.0, 0.0)):
            x = torch.randn(3, 1, 2, 2, requires_grad=True)
            times = (torch.full((3,), v) for v in (s, u, t))
            s_, u_, t_ = times
            v = net.velocity(torch.randn(3, 1, 2, 2), s_, u_, x, t_)
            (gradient,) = torch.autograd.grad(v.sum(), x, allow_unused=True)
            assert torch.isfinite(v).all() and torch.isfinite(gradient).all(), (t, s, u)


def test_distilled_and_data_diagonals_have_the_same_minimiser():
    """The data target averages, given context and state, to the distilled one."""
    mixture = paper_mixture()
    n = 200_000
    g = torch.Generator().manual_seed(0)
    x, x_bar = torch.tensor([[-0.4, -0.6]]).double(), torch.tensor([[0.2, -0.3]]).double()
    t, s = torch.tensor([0.3]).double(), torch.tensor([0.4]).double()
    u, z = torch.rand(n, 1, generator=g).double(), torch.randn(n, 1, 2, generator=g).double()
    star = glass.combine(Linear(), x, t, x_bar, s)
    x1 = mixture.posterior_draws(star.x, star.t, u, z)[:, 0]
    target_from_data = (x1 - x_bar) / (1 - s)  # x1 - noise, with noise = (x_bar - s x1)/(1 - s)
    distilled = glass.posterior_velocity(Linear(), mixture.velocity, x, t)(x_bar, s)
    error = target_from_data.std(0) / n**0.5
    assert ((target_from_data.mean(0) - distilled[0]).abs() < 5 * error).all()


def test_context_times_follow_their_law():
    t = losses.sample_context_times(100_000, torch.Generator().manual_seed(0))
    assert abs(float((t == 0).float().mean()) - 0.1) < 0.01
    assert abs(float(t[t > 0].sqrt().mean()) - 0.5) < 0.01
    s, u = losses.sample_inner_times(100_000, torch.Generator().manual_seed(0))
    assert (s <= u).all() and abs(float(((s == 0) & (u == 1)).float().mean()) - 0.25) < 0.01


# A training of gmm-paper as a program of its own, so that it can be killed.
PROGRAM = """
import functools, sys
from dataclasses import replace
from pathlib import Path
import torch
from bench.training import recipes, worlds
from bench.training.trainer import Setting
from bench.training.validation import Journal, Validation

def train(folder):
    torch.set_num_threads(1)
    plain, train_world = worlds.WORLDS["gmm-paper"]
    recipe = replace(plain.shortened(0.0125), batch=64)
    recipes.TrainConfig = functools.partial(recipes.TrainConfig, checkpoint_every=10)
    measure = lambda net: {"norm": sum(float(p.norm()) for p in net.parameters())}
    journal = Journal(folder / "validation.jsonl")
    validation = Validation("map", 8, measure, journal, lambda *_: None)
    stage = lambda name, steps: Setting(validation=validation)
    return train_world(recipe, folder, stage)["map"]
"""


def test_killed_at_any_moment_and_resumed_it_ends_in_the_same_bits(tmp_path, monkeypatch):
    """SIGKILL, of which a process knows nothing; weights and journal are as if it had not been."""
    program: dict = {}
    exec(PROGRAM, program)
    monkeypatch.setattr(recipes, "TrainConfig", TrainConfig)  # undone after the test
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = program["train"](tmp_path / "whole").state_dict()
    monkeypatch.setattr(recipes, "TrainConfig", TrainConfig)

    folder = tmp_path / "killed"
    code = PROGRAM + "train(Path(sys.argv[1]))"
    child = subprocess.Popen([sys.executable, "-c", code, str(folder)])
    first, wait = 10 * random.randint(1, 7), random.uniform(0, 0.1)  # truly any moment
    while child.poll() is None and last_step(folder) < first:
        time.sleep(0.005)
    time.sleep(wait)
    child.kill()
    assert child.wait() == -signal.SIGKILL
    stopped = last_step(folder)
    assert 0 < stopped < 150

    resumed = program["train"](folder).state_dict()
    moment = f"killed {wait:.4f} s after step {first}, at checkpoint {stopped}"
    assert all(torch.equal(whole[name], resumed[name]) for name in whole), moment
    assert len(list((folder / "map").glob("step-*.pt"))) == 2
    figures = [
        [(row["stage"], row["step"], row["norm"]) for row in Journal(f / "validation.jsonl").rows()]
        for f in (tmp_path / "whole", folder)
    ]
    assert figures[0] == figures[1], moment
    assert [step for _, step, _ in figures[0]] == [*range(8, 151, 8), 150]


def last_step(folder) -> int:
    return max((int(f.stem[5:]) for f in (folder / "map").glob("step-*.pt")), default=0)


def test_validation_leaves_no_trace_in_the_weights(tmp_path):
    """Not even if what measures draws global random numbers and spoils the network it is handed."""
    mixture = paper_mixture(torch.float32)
    seen = []

    def spoil(net):
        torch.manual_seed(len(seen))
        assert not net.training and not torch.is_grad_enabled()
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape))
        return {"figure": len(seen)}

    def trained(folder, validated):
        journal = Journal(folder.with_suffix(".jsonl"))
        journal.append({"stage": "map", "step": 8, "figure": -1.0})  # of weights that are gone
        watch = Validation("map", 4, spoil, journal, lambda *row: seen.append(row))
        torch.manual_seed(7)
        net = recipes.train_map(
            lambda n, g: mixture.sample(n, g),
            mixture.sample(500, torch.Generator().manual_seed(0)),
            mixture.velocity,
            small(map_steps=30),
            folder,
            Setting(validation=watch if validated else None),
        )
        return {**net.state_dict(), "global": torch.random.get_rng_state()}

    plain, watched = trained(tmp_path / "plain", False), trained(tmp_path / "watched", True)
    assert all(torch.equal(plain[name], watched[name]) for name in plain)
    assert [step for step, _ in seen] == [4, 8, 12, 16, 20, 24, 28, 30]
    rows = Journal(tmp_path / "watched.jsonl").rows()
    assert [row["figure"] for row in rows] == list(range(8))


def test_a_journal_has_whole_lines_and_forgets_what_training_forgot(tmp_path):
    journal = Journal(tmp_path / "validation.jsonl")
    assert journal.rows() == []
    rows = [{"stage": stage, "step": step} for stage in ("flow", "map") for step in (10, 20, 30)]
    for row in rows:
        journal.append(row)
    with journal.path.open("a") as file:
        file.write('{"stage": "map", "st')
    assert journal.rows() == rows
    watch = Validation("map", 10, lambda net: {}, journal, lambda *_: None)
    watch.resume(20)
    assert journal.rows() == rows[:-1]
    assert journal.path.read_text().endswith("\n")
    due = [step for step in range(36) if watch.due(step, 35)]
    assert due == [30, 35]  # 10 and 20 are there already, 35 is the last step


def test_the_figures_of_an_exact_map_are_those_of_the_exact_posterior(monkeypatch):
    """On a Gaussian world the map is known; a map of another world pays, and so does GLASS."""
    double = gaussian_world()
    mixture = double.to(torch.zeros(0))
    data = mixture.sample(4000, torch.Generator().manual_seed(0))

    def world(_):
        flow, exact = MixtureFlow(mixture), MixturePosterior(mixture)
        return validation.World(data, flow, exact, lambda r: lambda x, t: mixture.value(x, t, r))

    monkeypatch.setitem(validation.WORLDS, "gaussian", world)
    validator = validation.Validator("gaussian")
    with torch.no_grad():
        good = validator(gaussian_map(double).float().eval())
        wrong = validator(MetaFlowMapNet((3,), width=8, depth=1).eval())
    for t in validation.TIMES:
        for figure in ("energy", "value", "joint"):
            # Draws of the map and of the mixture are independent: half as much again is noise.
            floor = 1.5 * abs(good[f"{figure}-{t}-exact"]) + 0.02
            ours = [good[f"{figure}-{t}-map-{k}"] for k in validation.STEPS]
            assert max(ours) - min(ours) < 1e-4  # one jump is as good as four
            assert ours[0] < floor
            assert wrong[f"{figure}-{t}-map-1"] > floor
            assert good[f"{figure}-{t}-glass-4"] > floor
    assert good["frechet-1"] < 0.05 < wrong["frechet-1"]
    assert validator(nn.Linear(1, 1)) == {}


def test_a_map_without_a_flow_is_compared_with_its_own_velocity():
    mixture = gaussian_world()
    inner = validation.BaseVelocity(gaussian_map(mixture))
    draw = draw_of(mixture)
    assert torch.allclose(
        inner.velocity(draw.x, draw.t), mixture.velocity(draw.x, draw.t), atol=1e-8
    )


def test_every_seed_step_and_shard_has_random_numbers_of_its_own():
    """torch drops the upper half of a 64-bit seed, so these must differ in the lower."""
    keys = [(seed, step, shard) for seed in (0, 1, 2) for step in (0, 1, 9) for shard in (0, 1)]
    draws = {tuple(torch.rand(4, generator=step_generator(*key)).tolist()) for key in keys}
    assert len(draws) == len(keys)


def test_a_short_training_needs_no_ray(tmp_path):
    """`bench train` as a program to which Ray and MLflow are not there."""
    code = f"""
import sys; sys.modules["ray"] = sys.modules["mlflow"] = None
import bench.metrics.world_quality as measured; measured.quality = lambda *_: {{}}
from bench.cli.main import app
app(["train", "gmm-paper", "--shorten", "0.0005", "--no-track", "--validate-every", "4",
     "--work", {str(tmp_path / "work")!r}, "--to", {str(tmp_path)!r}])
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    (folder,) = (tmp_path / "work").iterdir()
    rows = Journal(folder / "validation.jsonl").rows()
    assert [row["step"] for row in rows] == [4, 6]
    assert {"frechet-1", "energy-0.2-map-1", "energy-0.2-glass-1", "value-0.5-map-4"} <= set(
        rows[0]
    )
    assert "map 4/6" in done.stdout and " left: frechet-1 " in done.stdout
    assert (tmp_path / "gmm-paper.safetensors").is_file()
    found = json.loads((folder / "recipe.json").read_text())
    assert found["map_steps"] == 6 and found["batch"] == 1024


def test_what_a_training_says_is_shown_and_logged():
    kept, screen = [], io.StringIO()
    with View(lambda *row: kept.append(row), Console(file=screen, width=100)) as view:
        view(Note("map", 100, 40, {}))  # it goes on from step 40
        view(Note("map", 100, 50, {"diagonal": 0.5}))
        view(Note("map", 100, 50, {"frechet-1": 0.25, "joint-0.2-map-1": 1.0}, measured=True))
    assert kept == [
        ("map", 50, {"diagonal": 0.5}),
        ("map", 50, {"validation.frechet-1": 0.25, "validation.joint-0.2-map-1": 1.0}),
    ]
    shown = screen.getvalue()
    assert "map 50/100, " in shown and "left: frechet-1 0.2500" in shown
    assert "diagonal 0.5000" in shown


def test_a_folder_belongs_to_one_recipe(tmp_path):
    Training("gmm-paper", small(), tmp_path, 0).claim(1)
    Training("gmm-paper", small(), tmp_path, 0).claim(2)  # the workers may change
    with pytest.raises(UserError, match=r"another recipe \(map_steps differ\)"):
        Training("gmm-paper", small(map_steps=31), tmp_path, 0).claim(1)
    with pytest.raises(UserError, match="3 workers cannot share a batch of 32"):
        Training("gmm-paper", small(), tmp_path, 0).claim(3)


def test_training_lowers_the_loss_and_a_nan_stops_it(tmp_path):
    """Distilling the exact velocity leaves no irreducible loss, so a short run must show."""
    seen = []
    mixture = paper_mixture(torch.float32)

    def trained(steps):
        """The loss after a number of steps, on draws that are always the same."""
        recipe = small(map_steps=steps, map_width=48, batch=128)
        world = (lambda n, g: mixture.sample(n, g)), mixture.velocity
        statistics = mixture.sample(5000, torch.Generator().manual_seed(0))
        net = recipes.train_map(
            world[0],
            statistics,
            world[1],
            recipe,
            tmp_path / str(steps),
            lambda *row: seen.append(row),
        )
        fresh = torch.Generator().manual_seed(5)
        return float(
            recipes.map_losses(*world, replace(recipe, batch=4096))(net, net, fresh)["diagonal"]
        )

    assert trained(300) < 0.96 * trained(1)  # most of these steps are warm-up
    assert [step for step, _ in seen] == [50, 100, 150, 200, 250, 300, 1]
    net = nn.Linear(1, 1)

    def broken(model, average, generator):
        return {"bad": model(torch.ones(1, 1)).sum() * float("nan")}

    with pytest.raises(FloatingPointError, match="not finite at step 0"):
        Trainer(net, broken, TrainConfig(5), tmp_path / "nan").run()


def test_accumulation_adds_up(tmp_path):
    """Two half batches and one whole batch take the same first step."""
    torch.manual_seed(0)
    x, y = torch.randn(8, 3), torch.randn(8, 1)
    ends = []
    for accumulate in (1, 2):
        torch.manual_seed(1)
        net = nn.Linear(3, 1)
        calls = iter(range(99))

        def objective(model, average, generator, k=accumulate, calls=calls):
            part = next(calls) % k
            rows = slice(part * 8 // k, (part + 1) * 8 // k)
            return {"mse": (model(x[rows]) - y[rows]).square().mean()}

        config = TrainConfig(3, accumulate=accumulate, warmup=1, clip=1e9)
        Trainer(net, objective, config, tmp_path / str(accumulate)).run()
        ends.append(net.weight.detach().clone())
    assert torch.allclose(ends[0], ends[1], atol=1e-6)


def test_folds_are_disjoint_and_held_out_is_apart():
    parts = [fold(name).x.flatten(1) for name in FOLDS] + [load("held-out").x.flatten(1)]
    assert sum(map(len, parts)) == 1797 and len(parts[3]) == 360
    distances = [torch.cdist(a, b).min() for i, a in enumerate(parts) for b in parts[:i]]
    assert min(distances) > 0


def test_shipped_weights_are_small_and_described():
    for name in ("digits", "gmm-paper"):
        path = weights.find(name)
        assert path.stat().st_size < 10e6
        recipe = json.loads(path.with_suffix(".json").read_text())
        assert recipe["recipe"]["seed"] == 0 and recipe["quality"] and recipe["training"]["map"] > 0
    quality = json.loads(weights.find("digits").with_suffix(".json").read_text())["quality"]
    assert min(quality["accuracy"].values()) > 0.93
    assert quality["memorisation_ratio"] > 0.5
    for figures in quality["posterior"].values():
        shuffled, one = figures["map-1-shuffled"], figures["map-1"]
        assert shuffled[0] > 2 * one[0] and shuffled[1] > 2 * one[1]
    for t in ("0.2", "0.5"):
        figures = quality["posterior"][t]
        for k in (0, 1):
            assert figures["map-1"][k] < min(figures["glass-1"][k], figures["glass-2"][k])


def test_partial_and_foreign_weights_are_refused(tmp_path, monkeypatch):
    from safetensors.torch import save_file

    monkeypatch.setenv("TILTBENCH_WEIGHTS", str(tmp_path))
    state = {f"flow.{k}": v for k, v in FlowNet((1, 8, 8)).state_dict().items()}
    state.pop("flow.gaussian.mean")
    save_file(state, tmp_path / "digits.safetensors")
    with pytest.raises(UserError, match=r"gaussian\.mean"):
        weights.load_into(FlowNet((1, 8, 8)), "digits", "flow")
    with pytest.raises(UserError, match="hold no 'map' network"):
        weights.load_into(MetaFlowMapNet((1, 8, 8)), "digits", "map")


def test_gaussian_model_floors_constant_directions():
    data = torch.cat([torch.randn(500, 2), torch.ones(500, 1)], 1)
    model = GaussianModel(3)
    model.fit(data)
    assert float(model.eigenvalues.min()) == pytest.approx(1e-3)
    assert digits.FEATURES * 10 <= 128  # a quickstart cell is large enough for a Frechet distance
