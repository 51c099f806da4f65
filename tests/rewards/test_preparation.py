"""Pictures are prepared as the weights of a judge were evaluated, not as its architecture was."""

import json

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from bench.core.params import UserError
from bench.models import clip, clip_transforms, external
from bench.models.preprocess import CLIP_MEAN, Preprocess
from rewards.classifier import Classifier, evaluation_transform
from rewards.clip_scores import CLIPScore, HPSv2, PickScore
from tests.worlds import tiny_networks
from tests.worlds.tiny_networks import NAME, SHAPES

# Fixtures: pytest looks for them in this module.
tiny, path = tiny_networks.tiny, tiny_networks.path

BASE = {"input_size": (3, 48, 48), "mean": (0.2, 0.5, 0.7), "std": (0.3, 0.2, 0.1)}
BASE |= {"interpolation": "bicubic"}


@pytest.mark.parametrize("mode", ["center", "squash"])
@pytest.mark.parametrize("share", [0.875, 0.95, 1.0])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_the_transform_is_timms(mode, share, interpolation):
    """crop_pct, mode and interpolation, on ten shapes of pictures."""
    settings = BASE | {"crop_mode": mode, "crop_pct": share, "interpolation": interpolation}
    found, expected = evaluation_transform(settings, "x"), timm.data.create_transform(**settings)
    for k, shape in enumerate(SHAPES):
        x = torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(k))
        torch.testing.assert_close(found(x), expected(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("share", [0.8, 1.0])
def test_a_border_has_the_mean_as_its_colour(share):
    """torchvision pads only 8-bit pictures with a colour: smooth and grey ones, to two levels."""
    settings = BASE | {"crop_mode": "border", "crop_pct": share}
    found, expected = evaluation_transform(settings, "x"), timm.data.create_transform(**settings)
    for height, width in SHAPES:
        ramp = 0.3 + 0.2 * (torch.linspace(0, 1, height)[:, None] + torch.linspace(0, 1, width))
        shown = (ramp.expand(3, -1, -1) * 255).round().to(torch.uint8)
        picture = Image.fromarray(shown.permute(1, 2, 0).numpy())
        gap = found(shown[None].float() / 255)[0] - expected(picture)
        assert float(gap.abs().max()) < 2 / 255 / min(BASE["std"])


def test_a_crop_of_the_weights_changes_the_score(tmp_path):
    """timm writes the configuration of weights beside them, and it wins over the model's."""
    torch.manual_seed(0)
    net = timm.create_model("test_vit", num_classes=7).eval()
    scores = []
    for name, share in (("own", None), ("theirs", 0.6)):
        (tmp_path / name).mkdir()
        save_file(net.state_dict(), tmp_path / name / "model.safetensors")
        config = timm.models.get_pretrained_cfg("test_vit").to_dict()
        if share:
            config["crop_pct"] = share
            content = json.dumps({"pretrained_cfg": config}, default=str)
            (tmp_path / name / "config.json").write_text(content)
        made = {"model": "test_vit", "classes": 7, "label": 3, "pixels": "unit"}
        reward = Classifier.create(weights=str(tmp_path / name / "model.safetensors"), **made)
        x = torch.rand(3, 3, 90, 70, generator=torch.Generator().manual_seed(1))
        scores.append(reward(x, None))
        settings = timm.data.resolve_data_config({}, pretrained_cfg=config, model=net)
        shape = timm.data.create_transform(**settings)
        torch.testing.assert_close(scores[-1], net(shape(x)).log_softmax(-1)[:, 3].detach())
    assert not torch.allclose(scores[0], scores[1])


def test_what_cannot_be_done_here_is_refused():
    with pytest.raises(UserError, match="48x64"):
        evaluation_transform(BASE | {"input_size": (3, 48, 64), "crop_pct": 1.0}, "x")
    with pytest.raises(UserError, match="not by 'lanczos'"):
        Preprocess(32, interpolation="lanczos")


# -- CLIP -----------------------------------------------------------------------------------------


def published(**tags):
    """As much of open_clip as knows published weights."""

    class Package:
        list_pretrained_tags_by_model = staticmethod(lambda name: list(tags))
        get_pretrained_cfg = staticmethod(lambda name, tag: tags[tag])

    return Package


SIGLIP = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "resize_mode": "squash"}


def test_published_weights_say_how(tmp_path):
    where = tmp_path / "x.safetensors"
    found, doubt = clip_transforms.transform_of("x", where, published(a=SIGLIP, b=SIGLIP))
    assert (found.fit, found.mean, found.interpolation) == ("squash", (0.5,) * 3, "bicubic")
    assert not doubt
    found, doubt = clip_transforms.transform_of("x", where, published(a=SIGLIP, b={}))
    assert found.mean == CLIP_MEAN and "2 ways" in doubt
    assert clip_transforms.transform_of("x", where, published()) == (
        clip_transforms.Transform(),
        "",
    )


def test_real_models_are_prepared_as_their_weights():
    import open_clip

    for name, mean, fit, how in (
        ("ViT-B-16-SigLIP", 0.5, "squash", "bicubic"),
        ("MobileCLIP-S1", 0.0, "shortest", "bilinear"),
        ("ViT-B-32", CLIP_MEAN[0], "shortest", "bicubic"),
    ):
        found, doubt = clip_transforms.transform_of(name, clip.Path("x"), open_clip)
        assert (found.mean[0], found.fit, found.interpolation, doubt) == (mean, fit, how, ""), name
    _, doubt = clip_transforms.transform_of("ViT-L-14", clip.Path("mine.pt"), open_clip)
    assert "2 ways" in doubt and "mine.pt" in doubt


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("open_clip_config.json", {"preprocess_cfg": SIGLIP | {"interpolation": "bilinear"}}),
        (
            "preprocessor_config.json",
            {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2},
        ),
    ],
)
def test_a_configuration_beside_the_file_wins(tiny, tmp_path, name, content):
    file = tmp_path / "mine.safetensors"
    file.write_bytes((tiny / "tiny.safetensors").read_bytes())
    (tmp_path / name).write_text(json.dumps(content))
    reward = CLIPScore.create(weights=str(file), model=NAME, pixels="unit")
    shape = reward.model(torch.zeros(1)).preprocess
    assert (shape.mean, shape.fit, shape.interpolation) == ((0.5,) * 3, "squash", "bilinear")
    (tmp_path / name).write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        clip_transforms.transform_of(NAME, file, published())


