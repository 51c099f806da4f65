"""Value estimation: estimators against exact answers, rates, statistics, the verb."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from bench.cli.main import app
from bench.core.estimators import log_mean_exp, value_gradient
from bench.core.map_posterior import MapPosterior
from bench.core.noise import NoiseSource
from bench.core.params import UserError
from bench.core.posterior import Glass, denoised
from bench.metrics import study_pace
from bench.metrics import value_estimation as ve
from bench.metrics import value_study as vs
from bench.metrics.value_rates import exact_rates
from bench.models.mixture_roles import MixtureOracle
from bench.plan.binding import make_reward, make_task


def question(
    task_text="gmm-paper", reward_text="linear:strength=0.5", t=0.5, n=6
) -> ve.ValueQuestion:
    _, task = make_task(task_text)
    _, reward, strength = make_reward(reward_text)
    reward.bind(task)
    return ve.ValueQuestion(task, reward, strength, ve.contexts(task, t, n), t)


def exact(q: ve.ValueQuestion) -> ve.Truth:
    return ve.exact_truth(q, q.task.oracle(q.reward, q.strength))


@pytest.mark.parametrize("t", [0.2, 0.5, 0.8])
def test_bias_falls_as_one_over_n_and_spread_as_its_root(t):
    """Exact posterior, smooth reward: fitted slopes within 0.15 of -1 and -1/2."""
    found = exact_rates(question(t=t, n=8))
    assert found.bias_slope == pytest.approx(-1, abs=0.15)
    assert found.spread_slope == pytest.approx(-0.5, abs=0.15)
    assert (found.bias < 0).all()


def test_the_bias_is_the_one_that_theory_gives():
    """-Var(e^r) / (2 N E[e^r]^2), with both moments in closed form: E e^{2r} is V of twice r."""
    q = question(t=0.5, n=8)
    found = exact_rates(q)
    once = q.task.oracle(q.reward, q.strength).value(q.x, q.times)
    twice = q.task.oracle(q.reward, 2 * q.strength).value(q.x, q.times)
    n = found.sizes[-1]
    expected = -(twice - 2 * once).expm1() / (2 * n)
    assert float(found.bias[-1].mean()) == pytest.approx(float(expected.mean()), rel=0.15)
    spread = (-2 * expected).sqrt()
    assert float(found.spread[-1].mean()) == pytest.approx(float(spread.mean()), rel=0.1)


def test_the_exact_truth_is_the_closed_form():
    q = question(reward_text="inverse", t=0.4)
    oracle = q.task.oracle(q.reward, q.strength)
    assert isinstance(oracle, MixtureOracle)
    gradient = q.task.mixture.value_gradient(q.x, q.times, oracle.reward)
    assert torch.allclose(exact(q).gradient, gradient, rtol=1e-3, atol=1e-3)


def test_many_exact_draws_give_the_exact_value_and_gradient():
    q, n = question(t=0.5), 20_000
    draws = ve.draw(q, q.task.posterior, n)
    truth = exact(q)
    error = draws.reward.exp().std(0) / draws.reward.exp().mean(0) / math.sqrt(n)
    assert ((ve.value_estimate(draws) - truth.value).abs() < 4 * error).all()
    assert torch.allclose(ve.gradient_gf(q, draws).float(), truth.gradient, atol=0.1)
    assert draws.pull is None  # a categorical draw has no derivative


def test_g_from_single_draws_is_the_gradient_of_the_value_of_all():
    """sum_i w_i J_i' grad r_i, assembled, against one backward pass through log-mean-exp."""
    q, n = question("digits", "class-mixture", n=3), 5
    sampler = MapPosterior(q.task.flow_map)
    draws = ve.draw(q, sampler, n, pathwise=n)
    source = NoiseSource(0, "value-draws")

    def noise(name, shape):
        each = [source.normal(name, k, shape[1:], range(3)) for k in range(n)]
        return torch.stack(each, 1)

    x = q.x.clone().requires_grad_()
    x1 = sampler.draw(x, q.times, n, noise)
    reward = q.score(x1.flatten(0, 1)).reshape(n, 3)
    assert torch.allclose(
        ve.value_estimate(draws).float(), log_mean_exp(reward.detach()), atol=1e-4
    )
    assert torch.allclose(ve.gradient_g(draws).float(), value_gradient(reward, x), atol=1e-3)


def test_draws_do_not_depend_on_chunks_or_on_how_many_follow(monkeypatch):
    q = question(n=4)
    whole = ve.draw(q, Glass(q.task.flow, 3), 9, pathwise=5)
    monkeypatch.setattr(ve, "DRAWN_ROWS", 8)
    parts = ve.draw(q, Glass(q.task.flow, 3), 7, pathwise=5)
    assert torch.allclose(whole.x1[:7], parts.x1, atol=1e-5)
    assert torch.allclose(whole.pull, parts.pull, atol=1e-5)


def test_one_step_of_glass_is_the_tweedie_point():
    q = question(t=0.3)
    draws = ve.draw(q, Glass(q.task.flow, 1), 3)
    point = denoised(q.task.flow, q.x, q.times, None)
    assert torch.allclose(draws.x1, point.expand_as(draws.x1), atol=1e-5)


def test_rollouts_approach_the_exact_value_as_steps_grow():
    """The reference of tasks without a closed form, judged on one that has it."""
    q = question(reward_text="quadratic:strength=0.2", t=0.2, n=12)
    truth = exact(q)

    def error(steps):
        draws = ve.rollout_draws(q, steps, 1000)
        return float((ve.value_estimate(draws) - truth.value).square().mean().sqrt())

    coarse, middle, fine = map(error, (2, 8, 40))
    assert fine < 0.5 * middle < 0.5 * coarse


