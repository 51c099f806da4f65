"""Small random networks of the rewards on pictures, in the files that the real code loads."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from bench.models import blip, clip
from rewards import clip_scores, image_reward

NAME = "tiny-for-tests"
SIDE = 32
SHAPES = [(32, 32), (64, 64), (48, 20), (20, 48), (33, 57), (224, 31), (7, 7), (32, 16)]
SHAPES += [(90, 90), (31, 33)]
PICTURES = {
    "random": torch.rand(2, 3, 40, 24, generator=torch.Generator().manual_seed(3)),
    "black": torch.zeros(2, 3, 40, 24),
    "white": torch.ones(2, 3, 40, 24),
    "saturated": torch.tensor([1.0, 0.0, 1.0])[None, :, None, None].expand(2, 3, 40, 24),
}


def config(hidden=32):
    """open_clip's configuration of a CLIP with 0.4M parameters beside its word table."""
    return {
        "embed_dim": 16,
        "vision_cfg": {
            "image_size": SIDE,
            "layers": 2,
            "width": hidden,
            "head_width": 16,
            "patch_size": 8,
        },
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": hidden,
            "heads": 2,
            "layers": 2,
        },
    }


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Weight files of a small random CLIP, as open_clip and as training scripts write them."""
    import open_clip

    folder = tmp_path_factory.mktemp("clip")
    (folder / f"{NAME}.json").write_text(json.dumps(config()))
    open_clip.add_model_config(folder)
    torch.manual_seed(0)
    net = clip.make_clip(NAME)
    for parameter in net.parameters():  # biases and norms start at 0 and 1: make them count
        parameter.data += 0.05 * torch.randn_like(parameter)
    state = net.state_dict()
    save_file(state, folder / "tiny.safetensors")
    torch.save({"state_dict": state, "epoch": 3}, folder / "tiny.pt")
    torch.save({f"module.{k}": v for k, v in state.items()}, folder / "parallel.pt")
    return folder


@pytest.fixture
def path(tiny, monkeypatch):
    monkeypatch.setattr(clip_scores.ClipReward, "architecture", NAME)
    return str(tiny / "tiny.safetensors")


# -- aesthetics -----------------------------------------------------------------------------------


@pytest.fixture
def heads(tmp_path):
    """The published stack with its dropouts' gaps, and a single layer, for 16 features."""
    torch.manual_seed(1)
    sizes = [16, 8, 6, 5, 4, 1]
    layers = {str(n): nn.Linear(*sizes[i : i + 2]) for i, n in enumerate([0, 2, 4, 6, 7])}
    stack = nn.ModuleDict({"layers": nn.ModuleDict(layers)})
    torch.save(stack.state_dict(), tmp_path / "stack.pth")
    single = nn.Linear(16, 1)
    torch.save(single.state_dict(), tmp_path / "single.pth")
    return tmp_path, nn.Sequential(*layers.values()), single


# -- ImageReward ----------------------------------------------------------------------------------

SMALL = blip.BlipConfig(
    side=SIDE, patch=8, vision_width=24, vision_layers=2, vision_heads=2, width=16, layers=2,
    heads=2, vocabulary=30, positions=40, head=(8, 4, 1),
)  # fmt: skip


@pytest.fixture
def blip_files(tmp_path):
    torch.manual_seed(4)
    net = blip.BlipScore(SMALL)
    for parameter in net.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    state = net.state_dict()
    buffer = {"blip.text_encoder.embeddings.position_ids": torch.arange(40)[None]}
    torch.save(state | buffer, tmp_path / "blip.pt")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "cat", "##s"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    return tmp_path


def small_image_reward(folder, **params):
    reward = image_reward.ImageReward.create(
        weights=str(folder / "blip.pt"),
        vocabulary=str(folder / "vocab.txt"),
        pixels="unit",
        **params,
    )
    reward.config = SMALL
    return reward