def test_a_reward_with_its_own_fit_keeps_it(path):
    assert HPSv2.create(weights=path).model(torch.zeros(1)).preprocess.fit == "longest"


# -- what stands beside the file is part of it ----------------------------------------------------


def copied(tiny, folder):
    file = folder / "mine.safetensors"
    file.write_bytes((tiny / "tiny.safetensors").read_bytes())
    return file


def test_a_configuration_that_comes_later_is_another_cell_and_another_model(tiny, tmp_path):
    file = copied(tiny, tmp_path)
    reward = CLIPScore.create(weights=str(file), model=NAME, pixels="unit")
    keys, shapes = [reward.weights()], [reward.model(torch.zeros(1)).preprocess]
    for mean in ((0.5, 0.5, 0.5), (0.4, 0.5, 0.5)):
        content = {"preprocess_cfg": SIGLIP | {"mean": mean}}
        (tmp_path / "open_clip_config.json").write_text(json.dumps(content))
        keys.append(reward.weights())
        shapes.append(reward.model(torch.zeros(1)).preprocess)
        assert shapes[-1].mean == mean
    assert len({json.dumps(key) for key in keys}) == 3


def test_a_configuration_that_comes_later_is_another_classifier(tmp_path):
    torch.manual_seed(0)
    net = timm.create_model("test_vit", num_classes=7)
    save_file(net.state_dict(), tmp_path / "vit.safetensors")
    made = {"model": "test_vit", "classes": 7, "weights": str(tmp_path / "vit.safetensors")}
    reward, x = Classifier.create(**made, label=3, pixels="unit"), torch.rand(1, 3, 90, 70)
    before = reward.weights(), float(reward(x, None))
    config = timm.models.get_pretrained_cfg("test_vit").to_dict() | {"crop_pct": 0.6}
    content = json.dumps({"pretrained_cfg": config}, default=str)
    (tmp_path / "config.json").write_text(content)
    assert reward.weights() != before[0] and abs(float(reward(x, None)) - before[1]) > 1e-4


def test_features_are_kept_under_the_configuration(tiny, tmp_path):
    from bench.metrics import encoders

    file, versions = copied(tiny, tmp_path), []
    for mean in ((0.5, 0.5, 0.5), (0.4, 0.5, 0.5)):
        content = {"preprocess_cfg": SIGLIP | {"mean": mean}}
        (tmp_path / "open_clip_config.json").write_text(json.dumps(content))
        versions.append(encoders.clip(str(file), NAME).version)
    assert len({*versions, "1", "2"}) == 4


def test_only_what_is_unknown_is_doubted(tmp_path):
    """The published files of HPSv2 and PickScore, and a classifier that is named, are known."""
    import open_clip

    assert clip_transforms.transform_of("ViT-H-14", tmp_path / "HPS.pt", open_clip)[1]
    for known in ("hpsv2-2.0", "hpsv2-2.1", "pickscore"):
        file = tmp_path / external.entry(known).file
        cls = PickScore if known == "pickscore" else HPSv2
        file.touch()
        assert cls.create(weights=str(file)).doubt() == ""
    other = CLIPScore.create(model="ViT-H-14", weights=str(file), activation="gelu")
    assert "2 ways" in other.doubt()
    for name, doubted in (("resnet18", True), ("resnet18.tv_in1k", False), ("test_vit", False)):
        found = Classifier.create(model=name, weights=str(file)).doubt()
        assert ("ways" in found and "model=resnet18.a1_in1k" in found) == doubted, name
