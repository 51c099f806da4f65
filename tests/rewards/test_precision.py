"""Scores of narrow networks: what is read off at the end stays in float32."""

import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from bench.core.params import UserError
from bench.models import clip
from rewards import image_reward
from rewards.clip_scores import Aesthetic, CLIPScore, HPSv2, PickScore
from tests.worlds import tiny_networks
from tests.worlds.tiny_networks import NAME, SIDE, SMALL, small_image_reward

# Fixtures: pytest looks for them in this module.
tiny, path = tiny_networks.tiny, tiny_networks.path
heads, blip_files = tiny_networks.heads, tiny_networks.blip_files

MANY = torch.rand(400, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(8))


@pytest.fixture
def hundred(tiny, tmp_path):
    """Weights with the logit scale of the published networks, log 100."""
    state = load_file(tiny / "tiny.safetensors")
    save_file(
        state | {"logit_scale": torch.tensor(math.log(100))}, tmp_path / "hundred.safetensors"
    )
    return str(tmp_path / "hundred.safetensors")


def distinct(scores):
    assert scores.dtype == torch.float32
    return len(scores.unique())


def narrow_and_wide(cls, **params):
    return (cls.create(pixels="unit", precision=p, **params) for p in ("bfloat16", "float32"))


def test_the_logit_scale_is_not_rounded(hundred, path):
    """In bfloat16 log 100 is 4.59375, and the scale 98.86."""
    model = clip.load_clip(NAME, clip.Path(hundred), "bfloat16")
    assert model.logit_scale == pytest.approx(100, rel=1e-6)
    cosine, logit = (
        CLIPScore.create(weights=hundred, model=NAME, precision="bfloat16", unit=unit)(
            MANY[:9], "a cat"
        )
        for unit in ("cosine", "logit")
    )
    torch.testing.assert_close(logit, 100 * cosine, rtol=1e-5, atol=0)


@pytest.mark.parametrize("cls", [HPSv2, PickScore, CLIPScore])
def test_only_the_layers_of_clip_are_narrow(cls, path):
    named = {"model": NAME} if cls is CLIPScore else {}
    narrow, wide = narrow_and_wide(cls, weights=path, **named)
    net = narrow.model(MANY).net
    inside = [p for n, p in net.named_parameters() if "resblocks" in n]
    outside = [p for n, p in net.named_parameters() if "resblocks" not in n]
    assert {p.dtype for p in inside} == {torch.bfloat16}
    assert {p.dtype for p in outside} == {torch.float32} and len(outside) == 14
    with torch.no_grad():
        found, expected = narrow(MANY, "a cat"), wide(MANY, "a cat")
    assert distinct(found) >= 398
    assert (found - expected).abs().max() < 0.02 * expected.abs().max()


def test_narrow_scores_do_not_depend_on_gradients(path):
    """torch's kernels for inference sum in bfloat16: they are not taken."""
    reward = HPSv2.create(weights=path, pixels="unit", precision="bfloat16")
    scores = reward(MANY[:50].clone().requires_grad_(), "a dog")
    with torch.no_grad():
        assert torch.equal(reward(MANY[:50], "a dog"), scores)


def test_the_aesthetic_head_is_wide(path, heads):
    given = {"head": str(heads[0] / "stack.pth"), "weights": path, "model": NAME}
    narrow, _ = narrow_and_wide(Aesthetic, **given)
    with torch.no_grad():
        assert distinct(narrow(MANY, None)) >= 398


def test_blip_has_as_many_scores_as_pictures(blip_files):
    """A head in bfloat16 gives 79 scores for 400 pictures."""
    narrow = small_image_reward(blip_files, precision="bfloat16")
    wide = small_image_reward(blip_files)
    with torch.no_grad():
        found, expected = narrow(MANY, "a red cat"), wide(MANY, "a red cat")
    assert distinct(found) >= 398
    assert torch.corrcoef(torch.stack([found, expected]))[0, 1] > 0.99
    net = image_reward.load_blip(blip_files / "blip.pt", SMALL, "bfloat16")
    assert {p.dtype for p in net.mlp.parameters()} == {torch.float32}
    assert {p.dtype for p in net.blip.parameters()} == {torch.bfloat16}


def test_an_architecture_without_known_layers_is_refused():
    class Odd(torch.nn.Module):
        visual = torch.nn.Linear(1, 1)

    with pytest.raises(UserError, match="only run in float32"):
        clip.narrowed(Odd(), torch.bfloat16, "odd")
