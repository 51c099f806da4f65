"""Rewards on pictures, on small random networks under the real loading code."""

import json
import math

import pytest
import torch
import torchvision.transforms.v2.functional as tv
from safetensors.torch import save_file
from torch import nn

from bench.core.params import UserError
from bench.models import blip, clip, external, preprocess
from bench.runner.staging import checked
from rewards import clip_scores, image_reward
from rewards.clip_scores import Aesthetic, CLIPScore, HPSv2, PickScore

NAME = "tiny-for-tests"
SIDE = 32
SHAPES = [(32, 32), (64, 64), (48, 20), (20, 48), (33, 57), (224, 31), (7, 7), (32, 16)]
SHAPES += [(90, 90), (31, 33)]
PROMPTS = ["a red circle", "two green crosses, side by side", ""]
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
    net = clip.make(NAME)
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
    torch.testing.assert_close(preprocess.shortest(x, SIDE), expected, atol=1e-6, rtol=0)


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
        checked(rewards[name](x, "a cat"), name)


# -- weights --------------------------------------------------------------------------------------


def test_missing_weights_name_the_command_and_the_size(monkeypatch, tmp_path):
    monkeypatch.setenv("TILTBENCH_CACHE", str(tmp_path))
    for cls in (HPSv2, PickScore, CLIPScore, Aesthetic, image_reward.ImageReward):
        reward = cls.create()
        with pytest.raises(UserError, match=r"bench prefetch [\w.-]+' \([\d,.]+ MB\)"):
            reward.weights()


def test_weights_are_their_sha256(path, tiny):
    import hashlib

    expected = hashlib.sha256((tiny / "tiny.safetensors").read_bytes()).hexdigest()
    assert HPSv2.create(weights=path).weights() == {"hpsv2-2.1": expected}
    assert HPSv2.create(weights=path, release="v2.0").weights() == {"hpsv2-2.0": expected}


def test_loading_is_strict_and_runs_no_code(tiny, tmp_path, path):
    state = external.read_state(tiny / "tiny.safetensors")
    state.pop("logit_scale")
    save_file(state, tmp_path / "less.safetensors")
    with pytest.raises(UserError, match="logit_scale"):
        clip.load(NAME, tmp_path / "less.safetensors")
    torch.save({"state_dict": state, "hook": pytest.raises}, tmp_path / "code.pt")
    with pytest.raises(UserError, match="safetensors"):
        external.read_state(tmp_path / "code.pt")
    (tmp_path / "torn.safetensors").write_bytes(b"123")
    with pytest.raises(UserError, match="cannot be read"):
        external.read_state(tmp_path / "torn.safetensors")
    with pytest.raises(UserError, match="did you mean 'ViT-H-14'"):
        clip.make("ViT-H_14")


def vit_h_14():
    """Names and shapes of a CLIP ViT-H-14, from its architecture."""
    out = {"positional_embedding": (77, 1024), "text_projection": (1024, 1024), "logit_scale": ()}
    out |= {"token_embedding.weight": (49408, 1024)}
    out |= {"visual.class_embedding": (1280,), "visual.positional_embedding": (257, 1280)}
    out |= {"visual.proj": (1280, 1024), "visual.conv1.weight": (1280, 3, 14, 14)}
    norms = [("ln_final", 1024), ("visual.ln_pre", 1280), ("visual.ln_post", 1280)]
    for tower, d, layers in (("transformer", 1024, 24), ("visual.transformer", 1280, 32)):
        for i in range(layers):
            block = f"{tower}.resblocks.{i}"
            norms += [(f"{block}.ln_1", d), (f"{block}.ln_2", d)]
            out |= {
                f"{block}.attn.in_proj_weight": (3 * d, d),
                f"{block}.attn.in_proj_bias": (3 * d,),
            }
            for name, (rows, columns) in {
                "attn.out_proj": (d, d),
                "mlp.c_fc": (4 * d, d),
                "mlp.c_proj": (d, 4 * d),
            }.items():
                out |= {f"{block}.{name}.weight": (rows, columns), f"{block}.{name}.bias": (rows,)}
    return out | {f"{n}.{kind}": (d,) for n, d in norms for kind in ("weight", "bias")}


def test_all_686_names_and_shapes_of_the_real_architecture():
    expected = vit_h_14()
    net = clip.make(HPSv2.architecture, device="meta")
    assert len(expected) == 686
    assert {k: tuple(v.shape) for k, v in net.state_dict().items()} == expected


def transformers_clip(hidden, projection, layers, heads, side, patch, device="cpu", act="gelu"):
    from transformers import CLIPConfig, CLIPModel

    (vl, tl), (vw, tw), (vh, th) = layers, hidden, heads
    made = CLIPConfig(
        vision_config={"hidden_size": vw, "intermediate_size": 4 * vw, "num_hidden_layers": vl,
                       "num_attention_heads": vh, "image_size": side, "patch_size": patch,
                       "hidden_act": act},
        text_config={"hidden_size": tw, "intermediate_size": 4 * tw, "num_hidden_layers": tl,
                     "num_attention_heads": th, "hidden_act": act, "vocab_size": 49408,
                     "eos_token_id": 49407, "bos_token_id": 49406},
        projection_dim=projection,
    )  # fmt: skip
    with torch.device(device):
        return CLIPModel(made)


