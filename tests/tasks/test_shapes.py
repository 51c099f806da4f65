"""The shapes task with its shipped networks: labels, prompts, references, steering."""

import itertools
from pathlib import Path

import pytest
import torch

from bench.core.params import UserError
from bench.models import weights
from bench.models.shapes_judge import measure
from bench.models.shapes_prompts import parse
from bench.models.shapes_render import SHAPES, pictures
from bench.plan.expand import expand
from bench.plan.suite import build_suite
from bench.runner.cell import Job
from rewards.prompt import Prompt
from tests.worlds.seeded import generator

# -- the shipped networks --------------------------------------------------------------------------


def test_weights_are_small():
    assert Path(weights.find("shapes")).stat().st_size <= 25_000_000


@pytest.mark.parametrize("jumps, share", [(1, 0.95), (2, 0.96)])
def test_samples_of_the_map_show_their_label(jumps, share):
    from bench.tasks.shapes import Shapes

    task, right = Shapes.create(), 0.0
    x0, times = torch.randn(1000, 16, generator=generator(9)), torch.linspace(0, 1, jumps + 1)
    for y in range(len(SHAPES)):
        z = x0
        for s, u in itertools.pairwise(times):
            z = task.flow_map.jump(z, s.expand(1000), u.expand(1000), y)
        right += float((measure(task.decode(z)).shape == y).float().mean()) / len(SHAPES)
    assert right >= share


def test_guidance_is_another_law_and_strengthens_the_label():
    from bench.tasks.shapes import Shapes

    x, t = torch.randn(8, 16, generator=generator()), torch.full((8,), 0.3)
    plain, guided = Shapes.create(), Shapes.create(guidance="model")
    labelled, none = plain.flow.velocity(x, t, 1), plain.flow.velocity(x, t)
    strong = guided.flow.velocity(x, t, 1)
    along = ((strong - none) * (labelled - none)).sum(-1)
    assert (along > (labelled - none).square().sum(-1)).float().mean() > 0.5
    assert torch.equal(none, guided.flow.velocity(x, t))


def test_the_flow_hears_the_noun_and_nothing_else():
    from bench.tasks.shapes import Shapes

    task = Shapes.create()
    x, t = torch.randn(4, 16, generator=generator()), torch.full((4,), 0.4)
    b = task.flow.velocity(x, t, "a small red circle on the left")
    assert torch.equal(b, task.flow.velocity(x, t, "two large blue circles"))
    assert torch.equal(b, task.flow.velocity(x, t, 0))
    assert not torch.equal(b, task.flow.velocity(x, t, "a small red cross on the left"))
    with pytest.raises(UserError, match="neither a prompt nor a class"):
        task.flow.velocity(x, t, 17)


def test_prompts_to_tune_on_are_not_those_of_the_report():
    from bench.tasks.shapes import REPORT, TUNE

    def pair(prompt):
        wish = parse(prompt)
        return wish.get("colour"), wish["shape"]

    assert not {pair(p) for p in REPORT} & {pair(p) for p in TUNE}


def test_reference_is_renders_of_the_class_weighted_by_the_tilt():
    from bench.tasks.shapes import REPORT, Shapes

    task, reward = Shapes.create(), Prompt.create()
    for prompt in REPORT[:2]:
        found = task.reference(reward, 30.0, prompt, 0, 0)
        wish = parse(prompt)
        shown = measure(found.x)
        assert (shown.shape == wish["shape"]).all()
        assert abs(float(found.weight.sum()) - 1) < 1e-4
        base = measure(pictures(2000, 1)[0])
        prior = base.all_match(wish)[base.shape == wish["shape"]].float().mean()
        assert float(found.weight[shown.all_match(wish)].sum()) > 2 * float(prior)


def test_prompts_never_seen_by_the_flow_are_steered_to():
    """Measured attributes match at least three times as often as without steering."""
    content = {
        "name": "steer",
        "tasks": ["shapes"],
        "rewards": ["prompt:strength=30"],
        "n": 64,
        "methods": ["prior", "mfm-g:draws=4,steps=20"],
        "seeds": 1,
    }
    matched = {"prior": 0.0, "mfm-g": 0.0}
    for planned in expand(build_suite(content)):
        found = Job(planned.cell, None, ("prompt-match",)).run()
        assert found.status == "ok", found.reason
        matched[planned.cell.method] += found.metrics[0].value
    assert matched["mfm-g"] >= 3 * matched["prior"]


def test_work_through_the_decoder_is_counted_as_predicted():
    content = {
        "name": "work",
        "tasks": ["shapes"],
        "rewards": ["prompt:strength=30"],
        "n": 4,
        "methods": ["mfm-g:draws=2,steps=5", "dps:steps=5", "best-of-n:candidates=3,steps=10"],
        "seeds": 1,
    }
    for planned in expand(build_suite(content))[:3]:
        cell = planned.cell
        found = Job(cell).run()
        assert found.work["decoder_forward"] == found.work["reward_forward"] > 0
        assert found.work["decoder_backward"] == found.work["reward_backward"]
        assert found.costs["paper-nfe"] == planned.predicted.cost("paper-nfe")


def test_conformance_of_task_and_reward():
    from bench.conformance.findings import Skipped
    from bench.conformance.rewards import CHECKS as REWARD_CHECKS
    from bench.conformance.rewards import RewardSubject
    from bench.conformance.tasks import CHECKS, TaskSubject
    from bench.tasks.shapes import Shapes, ShapesParams

    task = TaskSubject(Shapes, ShapesParams())
    reward = RewardSubject(Prompt.create(), Shapes.create())
    pairs = itertools.chain(
        ((check, task) for check in CHECKS), ((check, reward) for check in REWARD_CHECKS)
    )
    for check, subject in pairs:
        try:
            check(subject)
        except Skipped:
            continue