def test_contexts_are_held_out_data_or_states_of_the_flow():
    q = question("digits", "class-mixture", n=500)
    assert len(q.x) == 360  # all there are
    x = ve.contexts(question().task, 0.6, 4000)
    mixture = question().task.mixture
    expected = 0.4**2 * torch.eye(2) + 0.6**2 * mixture.covariance()
    assert torch.allclose(torch.cov(x.T), expected, atol=0.15)


def test_statistics_agree_with_numpy_and_a_shift_is_a_bias():
    g = torch.Generator().manual_seed(0)
    truth = torch.randn(60, generator=g)
    estimate = truth + 0.5 + 0.3 * torch.randn(2, 60, generator=g)
    found = vs.value_statistics(estimate, truth, vs.resampling_weights(60))
    pearson = np.mean([np.corrcoef(e.numpy(), truth.numpy())[0, 1] for e in estimate])
    gap = (estimate - truth).numpy()
    assert float(found["pearson"][0]) == pytest.approx(pearson, abs=1e-6)
    assert float(found["rmse"][0]) == pytest.approx(np.sqrt((gap**2).mean()), rel=1e-6)
    value, low, high = vs.interval(found["bias"])
    half = 1.96 * gap.mean(0).std() / math.sqrt(60)
    assert value == pytest.approx(gap.mean(), abs=1e-6)
    assert (high - low) / 2 == pytest.approx(half, rel=0.15)


def test_gradient_statistics_of_nothing_and_of_the_truth():
    truth = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    weight = vs.resampling_weights(40)
    perfect = vs.gradient_statistics(truth[None], truth, weight)
    assert torch.allclose(perfect["cosine"], torch.ones(1).double(), atol=1e-6)
    nothing = vs.gradient_statistics(0 * truth[None], truth, weight)
    assert torch.allclose(nothing["relative-rmse"], torch.ones(1).double())


def test_the_map_beats_glass_at_equal_evaluations_on_the_exact_world():
    """RMSE of V at many draws, where what is left is the sampler's own error."""
    q = question(reward_text="quadratic:strength=0.5", t=0.3, n=32)
    found = vs.study(q, exact(q), [64])
    rmse = {f.sampler: float(f.statistics["rmse"][0]) for f in found if f.quantity == "V"}
    for k in (1, 2, 4):
        assert rmse[f"map-{k}"] < rmse[f"glass-{k}"]
    assert rmse["glass-8"] < rmse["glass-4"] < rmse["glass-2"] < rmse["glass-1"]


def study(tmp_path, *arguments):
    command = ["study", "value", "--root", str(tmp_path), *arguments]
    return CliRunner().invoke(app, command, catch_exceptions=False)


def test_the_verb_gives_figures_and_keeps_the_rollouts(tmp_path, monkeypatch):
    monkeypatch.setattr(ve, "REFERENCE_STEPS", 3)
    monkeypatch.setattr(ve, "REFERENCE_PARTICLES", 6)
    monkeypatch.setattr(ve.rollout_draws, "__defaults__", (3, 6))
    arguments = ["-t", "digits", "-r", "class-mixture", "--time", "0.5", "--draws", "2"]
    arguments += ["--contexts", "4", "--json"]
    first = study(tmp_path, *arguments)
    assert "of draws on this machine" in first.stderr
    data = json.loads(first.stdout)
    asked = {(r["sampler"], r["quantity"]) for r in data["rows"]}
    assert {("map-1", "V"), ("glass-2", "grad V, G"), ("reference/2", "V")} <= asked
    assert all(r["low"] <= r["high"] for r in data["rows"])
    monkeypatch.setattr(ve, "rollout_draws", lambda *_: pytest.fail("made the rollouts again"))
    assert json.loads(study(tmp_path, *arguments).stdout) == data
    with pytest.raises(UserError, match="cannot be asked on 'gmm-paper'"):
        study(tmp_path, "-t", "gmm-paper", "-r", "class-mixture")
    with pytest.raises(UserError, match="between 0 and 1"):
        study(tmp_path, "-t", "gmm-paper", "-r", "linear", "--time", "1")


def test_the_verb_prints_tables_and_draws_a_figure(tmp_path):
    picture = tmp_path / "value.svg"
    arguments = ["-t", "gmm-paper", "-r", "linear", "--time", "0.5", "--contexts", "8"]
    arguments += ["--draws", "1", "--draws", "4", "--markdown", "--figure", str(picture)]
    shown = study(tmp_path, *arguments).stdout
    assert (
        "the bias of V falls as N^-" in shown and "| exact" in shown and "map-2 - glass-2" in shown
    )
    assert picture.read_text().startswith("<?xml")


def test_the_time_of_a_study_is_that_of_its_batches(monkeypatch):
    """A second for every batch of 4096 rows; 64 of 1,000 draws are differentiated as well."""
    monkeypatch.setattr(study_pace, "_seconds", lambda *_: 1.0)
    q = question(n=128)
    each = len(ve.samplers(q.task)) * (1000 + 2 * 64) / 32
    assert study_pace.seconds_of_draws(q, 1000) == pytest.approx(each)
    assert study_pace.seconds_of_rollouts(q) == pytest.approx(200 / 4 * 200 / 32)


def test_a_question_scales_its_reward():
    q = question(n=3)
    assert torch.allclose(replace(q, strength=1.0).score(q.x), 2 * q.score(q.x))
