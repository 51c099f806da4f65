"""ImageNet at 256x256: public flows and meta flow maps in the latents of Stable Diffusion."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from bench.api import (
    Condition,
    Flow,
    MetaFlowMap,
    Role,
    Task,
    Unbuilt,
    UserError,
    named_param,
    param,
)
from bench.models import dit, external, latents
from bench.models.dit import DiT, DiTFlow, DiTMap
from bench.models.guided_network import GuidedDiTFlow
from bench.models.imagenet_names import WORDINGS, class_name
from bench.models.latent_shards import LatentShards
from bench.models.network_files import FAMILIES, NetworkFile, config_of, read_network

TUNE_CLASSES = (1, 207, 292, 388, 963)
"""Goldfish, golden retriever, tiger, giant panda, pizza: to tune on, where they are not asked for.
"""

NETWORK, CODE = "mfm-xl2", "sd-vae-ft-mse"
"""What `bench prefetch` fetches: the default checkpoint and the autoencoder's weights."""
CODE_CONFIG = "sd-vae-ft-mse-config"


@dataclass(frozen=True)
class ImageNetParams:
    """Which files, which classes, and how the flow follows its label."""

    checkpoint: str = param(
        "", tunable=False, help="path of the network; default: the prefetched MFM-XL/2"
    )
    family: str = named_param("mfm", FAMILIES, "whose file it is", tunable=False)
    autoencoder: str = param(
        "", tunable=False, help="folder of the autoencoder; default: the prefetched sd-vae-ft-mse"
    )
    guidance: float = param(
        2.5, low=0.0, high=100.0, tunable=False, help="classifier-free guidance scale; 1: none"
    )
    cfg: Literal["amortised", "plain"] = param(
        "amortised",
        tunable=False,
        help="amortised: the network was told the scale; plain: every call runs it twice",
    )
    classes: tuple[int, ...] = param((281,), tunable=False, help="labels to report: 281|207")
    wording: str = named_param("steering", WORDINGS, "the sentence that rewards read")
    pictures: str = param(
        "",
        tunable=False,
        help="folder of encoded pictures (bench prepare latents), which fits need",
    )


@lru_cache(maxsize=2)
def _network(path: Path, family: str, _size: int, _changed: int) -> NetworkFile:
    """The network of a file, which tasks that differ in words or guidance share."""
    return read_network(path, family)


