"""The shapes world: renderer, words, judge, guidance, autoencoder, the shipped networks."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench.core.integrate import euler, integrate, uniform_grid
from bench.core.params import UserError
from bench.models import weights
from bench.models.autoencoder import Autoencoder, Code
from bench.models.clip_small import SmallCLIP
from bench.models.meta_flow_map import FlowNet, Known, MetaFlowMapNet
from bench.models.mixture import Mixture
from bench.models.nets import GUIDED, ModulatedMLP
from bench.models.shapes_judge import measure
from bench.models.shapes_prompts import WORDS, parse, sentence, told, wishes
from bench.models.shapes_render import SHAPES, draw_scenes, pictures, render
from bench.runner.execute import execute
from bench.runner.planning import expand
from bench.runner.suite import build_suite
from bench.training import guidance, losses
from bench.training.shapes import (
    SHAPES_RECIPE,
    clip_losses,
    code_losses,
    flow_losses,
    make_pool,
    polish_losses,
    solved_pairs,
)
from rewards.prompt import Prompt


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# -- pictures and words ----------------------------------------------------------------------------


def test_pictures_are_a_function_of_the_seed():
    x, scenes = pictures(64, 3)
    again, _ = pictures(64, 3)
    assert torch.equal(x, again) and not torch.equal(x, pictures(64, 4)[0])
    assert x.shape == (64, 3, 32, 32) and x.dtype == torch.float32 and x.abs().max() <= 1
    assert torch.equal(render(scenes[:5]), x[:5])


def test_a_finer_picture_averages_to_the_coarse_one():
    scenes = draw_scenes(200, generator())
    fine = torch.nn.functional.avg_pool2d(render(scenes, 128), 4)
    assert (fine - render(scenes)).abs().mean() < 0.01


def test_every_value_of_every_attribute_is_drawn():
    found = [wish.values() for wish in wishes(draw_scenes(2000, generator()))]
    drawn = [set(column) for column in zip(*found, strict=True)]
    assert [len(values) for values in drawn] == [
        len(WORDS[name]) for name in wishes(draw_scenes(1, generator()))[0]
    ]


def test_sentences_are_read_back():
    g = generator(1)
    for wish in wishes(draw_scenes(500, g)):
        assert parse(sentence(wish)) == wish
        part = told(wish, 0.5, g)
        assert parse(sentence(part)) == part


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("a red thing", "unknown word 'thing'"),
        ("a cirle", "circle"),
        ("something", "unknown word"),
        ("a small red", "names no shape"),
        ("a circle on a pink background", "unknown background 'pink'"),
        ("a red circle side by side", "say two"),
    ],
)
def test_prompts_that_cannot_be_read_say_why(prompt, reason):
    with pytest.raises(UserError, match=reason):
        parse(prompt)


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.1])
def test_the_judge_reads_renders(noise):
    x, scenes = pictures(2000, 5)
    found = measure(x + noise * torch.randn(x.shape, generator=generator()))
    truth = wishes(scenes)
    for name in WORDS:
        right = getattr(found, name) == torch.tensor([wish[name] for wish in truth])
        assert right.float().mean() >= 0.99, name


def test_the_judge_reads_coarser_pictures():
    x, scenes = pictures(200, 6, side=16)
    found = measure(x)
    assert (found.shape == scenes.shape).all() and (found.place == scenes.place).all()


def test_no_word_fits_noise_or_an_empty_picture():
    assert (measure(torch.randn(50, 3, 32, 32, generator=generator())).shape == -1).all()
    assert (measure(torch.ones(2, 3, 32, 32)).count == -1).all()


def test_two_different_colours_are_told_apart_in_a_prompt():
    x, scenes = pictures(300, 7)
    found = measure(x)
    wish = parse("a red circle")
    hit = (scenes.colour == 0) & (scenes.shape == 0) & (scenes.count == 1)
    assert torch.equal(found.all_match(wish), hit)
    assert ((found.agreement(wish) == 1) == hit).all()


# -- guidance --------------------------------------------------------------------------------------


def test_model_guidance_has_the_guided_velocity_as_fixed_point():
    """v = v_none + w (v_y - v_none), w = 1 / (1 - omega), on two Gaussian classes."""
    means = torch.tensor([[2.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
    eye = torch.eye(2, dtype=torch.float64)
    both = Mixture(torch.tensor([0.3, 0.7]).double(), means, eye.expand(2, 2, 2))
    one = Mixture(torch.ones(1).double(), means[:1], eye[None])
    x, t = torch.randn(50, 2, dtype=torch.float64, generator=generator()), torch.rand(50).double()
    conditional, unconditional = one.velocity(x, t), both.velocity(x, t)
    for w in (1.0, 2.5):
        v = conditional.clone()
        for _ in range(200):  # the regression target's conditional mean, over and over
            v = guidance.model_guidance(conditional, v, unconditional, torch.full_like(t, w))
        torch.testing.assert_close(v, unconditional + w * (conditional - unconditional))


def test_label_dropout_and_scales():
    label = torch.randint(4, (20_000,), generator=generator())
    dropped = guidance.drop_labels(label, 4, 0.2, generator(1))
    assert abs(float((dropped == 4).float().mean()) - 0.2) < 0.01
    assert torch.equal(dropped[dropped != 4], label[dropped != 4])
    scale = guidance.draw_scales(dropped, 4, 2.5, 0.5, generator(2))
    assert set(scale.tolist()) == {1.0, 2.5} and (scale[dropped == 4] == 1).all()


# -- networks --------------------------------------------------------------------------------------


def test_an_unconditional_network_has_no_parameters_for_labels():
    torch.manual_seed(0)
    plain = ModulatedMLP(4, 2, 1, 8, 1)
    torch.manual_seed(0)
    labelled = ModulatedMLP(4, 2, 1, 8, 1, classes=3)
    extra = labelled.state_dict().keys() - plain.state_dict().keys()
    assert {name.partition(".")[0] for name in extra} == {"labels"}
    for name, value in plain.state_dict().items():
        assert torch.equal(value, labelled.state_dict()[name])


def trained_a_bit(net):
    """Zero-initialised layers hide what they are told."""
    for parameter in net.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator(1))
    return net


@pytest.mark.parametrize("form", ["gaussian", "raw", "diagonal"])
def test_null_label_scale_and_batch_of_a_map(form):
    net = trained_a_bit(MetaFlowMapNet((5,), 16, 1, form, classes=4))
    x, x_bar = torch.randn(2, 6, 5, generator=generator())
    s, u, t = torch.rand(3, 6, generator=generator()).sort(0).values
    y, w = torch.tensor([0, 1, 2, 3, 4, 0]), torch.tensor([1.0, GUIDED, 1, 1, 1, GUIDED])
    v = net.given(Known(y, w)).velocity(x_bar, s, u, x, t)
    torch.testing.assert_close(v[4:5], net.velocity(x_bar[4:5], s[4:5], u[4:5], x[4:5], t[4:5]))
    plain = net.given(Known(y)).velocity(x_bar, s, u, x, t)
    changed = (v - plain).abs().amax(1) > 1e-6
    assert torch.equal(changed, w != 1)
    for k in range(6):
        row = slice(k, k + 1)
        alone = net.given(Known(y[row], w[row]))
        found = alone.velocity(x_bar[row], s[row], u[row], x[row], t[row])
        torch.testing.assert_close(v[row], found, rtol=1e-4, atol=1e-5)


def small_world():
    small = {"batch": 16, "code_batch": 8, "clip_batch": 8, "latents": 4, "code_width": 16}
    recipe = replace(SHAPES_RECIPE, **small, pairs=64)
    code = Autoencoder((3, 32, 32), 4, 16)
    return recipe, code, make_pool(code, 50, 0, chunk=20)


def test_the_pool_is_a_function_of_the_seed_and_its_draws_of_the_generator():
    _, code, pool = small_world()
    again = make_pool(code, 50, 0, chunk=20)
    assert torch.equal(pool.code.mean, again.code.mean) and torch.equal(pool.label, again.label)
    x, label = pool.pick(2000, generator())
    assert torch.equal(x, pool.pick(2000, generator())[0]) and set(label.tolist()) <= set(range(4))
    assert not torch.equal(make_pool(code, 50, 1).label, pool.label)


def test_divergence_of_a_code_is_that_of_gaussians():
    mean, sigma = torch.randn(6, 3, generator=generator()), torch.rand(6, 3) + 0.1
    q, p = torch.distributions.Normal(mean, sigma), torch.distributions.Normal(0.0, 1.0)
    expected = torch.distributions.kl_divergence(q, p).sum(-1)
    torch.testing.assert_close(Code(mean, sigma).divergence(), expected)


def test_losses_are_finite_and_reach_every_parameter():
    recipe, code, pool = small_world()
    flow = FlowNet((4,), 16, 1, classes=4)
    net = MetaFlowMapNet((4,), 16, 1, classes=4)
    for objective, model in (
        (code_losses(recipe), code),
        (flow_losses(pool, recipe), flow),
        (polish_losses(pool, solved_pairs(flow, recipe), flow, recipe), net),
        (clip_losses(recipe), SmallCLIP()),
    ):
        for step in range(4):  # the last layers start at zero and shield those before them
            found = objective(model, model, generator(step))
            sum(found.values()).backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter += 0.01 * torch.randn(parameter.shape, generator=generator(step))
        assert all(torch.isfinite(value) for value in found.values())
        frozen = (p for p in flow.parameters() if model is net)
        assert all(p.grad is not None for p in model.parameters() if p not in set(frozen))


def test_pairs_are_trajectories_of_the_flow_given_label_and_scale():
    recipe, _, _ = small_world()
    flow = FlowNet((4,), 16, 1, classes=4)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator(3))
    pairs = solved_pairs(flow, replace(recipe, pairs=2100, pair_steps=32))
    assert set(pairs.label.tolist()) == {0, 1, 2, 3, 4}
    assert set(pairs.scale.tolist()) == {1.0, GUIDED}
    few = pairs.pick(64, generator())
    with torch.no_grad():
        grid = uniform_grid(2000)
        fine = integrate(euler(flow.given(few.known).velocity), few.noise, grid)
        none = integrate(euler(flow.velocity), few.noise, grid)
    torch.testing.assert_close(few.end, fine, atol=5e-3, rtol=0)
    told = few.label < 4
    assert (few.end - none)[told].abs().amax(-1).median() > 0.02


def test_whole_jumps_are_taught_where_trajectories_end():
    """The loss of a map that jumps straight to the ends vanishes; its context is t = 0."""
    recipe, _, _ = small_world()
    flow = FlowNet((4,), 16, 1, classes=4)
    pairs = solved_pairs(flow, recipe)

    class Right:
        def velocity(self, x_bar, s, u, x, t):
            assert not s.any() and bool((u == 1).all()) and not t.any() and not x.any()
            assert torch.equal(x_bar, pairs.noise)
            return pairs.end - pairs.noise

    prediction, goal = losses.endpoints(Right(), None, pairs.draw())
    torch.testing.assert_close(prediction, goal)
    prediction, goal = losses.endpoints(Right(), None, pairs._replace(end=pairs.end + 1).draw())
    torch.testing.assert_close(prediction + 1, goal)


def test_what_guidance_costs_is_in_the_recipe():
    """Counted: two more forwards for every row whose scale is not 1."""
    recipe, _, pool = small_world()
    asked = []

    class Counting(FlowNet):
        def labelled(self, x, t, known):
            asked.append(len(x))
            return super().labelled(x, t, known)

    flow = Counting((4,), 16, 1, classes=4)
    steps = 400
    for step in range(steps):
        flow_losses(pool, recipe)(flow, flow, generator(step))
    counted = (sum(asked) + recipe.batch * steps) / steps  # a backward per row of the first call
    promised = recipe.training()["flow"] / recipe.flow_steps
    assert abs(counted / promised - 1) < 0.05


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


def test_the_reward_prefers_what_the_prompt_says():
    """Among renders, a true sentence has a larger cosine than one with another colour."""
    reward = Prompt.create()
    x, scenes = pictures(200, 8)
    for row, wish in zip(x[:40], wishes(scenes[:40]), strict=True):
        wrong = {**wish, "colour": (wish["colour"] + 1) % len(WORDS["colour"])}
        assert reward(row[None], sentence(wish)) > reward(row[None], sentence(wrong))


def test_the_logit_unit_is_the_cosine_times_the_learnt_scale():
    from bench.models import clip_small

    x, prompt = pictures(5, 0)[0], "a red circle"
    cosine, logit = (Prompt.create(unit=unit)(x, prompt) for unit in ("cosine", "logit"))
    torch.testing.assert_close(logit, cosine * clip_small.load().logit_scale)
    assert cosine.abs().max() <= 1


def test_the_judge_of_the_reward_is_the_measured_share():
    reward = Prompt.create()
    x, scenes = pictures(50, 2)
    for prompt in ("a red circle", "two blue crosses side by side"):
        wish = parse(prompt)
        expected = [
            sum(truth[name] == value for name, value in wish.items()) / len(wish)
            for truth in wishes(scenes)
        ]
        torch.testing.assert_close(reward.judge(x, prompt), torch.tensor(expected))


def test_reward_needs_a_sentence():
    with pytest.raises(UserError, match="needs a sentence"):
        Prompt.create()(pictures(1, 0)[0], 3)


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
        found = execute(planned.cell.to_json(), None, ["prompt-match"])
        assert found.status == "ok", found.reason
        matched[planned.cell.method] += found.metrics[0]["value"]
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
        found = execute(cell.to_json(), None, [])
        assert found.work["decoder_forward"] == found.work["reward_forward"] > 0
        assert found.work["decoder_backward"] == found.work["reward_backward"]
        assert found.costs["paper-nfe"] == planned.predicted.cost("paper-nfe")


def test_conformance_of_task_and_reward():
    from bench.core.conformance.findings import Skipped
    from bench.core.conformance.rewards import CHECKS as REWARD_CHECKS
    from bench.core.conformance.rewards import RewardSubject
    from bench.core.conformance.tasks import CHECKS, TaskSubject
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
