"""Weights for another activation fit by shape: they are asked for, refused, or there is a doubt."""

import json
import shutil

import pytest
import torch

from bench.core.params import UserError
from bench.models import activations, clip
from rewards.clip_scores import Aesthetic, CLIPScore
from tests.worlds import tiny_networks
from tests.worlds.tiny_networks import NAME, PICTURES, config

# Fixtures: pytest looks for them in this module.
tiny, path, heads = tiny_networks.tiny, tiny_networks.path, tiny_networks.heads

TWIN = f"{NAME}-twin"
QUICK = f"{TWIN}-quickgelu"


@pytest.fixture
def weights(path, tmp_path):
    """A file that fits a model with GELU and its twin with quick-GELU."""
    import open_clip

    (tmp_path / "models").mkdir()
    for name, quick in ((TWIN, False), (QUICK, True)):
        content = json.dumps(config() | {"quick_gelu": quick})
        (tmp_path / "models" / f"{name}.json").write_text(content)
    open_clip.add_model_config(tmp_path / "models")
    (tmp_path / "weights").mkdir()
    return shutil.copy(path, tmp_path / "weights" / "mine.safetensors")


def reward(weights, **params):
    return CLIPScore.create(weights=str(weights), pixels="unit", **params)


def test_both_load_and_give_other_scores(weights):
    """Why it has to be known: nothing fails, and every score is another."""
    scores = [
        reward(weights, model=model, activation=asked)(PICTURES["random"], "a cat")
        for model, asked in ((TWIN, "gelu"), (QUICK, "quick-gelu"))
    ]
    assert (scores[0] - scores[1]).abs().max() > 1e-4


@pytest.mark.parametrize(("model", "other"), [(TWIN, QUICK), (QUICK, TWIN)])
def test_a_twin_is_a_warning_and_a_note(weights, model, other):
    made = reward(weights, model=model)
    with pytest.warns(UserWarning, match=f"model={other}"):
        made(PICTURES["random"], "a cat")
    assert f"model={other}" in made.doubt() and "mine.safetensors" in made.doubt()


def test_what_is_asked_for_is_no_doubt(weights, recwarn):
    made = reward(weights, model=QUICK, activation="quick-gelu")
    made(PICTURES["random"], "a cat")
    assert not made.doubt() and not [w for w in recwarn if "activation" in str(w.message)]
    with pytest.raises(UserError, match=f"has quick-gelu, not gelu: ask for model={TWIN}"):
        reward(weights, model=QUICK, activation="gelu")(PICTURES["random"], "a cat")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", {"vision_config": {"hidden_act": "quick_gelu"}}),
        ("config.json", {"vision_config": {}}),  # the default of transformers
        ("open_clip_config.json", {"model_cfg": {"quick_gelu": True}}),
    ],
)
def test_a_configuration_beside_the_file_decides(weights, name, content):
    (tiny_networks.clip.Path(weights).parent / name).write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"are for quick-gelu .*ask for model={QUICK}"):
        reward(weights, model=TWIN)(PICTURES["random"], "a cat")
    assert not reward(weights, model=QUICK).doubt()


def test_published_files_are_known_by_their_names(weights, tmp_path, heads):
    """The CLIP of the aesthetic score in a network with GELU."""
    known = tmp_path / "clip-vit-l-14-openai.safetensors"
    shutil.copy(weights, known)
    made = Aesthetic.create(head=str(heads[0] / "stack.pth"), weights=str(known), model=TWIN)
    with pytest.raises(UserError, match="published as clip-vit-l-14"):
        made(PICTURES["random"], None)


def test_models_without_a_twin_have_no_doubt(path):
    assert not reward(path, model=NAME).doubt()


def test_the_published_activations_are_those_of_their_models():
    """Each known file with the model that reads it."""
    import open_clip

    from rewards.clip_scores import KNOWN_CLIPS, AestheticParams, HPSv2

    models = {file: model for model, file in KNOWN_CLIPS.items()}
    models |= dict.fromkeys(("hpsv2-2.0", "hpsv2-2.1", "pickscore"), HPSv2.architecture)
    assert models["clip-vit-l-14"] == AestheticParams.model
    for file, activation in activations.PUBLISHED.items():
        quick = open_clip.get_model_config("ViT-H-14" if models[file] == NAME else models[file])
        assert quick.get("quick_gelu", False) == (activation == "quick-gelu"), file


def test_the_reader_warns_wherever_it_reads(weights):
    with pytest.warns(UserWarning, match="say it with activation=gelu"):
        clip.load_clip(TWIN, clip.Path(weights))
    assert torch.is_tensor(clip.load_clip(TWIN, clip.Path(weights)).text("a cat"))
