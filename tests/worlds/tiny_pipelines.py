"""Seven text-to-image pipelines with tiny random weights, tokenizers included, made offline.

Every letter is a token, so that the length of a sentence is the number of its tokens.
"""

from __future__ import annotations

import atexit
import json
import shutil
import string
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

WIDTH = 32
"""Of text encoders and cross attention."""
CLIP_LENGTH = 77
SIDE = 32
"""Pixels of a picture; latents are 2 to 8 times smaller."""

LETTERS = [c for c in string.printable if not c.isspace()]
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


# -- text ------------------------------------------------------------------------------------------


def clip_tokenizer() -> Any:
    from transformers import CLIPTokenizer

    letters = [*LETTERS, *(f"{c}</w>" for c in LETTERS)]
    vocab = {name: k for k, name in enumerate([*letters, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=CLIP_LENGTH)


def clip_text(projected: bool) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    size = len(clip_tokenizer())
    config = CLIPTextConfig(
        vocab_size=size,
        bos_token_id=size - 2,
        eos_token_id=size - 1,
        pad_token_id=1,
        hidden_size=WIDTH,
        projection_dim=WIDTH,
        intermediate_size=37,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=CLIP_LENGTH,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def t5_tokenizer() -> Any:
    from transformers import T5TokenizerFast

    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocab += [(c, -2.0) for c in ["▁", *LETTERS]]
    return T5TokenizerFast(vocab=vocab, extra_ids=0)


def t5_text() -> Any:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=128,
        d_model=WIDTH,
        d_kv=8,
        d_ff=37,
        num_layers=2,
        num_heads=4,
        num_decoder_layers=1,
    )
    return T5EncoderModel(config)


def gemma_tokenizer() -> Any:
    from transformers import GemmaTokenizerFast

    names = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", "\n", *LETTERS]
    return GemmaTokenizerFast(vocab={name: k for k, name in enumerate(names)}, merges=[])


def gemma_text() -> Any:
    from transformers import Gemma2Config, Gemma2Model

    config = Gemma2Config(
        vocab_size=128,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=4,
    )
    return Gemma2Model(config)


# -- pictures --------------------------------------------------------------------------------------


def vae(channels: int, levels: int = 1, **scaling: Any) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8,) * levels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        latent_channels=channels,
        norm_num_groups=4,
        use_quant_conv=False,
        use_post_quant_conv=False,
        **scaling,
    )


def deep_vae() -> Any:
    from diffusers import AutoencoderDC

    blocks = {
        "encoder_block_types": ("ResBlock", "EfficientViTBlock"),
        "decoder_block_types": ("ResBlock", "EfficientViTBlock"),
        "encoder_qkv_multiscales": ((), (5,)),
        "decoder_qkv_multiscales": ((), (5,)),
        "encoder_layers_per_block": (1, 1),
        "decoder_layers_per_block": [1, 1],
        "encoder_block_out_channels": (8, 8),
        "decoder_block_out_channels": (8, 8),
    }
    return AutoencoderDC(
        latent_channels=4,
        attention_head_dim=2,
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.41407,
        **blocks,
    )


def unet(cross: int, **more: Any) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        block_out_channels=(4, 8),
        layers_per_block=1,
        sample_size=SIDE // 2,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=cross,
        norm_num_groups=2,
        **more,
    )


# -- the seven -------------------------------------------------------------------------------------


def sd3() -> Any:
    from diffusers import (
        FlowMatchEulerDiscreteScheduler,
        SD3Transformer2DModel,
        StableDiffusion3Pipeline,
    )

    network = SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=WIDTH,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=2 * WIDTH,
        out_channels=4,
    )
    return StableDiffusion3Pipeline(
        transformer=network,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(4, scaling_factor=1.5305, shift_factor=0.0609),
        text_encoder=clip_text(True),
        tokenizer=clip_tokenizer(),
        text_encoder_2=clip_text(True),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5_text(),
        tokenizer_3=t5_tokenizer(),
    )


