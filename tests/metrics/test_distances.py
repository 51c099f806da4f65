"""Metrics: independent computations, coverage, refusals."""

import math
import re

import numpy as np
import pytest
import torch

from bench.core import plugins
from bench.core.map_posterior import MapPosterior
from bench.core.metrics import Target
from bench.core.noise import NoiseSource
from bench.core.values import Samples
from bench.metrics.digits import ClassError, Frechet, digit_features, frechet
from bench.metrics.distance import RewardExcess, SlicedWasserstein, systematic_rows
from bench.metrics.posterior_quality import (
    Contexts,
    Empirical,
    draws_at,
    energy_distance,
    gaussian_frechet,
    joint_frechet,
)
from bench.metrics.reward import weighted_mean
from bench.metrics.two_sample import mmd2, sliced_w2
from bench.models import digits
from bench.models.digits_data import real_digits
from bench.plan.binding import make_reward, make_task
from bench.runner.instances import Instances
from bench.runner.measuring import evaluate


def target_of(task_name, reward_text):
    _, task = make_task(task_name)
    _, reward, strength = make_reward(reward_text)
    reward.bind(task)
    return task, Target(reward, strength)


def test_sliced_w2_of_a_shift_is_its_length_over_root_d():
    x = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0))
    shift = torch.tensor([3.0, 0.0, 4.0])
    assert sliced_w2(x, x + shift) == pytest.approx(5 / math.sqrt(3), rel=0.06)
    assert sliced_w2(x, x[torch.randperm(4000)]) == pytest.approx(0, abs=1e-12)


def test_mmd_is_unbiased_and_its_interval_covers():
    """Equal laws: mean 0, and 90 % intervals cover about 90 %; different laws: positive."""
    g = torch.Generator().manual_seed(0)
    found = [
        mmd2(torch.randn(80, 2, generator=g), torch.randn(100, 2, generator=g)) for _ in range(300)
    ]
    values = torch.tensor([f.value for f in found])
    errors = torch.tensor([f.standard_error for f in found])
    assert abs(float(values.mean())) < 3 * float(values.std()) / math.sqrt(300)
    assert 0.7 < float(errors.mean() / values.std()) < 1.5
    far = mmd2(torch.randn(80, 2, generator=g) + 1, torch.randn(100, 2, generator=g))
    assert far.value > 3 * far.standard_error


def test_weighted_mmd_is_that_of_the_weighted_law():
    g = torch.Generator().manual_seed(0)
    y = torch.randn(3000, 1, generator=g)
    weight = (y[:, 0]).exp()  # e^y N(0,1) = N(1,1)
    x = torch.randn(1500, 1, generator=g) + 1
    assert abs(mmd2(x, y, weight).value) < 4 * mmd2(x, y, weight).standard_error
    assert mmd2(x, y).value > 10 * mmd2(x, y).standard_error


def test_frechet_agrees_with_an_independent_float64_computation():
    """Through torchmetrics, on the features; tr sqrt by SciPy's matrix square root."""
    from scipy.linalg import sqrtm

    x, y = real_digits("train").x[:400], real_digits("held-out").x
    with torch.no_grad():
        fx, fy = (digits.classifier("features").features(z).double().numpy() for z in (x, y))
    gap = fx.mean(0) - fy.mean(0)
    cx, cy = np.cov(fx.T), np.cov(fy.T)
    expected = gap @ gap + np.trace(cx + cy - 2 * np.real(sqrtm(cx @ cy)))
    assert frechet(x, y) == pytest.approx(expected, rel=1e-5)
    ours = gaussian_frechet(torch.tensor(fx), torch.tensor(fy))
    assert ours == pytest.approx(expected, rel=1e-6)


def test_small_samples_and_thin_references_are_refused():
    task, target = target_of("digits", "template:strength=20")
    instances = Instances(task, target, None)
    few = Samples(real_digits("all").x[:50])
    rows, _ = evaluate(few, instances, ["frechet"])
    assert rows[0].value is None and "too few" in rows[0].note
    rows, _ = evaluate(Samples(real_digits("all").x[:200]), instances, ["frechet", "mmd2-features"])
    assert all(r.value is None and "effective real digits" in r.note for r in rows)


def test_class_error_is_zero_for_data_in_the_right_proportions():
    """Real digits resampled to prior x weight score the judge's own confusion, not more."""
    task, target = target_of("digits", "class-mixture")
    data = real_digits("all")
    weight = target.reward.class_weights()[data.y]
    pick = systematic_rows(weight / weight.sum(), 2000)
    found = ClassError(target)(Samples(data.x[pick]), task)
    assert found.value < 0.03
    assert ClassError(target)(Samples(data.x), task).value > 0.3


def test_frechet_of_the_tilted_digits_themselves_is_small():
    task, target = target_of("digits", "class-mixture")
    reference = task.reference(target.reward, 1.0, None, 0, 0)
    pick = systematic_rows(reference.weight, 1500, seed=3)
    own = Frechet(target)(Samples(reference.x[pick]), task).value
    base = Frechet(target)(Samples(reference.x), task)
    assert own < 0.05 * base.value
    # Beside the distance: in how many of the 12 directions the reference varies.
    rank = re.search(r"effective digits, effective rank (\d+\.\d), density", base.note)
    features = digit_features(reference.x[systematic_rows(reference.weight, 20_000)])
    shares = np.linalg.eigvalsh(np.cov(features.detach().double().numpy().T))
    shares = shares / shares.sum()
    assert float(rank[1]) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), abs=0.051)


