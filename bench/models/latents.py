"""The latents of Stable Diffusion's autoencoder: the space in which public ImageNet flows live.

    z = 0.18215 * sample of q(. | picture),    picture = decoder(z / 0.18215)

Pictures are RGB in [-1, 1].  The decoder's output is not clamped: it leaves the interval by a
little, and a clamp would stop the gradient of whoever steers through it.  Only what is shown is
clamped (`levels`).
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.core.flops import Unbuilt
from bench.core.params import UserError
from bench.models import tensor_files
from bench.models.autoencoder import Code
from bench.models.external import file_digest
from bench.models.latent_decoder import unbuilt_decoder

SCALE = 0.18215
"""What latents are multiplied by (arXiv 2112.10752): their standard deviation is then about 1."""

CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
"""A folder of diffusers."""


class LatentAutoencoder(nn.Module):
    """An `AutoencoderKL` of diffusers between pictures and scaled latents, frozen."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net: Any = net.requires_grad_(False).eval()

    def decode(self, z: Tensor) -> Tensor:
        """Pictures (n, 3, height, width) of latents (n, channels, h, w), not clamped."""
        out: Tensor = self._beside(z).decode(z / SCALE).sample
        return out

    def encode(self, x: Tensor) -> Code:
        """q(z | x) of pictures in [-1, 1], mean and deviation of scaled latents."""
        found = self._beside(x).encode(x).latent_dist
        return Code(SCALE * found.mean, SCALE * found.std)

    def _beside(self, x: Tensor) -> Any:
        """The network on the device of its input: it is kept between tasks, and follows them."""
        if self.net.device != x.device:
            self.net.to(x.device)
        return self.net


class Layout:
    """What the configuration of a folder says, without its weights.

    Raises UserError where there is none, or where its latents are not those of `SCALE`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        said = _settings(folder)
        self.channels: int = said.get("latent_channels", 4)
        self.colours: int = said.get("out_channels", 3)
        self.factor: int = 2 ** (len(said.get("block_out_channels", (64,))) - 1)
        scale = said.get("scaling_factor", SCALE)
        if scale != SCALE:
            raise UserError(
                f"the autoencoder {folder} scales its latents by {scale:g}, and the flows were "
                f"trained on those of {SCALE:g}: give the folder of sd-vae-ft-mse"
            )

    def require_channels(self, channels: int) -> None:
        """UserError unless latents have as many channels as a flow's states."""
        if self.channels != channels:
            raise UserError(
                f"the autoencoder {self.folder} has {self.channels} latent channels, and the flow "
                f"{channels}: give the one that the flow was trained with, sd-vae-ft-mse"
            )

    def picture(self, latent: tuple[int, ...]) -> tuple[int, int, int]:
        """Shape of the picture of a latent (channels, h, w)."""
        _, height, width = latent
        return self.colours, self.factor * height, self.factor * width


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(
            f"{folder} is no folder of an autoencoder, it has no {CONFIG}: give one that diffusers "
            "wrote, such as a copy of sd-vae-ft-mse"
        )
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is no JSON ({error}): fetch it again") from error
    if found.get("_class_name", "AutoencoderKL") != "AutoencoderKL":
        raise UserError(
            f"{folder} holds a {found['_class_name']}, not an AutoencoderKL: give a copy of "
            "sd-vae-ft-mse"
        )
    return dict(found)


def unbuilt(folder: Path, latent: tuple[int, ...]) -> Unbuilt | None:
    """A decoder of this configuration for a count alone; None without diffusers."""
    try:
        from diffusers import AutoencoderKL
    except ImportError:
        return None
    return unbuilt_decoder(lambda: AutoencoderKL.from_config(_settings(folder)), latent)


def digest(folder: Path) -> str:
    """SHA-256 of the weights, which have to be there."""
    return file_digest(_weights(folder))


def _weights(folder: Path) -> Path:
    path = folder / WEIGHTS
    if not path.is_file():
        raise UserError(
            f"the autoencoder {folder} has no weights {WEIGHTS}: fetch that file, too, or save the "
            "model there with save_pretrained"
        )
    return path


def read_autoencoder(folder: Path) -> LatentAutoencoder:
    """The autoencoder of a local folder: every tensor of its file and no other, or a UserError."""
    Layout(folder)
    path = _weights(folder)
    stat = path.stat()
    return _read(folder, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=2)
def _read(folder: Path, _size: int, _changed: int) -> LatentAutoencoder:
    try:
        from diffusers import AutoencoderKL
    except ImportError as error:
        raise UserError("latents need diffusers: pip install 'tiltbench[images]'") from error

    try:
        net, told = AutoencoderKL.from_pretrained(
            str(folder),
            local_files_only=True,
            use_safetensors=True,
            torch_dtype=torch.float32,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    except Exception as error:  # diffusers raises whatever its readers do
        text = " ".join(str(error).split())[:300]
        raise UserError(
            f"the autoencoder {folder} cannot be loaded ({text}): its {CONFIG} and {WEIGHTS} have "
            "to be those of one model"
        ) from error
    odd = [f"{kind.partition('_')[0]} {name}"
           for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")
           for name in told[kind]]  # fmt: skip
    if odd:
        raise UserError(
            f"the weights of the autoencoder {folder} do not fit its {CONFIG}: "
            f"{'; '.join(odd[:5])}; take both from one model"
        )
    if why := tensor_files.not_finite(net):
        raise UserError(
            f"the weights of the autoencoder {folder} are none to compute with: {why}; fetch the "
            "file again"
        )
    return LatentAutoencoder(net)


def levels(x: Tensor) -> Tensor:
    """uint8 (n, height, width, colours) of pictures in [-1, 1], clamped: what people see."""
    shown = ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return shown.permute(0, 2, 3, 1).contiguous()
