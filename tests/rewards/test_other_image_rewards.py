"""Rewards on pictures beside CLIP: JPEG, classifiers, inverse problems, sums, callables."""

import math

import pytest
import torch
from safetensors.torch import save_file

from bench.core.finite import finite_scores
from bench.core.params import UserError
from tests.worlds import tiny_networks
from tests.worlds.tiny_networks import PICTURES

# Fixtures: pytest looks for them in this module.
tiny, path = tiny_networks.tiny, tiny_networks.path


# -- without networks, classifiers, inverse problems, sums, callables -----------------------------


def test_jpeg_rewards_follow_the_detail_and_each_other():
    from rewards.jpeg import Compressibility, Incompressibility

    down, up = Compressibility.create(pixels="unit"), Incompressibility.create(pixels="unit")
    x = torch.stack([torch.full((3, 32, 32), 0.5), torch.rand(3, 32, 32)])
    assert torch.equal(down(x, None), -up(x, None))
    assert up(x, None)[1] > 2 * up(x, None)[0] > 0
    assert not down.differentiable
    x[1] = math.nan
    with pytest.raises(FloatingPointError, match="'jpeg' is not finite for sample 1"):
        finite_scores(down(x, None), "jpeg")
    for kind in PICTURES.values():
        assert down(kind, None).isfinite().all()


def test_classifier_is_timm_with_its_own_preprocessing(tmp_path):
    import timm

    from rewards.classifier import Classifier

    torch.manual_seed(0)
    net = timm.create_model("test_vit", num_classes=7).eval()
    save_file(net.state_dict(), tmp_path / "vit.safetensors")
    made = {"model": "test_vit", "weights": str(tmp_path / "vit.safetensors"), "classes": 7}
    reward = Classifier.create(**made, label=3, pixels="unit")
    shape = timm.data.create_transform(**timm.data.resolve_model_data_config(net))
    for kind in PICTURES.values():
        x = kind.clone().requires_grad_()
        scores = reward(x, None)
        torch.testing.assert_close(scores, net(shape(x)).log_softmax(-1)[:, 3])
        (gradient,) = torch.autograd.grad(scores.sum(), x)
        assert gradient.isfinite().all() and scores.isfinite().all()
    by_condition = Classifier.create(**made, pixels="unit")
    assert torch.equal(by_condition(x, 3), scores)
    with pytest.raises(UserError, match="labels 0 to 6"):
        by_condition(x, 9)
    with pytest.raises(UserError, match="weights=PATH"):
        Classifier.create().weights()


class Pictures:
    """As much of a task as rewards look at."""

    event_shape = data_shape = (3, 8, 8)

    def __init__(self):
        self.held_out = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def has_data(self, split):
        return True

    def data(self, split):
        return self.held_out

    def sentence(self, condition):
        return condition

    def conditions(self, split):
        return ["a cat"]


@pytest.mark.parametrize("name", ["picture-inpaint", "super-resolution", "deblur"])
def test_inverse_problems_are_linear_and_gaussian(name):
    from bench.core import plugins

    reward = plugins.load("rewards", name).create(index=2, sigma=0.3)
    task = Pictures()
    assert reward.compatible(task) is None
    reward.bind(task)
    a, b = torch.randn(2, 5, 3, 8, 8)
    torch.testing.assert_close(
        reward.observe(2 * a - b), 2 * reward.observe(a) - reward.observe(b), atol=1e-5, rtol=1e-5
    )
    # A quadratic: the third difference vanishes, the second one is -|A v|^2 / sigma^2.
    x, v = a[:1], b[:1]
    r = [float(reward(x.double() + k * v.double(), None)) for k in (-1, 0, 1)]
    expected = -float(reward.observe(v).square().sum()) / 0.3**2
    assert r[0] - 2 * r[1] + r[2] == pytest.approx(expected, rel=1e-3)
    truth = task.held_out[2:3]
    noise = -2 * 0.3**2 * float(reward(truth, None)) / 0.3**2  # |e|^2 / sigma^2 is chi-square
    assert noise == pytest.approx(reward.y.numel(), rel=0.4)
    assert float(reward.judge(truth, None)) > float(reward.judge(truth + 0.1, None))


def test_super_resolution_refuses_a_factor_that_does_not_divide():
    from rewards.inverse_images import SuperResolution

    assert "does not divide" in SuperResolution.create(factor=3).compatible(Pictures())


def test_a_sum_is_a_sum_with_its_parts_weights_and_judges(path):
    from bench.core.params import parse_name
    from rewards.combine import WeightedSum

    _, values = parse_name(
        f"sum:rewards=hpsv2;pixels=unit;weights={path}|picture-inpaint;index=1,weights=10|0.5"
    )
    reward, task = WeightedSum.create(**values), Pictures()
    reward.bind(task)
    x = torch.rand(3, 3, 8, 8)
    parts = reward.members(x, "a cat")
    torch.testing.assert_close(reward(x, "a cat"), 10 * parts[0] + 0.5 * parts[1])
    assert reward.differentiable and reward.compatible(task) is None
    assert set(reward.weights()) == {"0 version", "0 hpsv2-2.1", "1 version"}
    assert reward.judge(x, "a cat") is None  # a part has none
    same = WeightedSum.create(rewards=["picture-inpaint", "deblur"])
    same.bind(task)
    expected = sum(part.judge(x, None) for part in same.parts)
    torch.testing.assert_close(same.judge(x, None), expected)
    assert not WeightedSum.create(rewards=["jpeg-compressibility"]).differentiable
    with pytest.raises(UserError, match="same length"):
        WeightedSum.create(rewards=["deblur"], weights=[1.0, 2.0])


MODULE = """
import torch
from types import SimpleNamespace

def score(pixels, prompts):
    return pixels.mean((1, 2, 3)) + len(prompts[0])

def make():
    def run(images, prompts, metadata):
        assert images.dtype == torch.uint8 and len(metadata) == len(prompts)
        return (images.float() / 255).mean((1, 2, 3)).numpy() + len(prompts[0]), {}
    return run

class Model:
    def __call__(self, prompt, image):
        import numpy as np
        pairs = zip(image, prompt)
        return SimpleNamespace(rewards=[np.asarray(i).mean() / 255 + len(p) for i, p in pairs])

def wrong(pixels, prompts):
    return pixels.mean()
"""


def test_three_signatures_of_callables_give_one_score(tmp_path, monkeypatch):
    from rewards.combine import PythonCallable

    (tmp_path / "someones_rewards.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    x = (torch.rand(4, 3, 8, 8) * 255).round() / 255
    made = {"pixels": "unit", "prompt": "abc"}
    kinds = [
        {"function": "someones_rewards:score", "gradient": True},
        {"function": "someones_rewards:make", "signature": "batch", "factory": True}
        | {"images": "uint8"},
        {"function": "someones_rewards:Model", "signature": "model"},
    ]
    for kind in kinds:
        reward = PythonCallable.create(**made, **kind)
        torch.testing.assert_close(reward(x, None), x.mean((1, 2, 3)) + 3, atol=1e-5, rtol=1e-5)
        assert reward.differentiable == bool(kind.get("gradient"))
        assert len(reward.weights()[kind["function"]]) == 64
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(PythonCallable.create(**made, **kinds[0])(x, None).sum(), x)
    torch.testing.assert_close(gradient, torch.full_like(x, 1 / x[0].numel()))
    with pytest.raises(UserError, match="shape"):
        PythonCallable.create(function="someones_rewards:wrong")(x, None)
    with pytest.raises(UserError, match="cannot load"):
        PythonCallable.create(function="someones_rewards:nothing").function  # noqa: B018
