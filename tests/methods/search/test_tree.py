"""Diffusion tree sampling: its limits, its bookkeeping, and the tilted law of the chain."""

import math

import pytest
import torch

from bench.core.values import ProblemSpec
from methods.search.tree import DTS, Growing, Tree
from tests.worlds.one_gaussian import MEAN, SLOPE, VARIANCE, chain_law, gaussian_problem
from tests.worlds.search_problems import order_statistic, problem_of

WIDE = 1e9


def grown(problem, trees, rollouts, **params):
    method = DTS.create(**params)
    tree = Tree(trees, method.params.steps, rollouts)
    growing = Growing(problem, method.params, tree)
    for k in range(rollouts):
        growing.rollout(k)
    return tree, growing


def test_one_rollout_is_the_base_chain():
    n, method = 4000, DTS.create(rollouts=1, samples=1, steps=12)
    x = method.sample(gaussian_problem(n), n).x[:, 0]
    mean, variance = chain_law(MEAN, VARIANCE, 12)
    assert order_statistic(x, 1, mean, math.sqrt(variance)) > 0.01


def test_the_widest_tree_is_importance_resampling_of_rollouts():
    """Every rollout begins at the root: weights e^r, and an unbiased estimate of Z."""
    n, count = 4000, 8
    tree, growing = grown(gaussian_problem(n), n, count, steps=12, widening=WIDE)
    reward = SLOPE * growing.leaves[..., 0]
    assert torch.allclose(tree.leaf_log_weight(), reward - math.log(count))
    assert growing.evaluated == 12 * n * count
    mean, variance = chain_law(MEAN, VARIANCE, 12)
    ratio = (tree.leaf_log_weight().logsumexp(1) - SLOPE * mean - SLOPE**2 * variance / 2).exp()
    assert abs(float(ratio.mean()) - 1) < 3 * float(ratio.std()) / math.sqrt(n)


def test_values_are_the_soft_bellman_equation_and_leaves_are_walks():
    """v = log mean e^v of the children; a leaf's weight is the product of its choices."""
    trees, rollouts, depth = 5, 30, 6
    tree, _ = grown(gaussian_problem(trees), trees, rollouts, steps=depth, widening=1.0)
    assert int(tree.children.max()) > 1 and int(tree.root_children.max()) < rollouts
    for i in range(trees):
        walk = {-1: 0.0}
        for j in range(depth):
            nodes = [k for k in range(rollouts) if tree.parent[j, i, k] > -2]
            value = {k: float(tree.value[j, i, k]) for k in nodes}
            families = {}
            for k in nodes:
                families.setdefault(int(tree.parent[j, i, k]), []).append(k)
            for parent, family in families.items():
                total = math.log(sum(math.exp(value[k]) for k in family))
                if j:
                    above = float(tree.value[j - 1, i, parent])
                    assert above == pytest.approx(total - math.log(len(family)))
                    assert int(tree.children[j - 1, i, parent]) == len(family)
            walk = {
                k: walk[parent] + value[k] - math.log(sum(math.exp(value[m]) for m in family))
                for parent, family in families.items()
                for k in family
            }
        found = tree.leaf_log_weight()[i].log_softmax(0)
        assert all(float(found[k]) == pytest.approx(w) for k, w in walk.items())
        assert int(tree.visits[-1, i].sum()) == rollouts


def test_a_node_has_no_more_children_than_its_visits_allow():
    tree, _ = grown(gaussian_problem(6), 6, 60, steps=5, widening=1.0, power=0.5)
    assert bool((tree.children[:-1] <= tree.visits[:-1].double().sqrt().ceil()).all())
    assert int(tree.root_children.max()) <= math.ceil(math.sqrt(60))


def gap(rollouts, **widening):
    """Distance of the samples' mean from that of the tilted chain, in its deviations."""
    mean, variance = chain_law(MEAN, VARIANCE, 6)
    n, method = 8192, DTS.create(rollouts=rollouts, samples=16, steps=6, **widening)
    x = method.sample(gaussian_problem(n), n).x[:, 0]
    return abs(float(x.mean()) - mean - SLOPE * variance) / math.sqrt(variance)


def test_the_widest_tree_tends_to_the_tilted_chain_as_rollouts_grow():
    """The bias of self-normalised weights, of order 1 / rollouts: .13, .065, .025 and none left."""
    one, two, many = (gap(rollouts, widening=WIDE) for rollouts in (1, 2, 16))
    assert one > 0.1 and 0.03 < two < 0.75 * one
    assert many < 3 / math.sqrt(8192)


def test_a_narrow_tree_underestimates_z():
    """Its known bias: what was unlucky is not visited again, what was lucky is corrected."""
    n, rollouts, off = 300, 64, []
    mean, variance = chain_law(MEAN, VARIANCE, 6)
    for widening in (1.0, 4.0):
        tree, _ = grown(gaussian_problem(n), n, rollouts, steps=6, widening=widening, power=0.5)
        log_z = tree.leaf_log_weight().logsumexp(1)
        ratio = (log_z - SLOPE * mean - SLOPE**2 * variance / 2).exp()
        off.append(float(ratio.mean()))
        assert off[-1] < 1 - 4 * float(ratio.std()) / math.sqrt(n)
    assert off[0] < off[1] < 1


@pytest.mark.parametrize("variance", ["signal", "map"])
def test_the_work_is_bounded_by_its_prediction(variance):
    method = DTS.create(rollouts=6, samples=4, steps=5, widening=1.0, variance=variance)
    problem = problem_of(n=12)
    samples = method.sample(problem, 12)
    bound, used = method.work(ProblemSpec((2,))) * 12, problem.meter.work()
    assert bound.upper_bound and used.flow.forward <= bound.flow.forward
    assert used.reward.forward <= bound.reward.forward
    assert used.flow.forward == pytest.approx(samples.info["used"] * bound.flow.forward)
    assert samples.info["used"] < 1
