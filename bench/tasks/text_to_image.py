"""Any text-to-image pipeline of diffusers whose class has a row in `bench.models.pipelines`."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from bench.api import (
    Condition,
    Flow,
    OwnSamples,
    Role,
    Task,
    Timing,
    Unbuilt,
    UserError,
    param,
)
from bench.models.latent_decoder import LatentDecoder
from bench.models.pipeline_flow import Guidance, PipelineFlow, guidance_of, timing_of_pipeline
from bench.models.pipeline_folder import PipelineFolder
from bench.models.pipeline_inputs import Asked, Config
from bench.models.pipeline_prompts import Heard, Readers, tell
from bench.models.pipeline_schedules import Schedule
from bench.prompts import read_prompts, split

SchedulerName = Literal["folder", "ddim", "euler", "flow-euler", "edm-euler"]


@dataclass(frozen=True)
class TextToImageParams:
    """Which pipeline, which pictures, which prompts."""

    path: str = param("", tunable=False, help="folder of the pipeline, as save_pretrained made it")
    height: int | None = param(None, low=8, tunable=False, help="pixels; default: the network's")
    width: int | None = param(None, low=8, tunable=False, help="pixels; default: the network's")
    guidance: float | None = param(
        None,
        low=0.0,
        high=100.0,
        tunable=False,
        help="classifier-free guidance; up to 1: none; default: the pipeline's",
    )
    guided_from: float = param(0.0, low=0.0, high=1.0, tunable=False, help="guidance begins here")
    guided_until: float = param(1.0, low=0.0, high=1.0, tunable=False, help="guidance ends here")
    negative: str = param("", tunable=False, help="the negative prompt")
    prompts: tuple[str, ...] = param((), tunable=False, help="sentences to report")
    tune_prompts: tuple[str, ...] = param((), tunable=False, help="sentences to tune on")
    prompt_file: str = param(
        "", tunable=False, help="file of prompts, split into those to report and those to tune on"
    )
    classes: tuple[int, ...] = param((), tunable=False, help="labels, for pipelines of classes")
    tune_classes: tuple[int, ...] = param((), tunable=False, help="labels to tune on")
    long_prompts: Literal["refuse", "cut"] = param(
        "refuse", tunable=False, help="what becomes of a prompt longer than an encoder reads"
    )
    scheduler: SchedulerName = param(
        "folder", tunable=False, help="whose times: the folder's scheduler, or one in its place"
    )
    own_samples: int = param(
        256, low=1, high=1_000_000, tunable=False, help="base samples that a fit regresses on"
    )
    own_steps: int = param(20, low=1, high=1000, tunable=False, help="time steps of each of them")


class TextToImage(Task[TextToImageParams]):
    """A pipeline of diffusers as the base flow: SD3, FLUX, Sana, SD1.5, SDXL, DiT.

    The flow is the linear one whatever the network was trained on, on the times of the pipeline's
    own scheduler.  Samples are latents as the pipeline has them; decoded pictures lie in about
    [-1, 1].  A condition is the sentence (of DiT, the class).  With guidance above 1 the flow is
    not that of any law, and "the tilted law" is that of a heuristic model.
    """

    summary = "a text-to-image pipeline of diffusers from a local folder"
    noun = "image"
    Params = TextToImageParams
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

    def __init__(self, params: TextToImageParams) -> None:
        super().__init__(params)
        self.guided = self._guidance.second  # type: ignore[misc]  # of this instance

    # -- the folder; no weights --------------------------------------------------------------------

    @cached_property
    def _folder(self) -> PipelineFolder:
        if not self.params.path:
            raise UserError("text-to-image needs a pipeline: give its folder with path=...")
        folder = PipelineFolder(Path(self.params.path).expanduser())
        folder.require_whole()
        return folder

    @cached_property
    def _network(self) -> Config:
        return self._folder.config(self._folder.family.network)

    @cached_property
    def _size(self) -> tuple[int, int]:
        return self._folder.size(self.params.height, self.params.width)

    @cached_property
    def _guidance(self) -> Guidance:
        p, family = self.params, self._folder.family
        interval = (p.guided_from, p.guided_until)
        return guidance_of(family, self._network, p.guidance, interval, p.negative)

    @cached_property
    def _schedule(self) -> Schedule:
        return self._folder.schedule(self._size, self.params.scheduler)

    def timing(self) -> Timing:
        return timing_of_pipeline(self._schedule, self._guidance)

    @cached_property
    def event_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """(channels, height, width) of the latents."""
        return self._folder.event_shape(self._size)

    @property
    def data_shape(self) -> tuple[int, ...]:
        return (3, *self._size)

    def weights(self) -> dict[str, str]:
        return self._folder.hashes()

    def unbuilt(self) -> dict[Role, Unbuilt]:
        """Network and decoder, from their configurations."""
        return self._folder.unbuilt(self._size)

    # -- conditions --------------------------------------------------------------------------------

    def conditions(self, split: str) -> list[Condition]:
        """Sentences, or classes; those of "tune" are others than those of "report"."""
        found = list(self._conditions(split))
        if not found:
            raise UserError(f"text-to-image has no conditions to {split}: {self._how(split)}")
        return found

    def _conditions(self, which: str) -> Iterable[Condition]:
        p, labels = self.params, self._folder.family.labels
        if labels:
            return dict.fromkeys(p.tune_classes if which == "tune" else p.classes)
        given = p.tune_prompts if which == "tune" else p.prompts
        filed = self._filed if p.prompt_file else []
        sentences = dict.fromkeys([*given, *(split(filed, which) if filed else [])])
        if p.long_prompts == "refuse":
            self._readers.require_read([*sentences, *self._negatives])
        return sentences

    @property
    def _negatives(self) -> list[str]:
        """The negative prompt, where there is one that is heard."""
        heard = self.params.negative and self._guidance.second
        return [self.params.negative] if heard else []

    def doubt(self, condition: Condition) -> str:
        """Which tokens of the prompt and of the negative one are cut."""
        if self._folder.family.labels or self.params.long_prompts == "refuse":
            return ""
        said = map(self._readers.doubt, [str(condition), *self._negatives])
        return "; ".join(filter(None, said))

    @cached_property
    def _filed(self) -> list[str]:
        return read_prompts(Path(self.params.prompt_file).expanduser())

    def _how(self, which: str) -> str:
        tuned = "tune_" if which == "tune" else ""
        if self._folder.family.labels:
            return f"give labels with {tuned}classes=281|207"
        return f"give sentences with {tuned}prompts=..., or a file of them with prompt_file=..."

    @cached_property
    def _readers(self) -> Readers:
        return Readers(self._folder)

    @property
    def own_samples(self) -> OwnSamples:  # type: ignore[override]
        """Base samples under the fit's prompt, which are work of the fit (`runner.own_data`)."""
        return OwnSamples(self.params.own_samples, self.params.own_steps)

    def draw_data(self, n: int, generator: torch.Generator) -> Tensor:
        """Raises UserError: a folder holds no pictures, and base samples belong to a prompt."""
        raise UserError(
            "a pipeline comes without the data that it was trained on: a fit is handed base "
            "samples of its own prompt instead, own_samples=256 of them"
        )

    # -- networks ----------------------------------------------------------------------------------

    @cached_property
    def _heard(self) -> Heard:
        """What the network hears of conditions; those of the report are encoded together."""
        p, guidance, folder = self.params, self._guidance, self._folder
        asked = Asked(self._network, *self._size, p.negative, guidance.scale, guidance.second)
        heard = Heard(lambda conditions: tell(folder, conditions, asked))
        heard.learn(self._conditions("report"))
        return heard

    @cached_property
    def flow(self) -> Flow:  # type: ignore[override]
        """The network in linear coordinates."""
        heard, folder = self._heard, self._folder  # encoders are dropped before it is loaded
        parts = folder.family.call, self._schedule, self._guidance, heard, self.event_shape
        return PipelineFlow(folder.network(), *parts)

    def trainable_flow(self) -> PipelineFlow:
        """A copy of the flow."""
        flow = copy.deepcopy(self.flow)
        assert isinstance(flow, PipelineFlow)
        return flow

    @cached_property
    def _decoder(self) -> LatentDecoder:
        return self._folder.decoder()

    def decode(self, z: Tensor) -> Tensor:
        """Pictures of latents, not clamped."""
        pictures: Tensor = self._decoder.to(z.device)(z)
        return pictures

    def render(self, x: Tensor) -> Tensor:
        """Clamped to [-1, 1] and rounded to 8 bits."""
        levels = ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        return levels.permute(0, 2, 3, 1).contiguous()