class ImageNet(Task[ImageNetParams]):
    """A class-conditional latent flow of ImageNet, with its meta flow map where it has one.

    A condition is {"label": 281, "text": "... a tabby cat."}: the network hears the label, rewards
    read the text.  Samples are latents 0.18215 z; decoded pictures lie in [-1, 1] up to what the
    decoder oversteps, and nothing clamps them but `render`.  With guidance other than 1 the flow is
    not that of any law, amortised or plain, and "the tilted law" is that of a heuristic model.
    With cfg=plain there is no map: none was trained on what two runs are combined to.  The
    resolution is that of the checkpoint; published ones have 256x256 pixels.
    """

    summary = "class-conditional ImageNet at 256×256, from public checkpoints"
    noun = "image"
    Params = ImageNetParams
    metrics = (
        "reward",
        "judge",
        "diversity",
        "vendi",
        "tilt-size",
        "brightness",
        "saturation",
        "high-frequency",
        "compressed-size",
    )

    def __init__(self, params: ImageNetParams) -> None:
        super().__init__(params)
        plain = params.cfg == "plain" and params.guidance != 1.0
        self.guided = plain  # type: ignore[misc]  # of this instance
        if plain or not FAMILIES[params.family].is_map:
            self.flow_map = None
        if not params.classes:
            raise UserError("imagenet256 needs a class: give labels such as classes=281|207")
        if params.family == "dit":
            raise UserError(
                "imagenet256 samples flows, and DiT is a diffusion on a path of its own: give its "
                "folder of diffusers to text-to-image, or a file of mfm, dmf, repa or sit here"
            )
        self._labels = dict.fromkeys(params.classes)

    # -- files -------------------------------------------------------------------------------------

    @cached_property
    def _checkpoint(self) -> Path:
        return external.locate(NETWORK, self.params.checkpoint)

    @cached_property
    def _code(self) -> latents.Layout:
        """The autoencoder's layout; UserError unless its latents are the flow's states."""
        given = self.params.autoencoder
        if given:
            folder = Path(given).expanduser()
        else:
            external.locate(CODE_CONFIG)
            folder = external.locate(CODE).parent
        found = latents.Layout(folder)
        found.require_channels(self.event_shape[0])
        return found

    def external(self) -> tuple[str, ...]:
        """What has to be fetched where no path of one's own is given."""
        network = () if self.params.checkpoint else (NETWORK,)
        return network + (() if self.params.autoencoder else (CODE_CONFIG, CODE))

    def weights(self) -> dict[str, str]:
        found = {
            "network": external.file_digest(self._checkpoint),
            "autoencoder": latents.digest(self._code.folder),
        }
        return found | ({"pictures": self._pictures.digest} if self.params.pictures else {})

    # -- the flow ----------------------------------------------------------------------------------

    @cached_property
    def event_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """(channels, height, width) of the latents, from the checkpoint's header."""
        return config_of(self._checkpoint, self.params.family).event_shape

    @property
    def data_shape(self) -> tuple[int, ...]:
        return self._code.picture(self.event_shape)

    def unbuilt(self) -> dict[Role, Unbuilt]:
        """The network in both its roles, from the header of its file; the decoder."""
        net = dit.unbuilt(config_of(self._checkpoint, self.params.family))
        decoder = latents.unbuilt(self._code.folder, self.event_shape)
        found: dict[Role, Unbuilt] = {"flow": net, "map": net}
        return found if decoder is None else {**found, "decoder": decoder}

    @cached_property
    def _file(self) -> NetworkFile:
        stat = self._checkpoint.stat()
        return _network(self._checkpoint, self.params.family, stat.st_size, stat.st_mtime_ns)

    @property
    def _net(self) -> DiT:
        return self._file.net

    def doubt(self, condition: Condition) -> str:
        """Which weights of a training's file were taken, and a precision that is the file's own."""
        return "; ".join(self._file.report.notes)

    def _made(self, net: DiT) -> DiTFlow | GuidedDiTFlow:
        """The flow in a network."""
        if self.guided:
            return GuidedDiTFlow(net, self.params.guidance)
        return DiTFlow(net, self._amortised(net))

    def _amortised(self, net: DiT) -> float:
        """The scale that the network is told; UserError unless it was trained on it."""
        known = net.config.guidance_scales
        if self.params.guidance not in known:
            scales = ", ".join(f"{scale:g}" for scale in known)
            raise UserError(
                f"the network {self._checkpoint} was not trained on guidance "
                f"{self.params.guidance:g}, only on {scales}: give one of these, or cfg=plain, "
                "which runs it twice per call"
            )
        return self.params.guidance

    @cached_property
    def flow(self) -> Flow:  # type: ignore[override]
        """The flow of the file."""
        return self._made(self._net)

    def trainable_flow(self) -> nn.Module:
        """A copy of the flow."""
        return self._made(copy.deepcopy(self._net))

    @cached_property
    def flow_map(self) -> MetaFlowMap | None:  # type: ignore[override]
        """The meta flow map of the file."""
        return DiTMap(self._net, self._amortised(self._net))

    # -- pictures and conditions -------------------------------------------------------------------

    def decode(self, z: Tensor) -> Tensor:
        """Pictures of latents, not clamped."""
        return latents.read_autoencoder(self._code.folder).decode(z)

    def encode(self, x: Tensor) -> Tensor:
        """The middle latents of pictures in [-1, 1]."""
        return latents.read_autoencoder(self._code.folder).encode(x).mean

    def conditions(self, split: str) -> list[Condition]:
        """A label with its sentence; those of "tune" are other classes."""
        tuned = (label for label in TUNE_CLASSES if label not in self._labels)
        wording = WORDINGS[self.params.wording]
        labels = tuned if split == "tune" else self._labels
        return [{"label": k, "text": wording(class_name(k))} for k in labels]

    @cached_property
    def _pictures(self) -> LatentShards:
        return LatentShards(Path(self.params.pictures).expanduser())

    def draw_data(self, n: int, generator: torch.Generator) -> Tensor:
        """Latents of encoded pictures of the classes asked for, each drawn anew from its code."""
        return self._drawn(tuple(self._labels), n, generator)

    def draw_data_under(self, condition: Condition, n: int, generator: torch.Generator) -> Tensor:
        """Of one class."""
        return self._drawn((condition["label"],), n, generator)

    def _drawn(self, labels: tuple[int, ...], n: int, generator: torch.Generator) -> Tensor:
        if not self.params.pictures:
            raise UserError(
                "imagenet256 has no pictures to train on: encode a folder of them with 'bench "
                "prepare latents' and give it as pictures=FOLDER"
            )
        self._pictures.require(latents.digest(self._code.folder), self.event_shape)
        return self._pictures.draw(n, labels, generator)

    def render(self, x: Tensor) -> Tensor:
        """Clamped to [-1, 1] and rounded to 8 bits."""
        return latents.levels(x)
