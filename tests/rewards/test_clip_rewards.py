"""Rewards by CLIP: preprocessing, the score of open_clip, and values finite everywhere."""

import math
from types import SimpleNamespace

import pytest
import torch
import torchvision.transforms.v2.functional as tv

from bench.core.conditions import RowConditions
from bench.core.finite import finite_scores
from bench.core.flops import counted, price_unbuilt
from bench.core.params import UserError
from bench.models import preprocess
from rewards import clip_scores
from rewards.clip_scores import Aesthetic, CLIPScore, HPSv2, PickScore
from tests.worlds import tiny_networks
from tests.worlds.tiny_networks import NAME, PICTURES, SHAPES, SIDE, small_image_reward

# Fixtures: pytest looks for them in this module.
tiny, path = tiny_networks.tiny, tiny_networks.path
heads, blip_files = tiny_networks.heads, tiny_networks.blip_files

PROMPTS = ["a red circle", "two green crosses, side by side", ""]


# -- preprocessing --------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_longest_is_torchvision_resize_and_pad(shape):
    x = torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(1))
    scale = SIDE / max(shape)
    h, w = (round(s * scale) for s in shape)
    small = tv.resize(x, [h, w], tv.InterpolationMode.BICUBIC, antialias=True)
    top, left = (SIDE - h) // 2, (SIDE - w) // 2
    padded = tv.pad(small, [left, top, SIDE - w - left, SIDE - h - top])
    expected = tv.normalize(padded, preprocess.CLIP_MEAN, preprocess.CLIP_STD)
    found = preprocess.Preprocess(SIDE, "longest")(x)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_shortest_is_torchvision_resize_and_crop(shape):
    x = torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(1))
    expected = tv.center_crop(tv.resize(x, [SIDE], tv.InterpolationMode.BICUBIC), [SIDE, SIDE])
    torch.testing.assert_close(preprocess.crop_shortest(x, SIDE), expected, atol=1e-6, rtol=0)


def test_ranges_and_grey_pictures():
    x = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(preprocess.to_unit(2 * x - 1, "signed"), x)
    grey = preprocess.to_unit(x[:, :1], "unit")
    assert grey.shape == x.shape and torch.equal(grey[:, 0], grey[:, 2])
    with pytest.raises(UserError, match="shape"):
        preprocess.to_unit(torch.rand(2, 5), "unit")


# -- the score ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [HPSv2, PickScore, CLIPScore])
def test_score_is_the_cosine_of_open_clip(cls, path):
    """Against open_clip called by hand, on ten shapes and three prompts."""
    import open_clip

    named = {"model": NAME} if cls is CLIPScore else {}
    reward = cls.create(weights=path, pixels="unit", **named)
    net = open_clip.create_model(NAME, pretrained=path).eval()
    fit = "longest" if cls is HPSv2 else "shortest"
    for k, shape in enumerate(SHAPES):
        x = torch.rand(5, 3, *shape, generator=torch.Generator().manual_seed(k))
        prompt = PROMPTS[k % len(PROMPTS)] or "nothing"
        inputs = preprocess.Preprocess(SIDE, fit)(x)
        with torch.no_grad():
            f, g, scale = net(inputs, open_clip.get_tokenizer(NAME)([prompt]))
            cosine = (f @ g.T)[:, 0]
            expected = cosine * scale if cls is PickScore else cosine
            torch.testing.assert_close(reward(x, prompt), expected, atol=1e-5, rtol=1e-5)


def test_every_kind_of_file_gives_the_same_score(path, tiny):
    x = PICTURES["random"]
    scores = [
        HPSv2.create(weights=str(tiny / file), pixels="unit")(x, "a cat")
        for file in ("tiny.safetensors", "tiny.pt", "parallel.pt")
    ]
    assert torch.equal(scores[0], scores[1]) and torch.equal(scores[0], scores[2])


def test_gradient_agrees_with_finite_differences(path):
    params = clip_scores.HPSParams(weights=path, pixels="unit", precision="float64")
    reward = HPSv2(params)
    x = PICTURES["random"].double().requires_grad_()
    (gradient,) = torch.autograd.grad(reward(x, "a cat").sum(), x)
    for seed in range(5):
        v = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).double()
        with torch.no_grad():
            up, down = (reward(x + s * 1e-4 * v, "a cat").sum() for s in (1, -1))
        numeric = float(up - down) / 2e-4
        assert float((gradient * v).sum()) == pytest.approx(numeric, rel=1e-5, abs=1e-9)


def test_bfloat16_is_near_and_has_gradients(path):
    x = PICTURES["random"].clone().requires_grad_()
    wide, narrow = (
        HPSv2.create(weights=path, pixels="unit", precision=p)(x, "a cat")
        for p in ("float32", "bfloat16")
    )
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow, wide, atol=2e-2, rtol=0)
    (gradient,) = torch.autograd.grad(narrow.sum(), x)
    assert gradient.abs().sum() > 0


