"""What a training says beforehand of its time, and that a shortened one is measured on less."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from bench.metrics import world_quality
from bench.models.digits import UnconditionalMap
from bench.models.meta_flow_map import MetaFlowMapNet
from bench.models.mixture import paper_mixture
from bench.worlds import World, pace
from bench.worlds.gmm_paper import RECIPE
from tests.worlds.small_training import small


def test_the_time_of_a_training_is_its_steps_times_what_a_step_takes(monkeypatch):
    """Two networks of 3 and 5 seconds a step, as a clock that only steps move."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(pace, "perf_counter", lambda: clock.now)

    def train(recipe, folder, stage):
        clock.now += 100  # what comes before the first step
        for name, steps, each in (("flow", recipe.flow_steps, 3), ("map", recipe.map_steps, 5)):
            setting = stage(name, steps)
            setting.begin(0)
            clock.now += each * steps
            setting.finish(torch.nn.Identity())
        return {}

    recipe = small(flow_steps=700, map_steps=900, diagonal_only=5, widening=5)
    world = World(recipe, train, lambda _: None, lambda *_: {})
    assert pace.seconds_of(world, recipe) == {"flow": 2100, "map": 4500}


def test_only_long_trainings_are_tried_first():
    recipe = replace(RECIPE, classifier_steps=0)
    assert pace.is_long(recipe) and not pace.is_long(recipe.shortened(0.01))


@pytest.mark.parametrize(("share", "states"), [(0.001, 2), (0.125, 8), (1.0, 64)])
def test_a_shortened_training_is_measured_on_a_share_of_the_states(monkeypatch, share, states):
    """Exact draws, and seven samplers, at each."""
    calls = []
    monkeypatch.setattr(world_quality, "sliced_w2", lambda *_: calls.append(1) or 1.0)
    monkeypatch.setattr(world_quality, "draws_at", lambda _, x, *__: x[:, None])
    net = UnconditionalMap(MetaFlowMapNet((2,), 8, 1))
    world_quality.posterior_w2(paper_mixture(torch.float32), net, 0.3, share)
    assert len(calls) == 8 * states
