"""The shapes world: renderer, words, the judge, and the reward that reads them."""

import pytest
import torch

from bench.core.params import UserError
from bench.models.shapes_judge import measure
from bench.models.shapes_prompts import WORDS, parse, sentence, told, wishes
from bench.models.shapes_render import draw_scenes, pictures, render_scenes
from rewards.prompt import Prompt
from tests.worlds.seeded import generator

# -- pictures and words ----------------------------------------------------------------------------


def test_pictures_are_a_function_of_the_seed():
    x, scenes = pictures(64, 3)
    again, _ = pictures(64, 3)
    assert torch.equal(x, again) and not torch.equal(x, pictures(64, 4)[0])
    assert x.shape == (64, 3, 32, 32) and x.dtype == torch.float32 and x.abs().max() <= 1
    assert torch.equal(render_scenes(scenes[:5]), x[:5])


def test_a_finer_picture_averages_to_the_coarse_one():
    scenes = draw_scenes(200, generator())
    fine = torch.nn.functional.avg_pool2d(render_scenes(scenes, 128), 4)
    assert (fine - render_scenes(scenes)).abs().mean() < 0.01


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
    torch.testing.assert_close(logit, cosine * clip_small.small_clip().logit_scale)
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
