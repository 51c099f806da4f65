"""Weights of rewards: strict loading, published names and shapes, features of transformers."""

import pytest
import torch
from safetensors.torch import save_file

from bench.core.params import UserError
from bench.models import blip, clip, external, preprocess
from rewards import image_reward
from rewards.clip_scores import Aesthetic, CLIPScore, HPSv2, PickScore
from tests.worlds import tiny_networks
from tests.worlds.tiny_networks import NAME, SIDE, SMALL

# Fixtures: pytest looks for them in this module.
tiny, path = tiny_networks.tiny, tiny_networks.path
blip_files = tiny_networks.blip_files


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
        clip.load_clip(NAME, tmp_path / "less.safetensors")
    torch.save({"state_dict": state, "hook": pytest.raises}, tmp_path / "code.pt")
    with pytest.raises(UserError, match="safetensors"):
        external.read_state(tmp_path / "code.pt")
    (tmp_path / "torn.safetensors").write_bytes(b"123")
    with pytest.raises(UserError, match="cannot be read"):
        external.read_state(tmp_path / "torn.safetensors")
    with pytest.raises(UserError, match="did you mean 'ViT-H-14'"):
        clip.make_clip("ViT-H_14")


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
    net = clip.make_clip(HPSv2.architecture, device="meta")
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
    net = image_reward.load_blip(blip_files / "blip.pt", c)
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