def test_the_names_of_transformers_cover_the_real_architecture():
    """PickScore's file has transformers' names: renamed, they are exactly open_clip's."""
    net = transformers_clip((1280, 1024), 1024, (32, 24), (16, 16), 224, 14, device="meta")
    state = {k: v for k, v in net.state_dict().items() if "position_ids" not in k}
    assert {k: tuple(v.shape) for k, v in clip.as_open_clip(state).items()} == vit_h_14()


def test_a_file_of_transformers_gives_the_features_of_transformers(tmp_path, path):
    torch.manual_seed(2)
    net = transformers_clip((32, 32), 16, (2, 2), (2, 2), SIDE, 8).eval()
    for parameter in net.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, tmp_path / "hf.safetensors")
    reward = PickScore.create(weights=str(tmp_path / "hf.safetensors"), pixels="unit")
    x = torch.rand(4, 3, 40, 56)
    ids = clip.tokenizer(NAME)(["a red circle"])
    with torch.no_grad():
        found = net(input_ids=ids, pixel_values=preprocess.Preprocess(SIDE)(x))
        expected = found.logits_per_image[:, 0]
        torch.testing.assert_close(reward(x, "a red circle"), expected, rtol=1e-4, atol=1e-4)


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


def small_image_reward(folder):
    reward = image_reward.ImageReward.create(
        weights=str(folder / "blip.pt"), vocabulary=str(folder / "vocab.txt"), pixels="unit"
    )
    reward.config = SMALL
    return reward


def as_transformers(state):
    """BLIP's own names to those of transformers."""
    vision, text = {}, {}
    for name, value in state.items():
        if name.startswith("blip.visual_encoder."):
            name = name.removeprefix("blip.visual_encoder.")
            for old, new in {
                "cls_token": "embeddings.class_embedding",
                "pos_embed": "embeddings.position_embedding",
                "patch_embed.proj": "embeddings.patch_embedding", "blocks.": "encoder.layers.",
                "norm1": "layer_norm1", "norm2": "layer_norm2", "attn.qkv": "self_attn.qkv",
                "attn.proj": "self_attn.projection",
            }.items():  # fmt: skip
                name = name.replace(old, new)
            vision["post_layernorm." + name[5:] if name.startswith("norm.") else name] = value
        elif name.startswith("blip.text_encoder."):
            text[name.removeprefix("blip.text_encoder.")] = value
    return vision, text


def test_the_network_is_the_blip_of_transformers(blip_files):
    from transformers import BlipTextConfig, BlipVisionConfig
    from transformers.models.blip.modeling_blip import BlipVisionModel
    from transformers.models.blip.modeling_blip_text import BlipTextModel

    c = SMALL
    net = image_reward.load(blip_files / "blip.pt", c)
    seen = BlipVisionModel(BlipVisionConfig(
        hidden_size=c.vision_width, intermediate_size=4 * c.vision_width,
        num_hidden_layers=c.vision_layers, num_attention_heads=c.vision_heads,
        image_size=c.side, patch_size=c.patch, layer_norm_eps=1e-6,
    )).eval()  # fmt: skip
    read = BlipTextModel(BlipTextConfig(
        vocab_size=c.vocabulary, hidden_size=c.width, encoder_hidden_size=c.vision_width,
        intermediate_size=4 * c.width, num_hidden_layers=c.layers, num_attention_heads=c.heads,
        max_position_embeddings=c.positions, is_decoder=True,
    ), add_pooling_layer=False).eval()  # fmt: skip
    vision, text = as_transformers(net.state_dict())
    seen.load_state_dict(vision, strict=True)
    assert not read.load_state_dict(text, strict=False).unexpected_keys
    x, ids = torch.rand(3, 3, SIDE, SIDE), torch.tensor([[2, 5, 6, 7, 3]])
    with torch.no_grad():
        picture = seen(pixel_values=x).last_hidden_state
        state = read(
            input_ids=ids.expand(3, -1), attention_mask=torch.ones(3, 5),
            encoder_hidden_states=picture, encoder_attention_mask=torch.ones(3, picture.shape[1]),
            is_decoder=False,
        ).last_hidden_state[:, 0]  # fmt: skip
        expected = (net.mlp(state)[:, 0] - blip.MEAN) / blip.STD
        torch.testing.assert_close(net(x, ids), expected, atol=1e-5, rtol=1e-5)


def test_prompts_become_word_pieces(blip_files):
    ids = image_reward.token_ids("A red cats", blip_files / "vocab.txt")
    assert ids.tolist() == [[2, 5, 6, 7, 8, 3]]
    assert image_reward.token_ids("cat " * 60, blip_files / "vocab.txt").shape == (1, 35)


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
        checked(down(x, None), "jpeg")
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
    settings = timm.data.resolve_model_data_config(net)
    shape = preprocess.Preprocess(
        settings["input_size"][-1], "shortest", settings["mean"], settings["std"]
    )
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

    def data(self, split):
        return self.held_out

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
    assert list(reward.weights()) == ["0 hpsv2-2.1"]
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


def test_every_picture_reward_states_its_scale():
    from bench.core import plugins

    names = [
        "hpsv2", "pickscore", "clip", "aesthetic", "image-reward", "jpeg-compressibility",
        "jpeg-incompressibility", "classifier", "picture-inpaint", "super-resolution", "deblur",
        "sum", "callable",
    ]  # fmt: skip
    for name in names:
        assert plugins.load("rewards", name).scale, name
