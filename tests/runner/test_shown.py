"""Pictures are decoded and measured in pieces where all of them would be too many."""

import pytest
import torch

from bench.core.metrics import FewMetric, Metric, RowMetric
from bench.core.noise import NoiseSource
from bench.core.plugins import load
from bench.core.values import Measurement, Samples
from bench.plan.expand import expand
from bench.plan.suite import build_suite
from bench.runner import shown
from bench.runner.instances import instances_of
from bench.runner.measuring import evaluate

N = 24
OF_PICTURES = ("reward", "judge", "diversity", "tilt-size", "brightness", "compressed-size")


@pytest.fixture(scope="module")
def instances():
    suite = {"name": "t", "tasks": ["shapes"], "rewards": ["prompt:strength=30"], "n": N}
    row = expand(build_suite({**suite, "methods": ["prior:steps=2"], "seeds": 1}))[0]
    return instances_of(row.cell)


@pytest.fixture
def samples(instances):
    noise = NoiseSource(0, "shown")
    x = noise.normal("x", 0, instances.task.flow.event_shape, range(N))
    weight = noise.normal("weight", 0, (), range(N))
    return Samples(x, weight, torch.arange(N) // 4)


@pytest.fixture
def most(instances, monkeypatch):
    """The most samples that a decoder was handed, while 5 are a piece."""
    seen, decode = [0], instances.task.decode
    monkeypatch.setattr(instances.task, "decode", lambda x: (seen.append(len(x)), decode(x))[1])
    one = decode(torch.zeros(1, *instances.task.flow.event_shape))
    monkeypatch.setattr(shown, "PIECE", 5 * one.numel() * one.element_size())
    return seen


def values(rows):
    return {row.metric: (row.value, row.standard_error, row.n, row.note) for row in rows}


def test_pieces_measure_what_the_whole_does(instances, samples, most, monkeypatch):
    monkeypatch.setattr(load("metrics", "diversity"), "most", 3)
    rows, scores = evaluate(samples, instances, OF_PICTURES)
    assert max(most) == 5
    monkeypatch.setattr(shown, "PIECE", 2**30)
    whole, said = evaluate(samples, instances, OF_PICTURES)
    assert max(most) == N
    assert all(value is not None for value, *_ in values(whole).values())
    for name, (value, error, *rest) in values(whole).items():
        found, its_error, *others = values(rows)[name]
        assert found == pytest.approx(value, rel=1e-5), name
        assert its_error == (error if error is None else pytest.approx(error, rel=1e-4)), name
        assert others == rest
    assert scores.keys() == said.keys() and len(scores["reward"]) == N
    assert scores["reward"] == pytest.approx(said["reward"], abs=1e-5)


class Whole(Metric):
    """Meets all samples."""

    def __call__(self, samples, task):
        return Measurement(float(samples.x.shape[-1]), n=len(samples))


class Broken(RowMetric):
    """Fails on the second piece."""

    def each(self, x, task):
        if len(x) < 5:
            raise ValueError("no")
        return x.flatten(1).mean(1)


def test_a_metric_that_meets_all_is_handed_all(instances, samples, most):
    found = shown.Shown(samples, instances, {"whole": Whole, "reward": load("metrics", "reward")})
    assert found.to("whole").n == N and max(most) == N


def test_an_error_in_a_piece_ends_its_own_metric(instances, samples, most):
    names = {"broken": Broken, "reward": load("metrics", "reward")}
    found = shown.Shown(samples, instances, names)
    assert found.to("reward").n == N
    with pytest.raises(ValueError, match="no"):
        found.to("broken")


def test_the_built_in_metrics_of_pictures_never_need_all():
    for task in ("text-to-image", "imagenet256"):
        kinds = [load("metrics", name) for name in load("tasks", task).metrics]
        assert kinds and all(issubclass(kind, (RowMetric, FewMetric)) for kind in kinds)
