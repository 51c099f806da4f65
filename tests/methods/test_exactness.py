"""The claims about the paper's mixture, at full size: minutes, so `make test-all` runs them.

Protocol: n = 4096, 512 fixed projections, floor = mean of 200 exact pairs, a method = mean of 20
seeds; "at most k times the floor" means (mean - 2 standard errors) <= k * floor.
"""

import statistics

import pytest
import torch

from bench.metrics.two_sample import sliced_w2
from bench.plan.binding import make_reward, make_task
from bench.plan.expand import expand
from bench.plan.suite import build_suite
from bench.runner.cell import Job

N, SEEDS, PAIRS = 4096, 20, 200


@pytest.fixture(scope="module")
def floor() -> float:
    _, task = make_task("gmm-paper")
    _, reward, strength = make_reward("inverse")
    tilted = task.oracle(reward, strength).tilted
    g = torch.Generator().manual_seed(0)
    pairs = [sliced_w2(tilted.sample(N, g), tilted.sample(N, g)) for _ in range(PAIRS)]
    return statistics.mean(pairs)


def distances(method: str) -> list[float]:
    content = {
        "name": "t",
        "tasks": ["gmm-paper"],
        "rewards": ["inverse"],
        "methods": [method],
        "n": N,
        "seeds": SEEDS,
    }
    attempts = [Job(r.cell, None, ("sliced-w2",)).run() for r in expand(build_suite(content))]
    return [a.metrics[0].value for a in attempts]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "most"),
    [
        ("oracle:steps=500", 1.5),
        ("mfm-gf:posterior=exact,draws=64,steps=200", 2.0),
    ],
)
def test_exact_methods_stay_near_the_floor(method, most, floor):
    found = distances(method)
    mean, error = statistics.mean(found), statistics.stdev(found) / len(found) ** 0.5
    print(f"{method}: {mean:.4f} +- {error:.4f}, floor {floor:.4f}, ratio {mean / floor:.2f}")
    assert mean - 2 * error <= most * floor


@pytest.mark.slow
def test_dps_is_far_from_the_law(floor):
    found = distances("dps:steps=250")
    print(f"dps: {statistics.mean(found):.3f}, ratio {statistics.mean(found) / floor:.1f}")
    assert statistics.mean(found) > 5 * floor