def flux() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    network = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=True,
    )
    return FluxPipeline(
        transformer=network,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=vae(4, scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=clip_text(False),
        tokenizer=clip_tokenizer(),
        text_encoder_2=t5_text(),
        tokenizer_2=t5_tokenizer(),
    )


def sana() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, SanaPipeline, SanaTransformer2DModel

    network = SanaTransformer2DModel(
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=4,
        num_cross_attention_heads=2,
        cross_attention_head_dim=4,
        cross_attention_dim=8,
        caption_channels=8,
        sample_size=32,
    )
    return SanaPipeline(
        transformer=network,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=deep_vae(),
        text_encoder=gemma_text(),
        tokenizer=gemma_tokenizer(),
    )


def sd15(**scheduling: Any) -> Any:
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    return StableDiffusionPipeline(
        unet=unet(WIDTH),
        scheduler=DDIMScheduler(**BETAS, clip_sample=False, **scheduling),
        vae=vae(4, 2),
        text_encoder=clip_text(False),
        tokenizer=clip_tokenizer(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl() -> Any:
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    network = unet(
        2 * WIDTH,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 2),
        projection_class_embeddings_input_dim=6 * 8 + WIDTH,
    )
    return StableDiffusionXLPipeline(
        unet=network,
        scheduler=EulerDiscreteScheduler(**BETAS, timestep_spacing="leading", steps_offset=1),
        vae=vae(4, 2, scaling_factor=0.13025),
        text_encoder=clip_text(False),
        tokenizer=clip_tokenizer(),
        text_encoder_2=clip_text(True),
        tokenizer_2=clip_tokenizer(),
        add_watermarker=False,
    )


def dit() -> Any:
    from diffusers import DDIMScheduler, DiTPipeline, DiTTransformer2DModel

    network = DiTTransformer2DModel(
        sample_size=16,
        num_layers=2,
        patch_size=4,
        attention_head_dim=8,
        num_attention_heads=2,
        in_channels=4,
        out_channels=8,
        attention_bias=True,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_zero",
        norm_elementwise_affine=False,
    )
    scheduler = DDIMScheduler(clip_sample=False, set_alpha_to_one=True)
    return DiTPipeline(transformer=network, vae=vae(4, 2), scheduler=scheduler)


PIPELINES: dict[str, Callable[[], Any]] = {
    "sd3": sd3,
    "sd15": lambda: sd15(steps_offset=1),
    "sd15-v": lambda: sd15(prediction_type="v_prediction", steps_offset=1),
    "flux": flux,
    "sdxl": sdxl,
    "sana": sana,
    "dit": dit,
}


@cache
def tiny_pipeline(name: str) -> Any:
    """The pipeline of a name, the same weights whenever it is made."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(sum(map(ord, name)))
        pipe = PIPELINES[name]()
        for part in pipe.components.values():
            if isinstance(part, torch.nn.Module):
                _shaken(part)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _shaken(module: Any) -> None:
    """Weights that start at zero would hide what the network is told."""
    module.requires_grad_(False).eval()
    for weight in module.parameters():
        if weight.abs().max() == 0:
            weight.normal_(std=0.1)


_SAVED: dict[str, Path] = {}


def saved_pipeline(name: str) -> Path:
    """The folder of a pipeline, saved once per process; read it, never write to it."""
    if name not in _SAVED:
        folder = Path(tempfile.mkdtemp(prefix=f"tiny-{name}-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        tiny_pipeline(name).save_pretrained(folder)
        _SAVED[name] = folder
    return _SAVED[name]


@torch.no_grad()
def own_latents(pipe: Any, z: Any, prompt: Any, steps: int, guidance: float) -> Any:
    """What the pipeline makes of the noise z, as (n, channels, height, width)."""
    given = {"num_inference_steps": steps, "guidance_scale": guidance}
    name = type(pipe).__name__
    if name == "DiTPipeline":
        return _dit_latents(pipe, z, prompt, given)
    n, channels, height, width = z.shape
    if name == "FluxPipeline":
        z = pipe._pack_latents(z, n, channels, height, width)
    if name == "SanaPipeline":
        given["use_resolution_binning"] = False
    made = pipe(
        [prompt] * n, height=SIDE, width=SIDE, latents=z.clone(), output_type="latent", **given
    ).images
    return pipe._unpack_latents(made, height, width, 1) if name == "FluxPipeline" else made


def _dit_latents(pipe: Any, z: Any, label: int, given: dict[str, Any]) -> Any:
    """This pipeline draws its noise itself and decodes: noise and latents are caught there."""
    from diffusers.pipelines.dit import pipeline_dit

    caught = []
    decode = pipe.vae.decode
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline_dit, "randn_tensor", lambda *args, **kwargs: z.clone())
        patch.setattr(pipe.vae, "decode", lambda x: (caught.append(x), decode(x))[1])
        pipe([label] * len(z), output_type="pt", **given)
    return caught[0] * pipe.vae.config.scaling_factor


def rescheduled(name: str, scheduler: Any, where: Path) -> tuple[Any, Path]:
    """The pipeline with another scheduler, and its folder at `where`."""
    pipe = tiny_pipeline(name)
    more = {"requires_safety_checker": False} if name.startswith("sd15") else {}
    other = type(pipe)(**{**pipe.components, "scheduler": scheduler}, **more)
    other.set_progress_bar_config(disable=True)
    shutil.copytree(saved_pipeline(name), where)
    other.scheduler.save_pretrained(where / "scheduler")
    edit(where / "model_index.json", scheduler=["diffusers", type(scheduler).__name__])
    return other, where


def edited(name: str, where: Path, file: str, **values: Any) -> Path:
    """A copy of a pipeline's folder at `where`, with other values in one of its files."""
    shutil.copytree(saved_pipeline(name), where)
    edit(where / file, **values)
    return where


def edit(file: Path, **values: Any) -> None:
    """Other values in a JSON file."""
    file.write_text(json.dumps(json.loads(file.read_text()) | values))