def test_prompt_features_are_computed_once(path):
    reward = HPSv2.create(weights=path)
    model = reward.model(PICTURES["random"])
    model.text("a dog")
    calls = []
    model.net.register_forward_pre_hook(lambda *a: calls.append(a))
    tower = model.net.transformer.register_forward_pre_hook(lambda *a: calls.append(a))
    reward(PICTURES["random"], "a dog")
    tower.remove()
    assert not calls


def test_counted_flops_do_not_depend_on_gradients(path):
    """Without gradients torch would take kernels that its FLOP counter does not see."""
    from bench.core.flops import price

    reward, x = HPSv2.create(weights=path), PICTURES["random"]
    with torch.no_grad():
        blind, _ = price(("hps", "no grad"), lambda x: reward(x, "a cat"), (x,))
    seen, _ = price(("hps", "grad"), lambda x: reward(x, "a cat"), (x.clone().requires_grad_(),))
    assert blind.forward.per_row == seen.forward.per_row > 0
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_prompt_is_needed(path):
    with pytest.raises(UserError, match="prompt="):
        HPSv2.create(weights=path)(PICTURES["random"], 3)
    assert HPSv2.create(weights=path, prompt="a cat")(PICTURES["random"], 3).shape == (2,)


def test_aesthetic_is_its_head_on_unit_features(path, heads):
    folder, stack, single = heads
    x = PICTURES["random"]
    features = CLIPScore.create(model=NAME, weights=path).model(x).image(x)
    for file, head in (("stack.pth", stack), ("single.pth", single)):
        reward = Aesthetic.create(head=str(folder / file), weights=path, model=NAME, pixels="unit")
        torch.testing.assert_close(reward(x, None), head(features)[:, 0].detach())
        assert set(reward.weights()) == {"aesthetic", "clip-vit-l-14"}


def test_a_head_with_something_else_is_refused(tmp_path):
    torch.save({"a.weight": torch.ones(1, 4)}, tmp_path / "odd.pth")
    with pytest.raises(UserError, match="linear"):
        clip_scores.affine_head(tmp_path / "odd.pth")


# -- finite everywhere ----------------------------------------------------------------------------


@pytest.fixture
def rewards(path, heads, blip_files):
    return {
        "hpsv2": HPSv2.create(weights=path, pixels="unit"),
        "pickscore": PickScore.create(weights=path, pixels="unit"),
        "clip": CLIPScore.create(weights=path, pixels="unit", model=NAME),
        "aesthetic": Aesthetic.create(
            head=str(heads[0] / "stack.pth"), weights=path, model=NAME, pixels="unit"
        ),
        "image-reward": small_image_reward(blip_files),
    }


@pytest.mark.parametrize("name", ["hpsv2", "pickscore", "clip", "aesthetic", "image-reward"])
@pytest.mark.parametrize("kind", PICTURES)
def test_value_and_gradient_are_finite(name, kind, rewards):
    x = PICTURES[kind].clone().requires_grad_()
    scores = rewards[name](x, "a cat")
    (gradient,) = torch.autograd.grad(scores.sum(), x)
    assert scores.shape == (2,) and scores.dtype == torch.float32
    assert scores.isfinite().all() and gradient.isfinite().all() and gradient.abs().sum() > 0


@pytest.mark.parametrize("name", ["hpsv2", "pickscore", "clip", "aesthetic", "image-reward"])
def test_a_nan_names_the_reward_and_the_sample(name, rewards):
    x = PICTURES["random"].clone()
    x[1, 0, 20, 12] = math.nan
    with pytest.raises(FloatingPointError, match=f"'{name}'.*sample 1"):
        finite_scores(rewards[name](x, "a cat"), name)


def test_a_clip_that_was_never_loaded_has_the_price_of_one_that_was(path):
    """bench plan counts FLOPs without weights."""
    reward = HPSv2.create(weights=path, prompt="a cat")
    x = torch.rand(1, 3, 40, 24)
    task = SimpleNamespace(data_shape=(3, 40, 24))
    (make,) = reward.unbuilt(task)
    model = reward.model(x)
    assert price_unbuilt(make).forward(1) == counted(lambda: model.image(x)) > 0


@pytest.mark.parametrize("name", ["hpsv2", "pickscore", "clip", "aesthetic", "image-reward"])
def test_rows_under_two_prompts_score_what_each_does_alone(name, rewards):
    """Values and gradients; a CLIP looks at all pictures at once, and reads each prompt once."""
    reward, x = rewards[name], PICTURES["random"].clone().requires_grad_()
    scores = reward.score_rows(x, RowConditions(("a cat", "two dogs on a sofa"), (1, 1)))
    alone = torch.cat([reward(x[:1], "a cat"), reward(x[1:], "two dogs on a sofa")])
    assert torch.allclose(scores, alone, atol=1e-6)
    slopes = [torch.autograd.grad(r.sum(), x)[0] for r in (scores, alone)]
    assert torch.allclose(*slopes, rtol=1e-4, atol=1e-6)