def test_exact_distance_uses_the_tilted_law():
    task, target = target_of("gmm-paper", "inverse")
    source, n = NoiseSource(9, "t"), 2000
    oracle = task.oracle(target.reward, 1.0)
    z, extra = source.normal("z", 0, (2,), range(n)), source.normal("e", 0, (), range(n))
    assert SlicedWasserstein(target)(Samples(oracle.draw(z, extra)), task).value < 0.4
    assert SlicedWasserstein(target)(Samples(task.mixture.sample(n)), task).value > 1.2


def test_groups_and_weights_enter_the_standard_error():
    values = torch.randn(400, generator=torch.Generator().manual_seed(0)).double()
    plain = weighted_mean(values, Samples(values[:, None]))
    assert plain.standard_error == pytest.approx(float(values.std() / 20), rel=1e-6)
    twins = values.repeat_interleave(4)
    grouped = Samples(twins[:, None], group=torch.arange(400).repeat_interleave(4))
    assert weighted_mean(twins, grouped).standard_error == pytest.approx(
        plain.standard_error, rel=1e-6
    )
    weighted = Samples(values[:, None], log_weight=values)
    expected = float((values.exp() * values).sum() / values.exp().sum())
    assert weighted_mean(values, weighted).value == pytest.approx(expected)


def test_energy_distance_is_zero_for_equal_laws_and_unbiased():
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(200, 50, 2, generator=g), torch.randn(200, 50, 2, generator=g)
    found = energy_distance(x, y)
    assert abs(float(found.mean())) < 4 * float(found.std()) / math.sqrt(200)
    assert float(energy_distance(x, y + 1).mean()) > 0.2


def test_posterior_distances_notice_a_wrong_context():
    """The map against itself with shuffled contexts, and the exact empirical posterior."""
    data = real_digits("all").x[:500]
    sampler = MapPosterior(digits.UnconditionalMap(digits.meta_flow_map()))
    contexts = Contexts(data, 0.5, seeds=1)
    right, wrong = (joint_frechet(sampler, contexts, shuffle) for shuffle in (False, True))
    assert wrong > 3 * right
    floor = joint_frechet(Empirical(data), contexts)
    assert floor < right
    x = next(iter(contexts))[0][:16]
    a, b = (draws_at(sampler, x, 0.5, 32, salt) for salt in ("a", "b"))
    shuffled = draws_at(sampler, x.roll(1, 0), 0.5, 32, "a")
    assert energy_distance(shuffled, b).mean() > 10 * energy_distance(a, b).mean().abs()


@pytest.mark.parametrize(
    ("kind", "where"),
    [("mmd2", "gmm-paper"), ("mmd2-data", "digits"), ("mmd2-features", "digits"),
     ("class-error", "digits")],
)  # fmt: skip
def test_dependent_samples_have_no_error_of_independent_ones(kind, where):
    """Populations of an SMC method, and weighted draws: the value stays, the error is refused."""
    task, target = target_of(where, "inverse" if where == "gmm-paper" else "class-mixture")
    x = torch.randn(400, 2) if where == "gmm-paper" else real_digits("train").x[:400]
    metric = plugins.load("metrics", kind)(target)
    free = metric(Samples(x, group=torch.arange(400)), task)
    grouped = metric(Samples(x, group=torch.arange(400) // 4), task)
    weighted = metric(Samples(x, log_weight=torch.linspace(0, 2, 400)), task)
    assert free.standard_error > 0 and "dependent" not in free.note
    assert grouped.value == free.value
    for found in (grouped, weighted):
        assert found.standard_error is None and "dependent or weighted" in found.note


@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_reward_excess_is_the_distance_of_the_mean_reward_in_the_laws_own_deviations(shift):
    """Exact draws score 0 within error; moved along the reward by two deviations, 2."""
    task, target = target_of("gmm-paper", "linear")
    law = task.reference(target.reward, 1.0, None, 4000, 7).x
    rewards = target.reward(law, None)
    along = target.reward(torch.eye(2), None) - target.reward(torch.zeros(2, 2), None)
    moved = law + shift * rewards.std() * along / along.square().sum()
    found = RewardExcess(target)(Samples(moved), task)
    assert found.value == pytest.approx(shift, abs=3 * found.standard_error)
    assert found.standard_error == pytest.approx(math.sqrt(2 / 4000), rel=0.1)


def test_reward_excess_weighs_reference_data_and_refuses_where_they_are_too_few():
    task, target = target_of("digits", "class-mixture")
    reference = task.reference(target.reward, 1.0, None, 64, 0)
    chosen = torch.multinomial(reference.weight, 4000, replacement=True,
                               generator=torch.Generator().manual_seed(0))  # fmt: skip
    found = RewardExcess(target)(Samples(reference.x[chosen]), task)
    assert found.value == pytest.approx(0, abs=3 * found.standard_error)
    task, target = target_of("gmm-paper", "linear")
    assert "no reference" in RewardExcess(target)(Samples(torch.zeros(4, 2)), _Unknown()).note


class _Unknown:
    """A task whose tilted law nobody can sample."""

    def reference(self, *_):
        return None
