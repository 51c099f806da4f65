"""A pipeline as diffusers saves it to a folder: what it holds, and its parts one by one.

Nothing is fetched: a part that is not in the folder is an error that names it.  Planning reads the
configurations alone.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.core.flops import Unbuilt
from bench.core.params import UserError
from bench.core.units import Role
from bench.models import tensor_files
from bench.models.external import file_digest
from bench.models.latent_decoder import LatentDecoder, unbuilt_decoder
from bench.models.pipeline_inputs import Config, repeated
from bench.models.pipeline_schedules import Schedule, replaced
from bench.models.pipeline_steppers import path_of
from bench.models.pipelines import Family, family_of

INDEX = "model_index.json"
AGAIN = "save the pipeline again with save_pretrained, or fetch all of it"
WEIGHTS = ("*.safetensors", "*.bin")
UNUSED = ("safety_checker", "feature_extractor", "image_encoder")


@dataclass(frozen=True)
class PipelineFolder:
    """The folder of a pipeline whose class is a row of `FAMILIES`."""

    path: Path

    @cached_property
    def index(self) -> dict[str, Any]:
        """What `model_index.json` says: the class, and library and class of every part."""
        if not self.path.is_dir():
            raise UserError(f"there is no pipeline folder {self.path}: give the path of one")
        return self._json(INDEX)

    @cached_property
    def family(self) -> Family:
        """The row of its class."""
        return family_of(str(self.index.get("_class_name")), str(self.path))

    @cached_property
    def components(self) -> tuple[str, ...]:
        """All that the index names, in order."""
        return tuple(name for name, value in self.index.items() if isinstance(value, list))

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """What is used of it: not what is null, nor what looks at finished pictures."""
        used = (name for name in self.components if name not in UNUSED)
        return tuple(name for name in used if self.index[name][0])

    def require_whole(self) -> None:
        """Raise UserError that names the first part that is missing or lacks its weights."""
        for part in dict.fromkeys((self.family.network, "vae", "scheduler", *self.parts)):
            where = self.path / part
            if part not in self.parts or not where.is_dir():
                raise UserError(f"the pipeline folder {self.path} lacks the part '{part}': {AGAIN}")
            if (where / "config.json").is_file():
                self._require_weights(where)

    def _require_weights(self, where: Path) -> None:
        shards = {
            name
            for file in where.glob("*.index.json")
            for name in json.loads(file.read_text(encoding="utf-8"))["weight_map"].values()
        }
        absent = sorted(name for name in shards if not (where / name).is_file())
        if not absent and not any(any(where.glob(kind)) for kind in WEIGHTS):
            absent = ["*.safetensors"]
        if absent:
            raise UserError(f"the part {where} lacks the weights {absent[0]}: {AGAIN}")

    def config(self, part: str) -> Config:
        """The configuration of a network."""
        return self._json(f"{part}/config.json")

    def _json(self, name: str) -> dict[str, Any]:
        try:
            content = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{self.path / name} cannot be read ({error}): {AGAIN}") from error
        if not isinstance(content, dict):
            raise UserError(f"{self.path / name} is no JSON object: {AGAIN}")
        return content

    def hashes(self) -> dict[str, str]:
        """SHA-256 of every part that decides the samples: of its files' names and contents."""
        return {f"pipeline/{part}": self._digest(self.path / part) for part in self.parts}

    def _digest(self, folder: Path) -> str:
        files = (file for file in sorted(folder.rglob("*")) if file.is_file())
        named = (f"{file.relative_to(folder).as_posix()} {file_digest(file)}" for file in files)
        return hashlib.sha256("\n".join(named).encode()).hexdigest()

    # -- sizes -------------------------------------------------------------------------------------

    @cached_property
    def factor(self) -> int:
        """Pixels of a latent, per side."""
        config = self.config("vae")
        levels = config.get("encoder_block_out_channels") or config["block_out_channels"]
        return int(2 ** (len(levels) - 1))

    @cached_property
    def unit(self) -> int:
        """Pixels of a token of the network, per side."""
        patch = self.config(self.family.network).get("patch_size")
        return self.factor * self.family.pack * int(patch or 1)

    def size(self, height: int | None, width: int | None) -> tuple[int, int]:
        """Height and width of the pictures, by default those that the network was trained at."""
        config = self.config(self.family.network)
        side = self.family.side or config["sample_size"]
        sides = side if isinstance(side, list) else [side, side]
        own = tuple(int(s) * self.factor for s in sides)
        size = height or own[0], width or own[1]
        unit = self.factor * self.family.pack * int(config.get("patch_size") or 1)
        if any(length % unit for length in size):
            raise UserError(
                f"pictures of {size[0]} x {size[1]} do not fit: use multiples of {unit}"
            )
        if self.family.labels and size != own:
            raise UserError(
                f"the network makes pictures of {own[0]} x {own[1]} alone: leave height and width "
                "out"
            )
        return size

    def event_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        """Channels, height and width of the latents."""
        channels = int(self.config(self.family.network)["in_channels"]) // self.family.pack**2
        return channels, size[0] // self.factor, size[1] // self.factor

    # -- parts -------------------------------------------------------------------------------------

    def schedule(self, size: tuple[int, int], scheduler: str = "folder") -> Schedule:
        """The times and the path, by the folder's scheduler or one that stands in for it."""
        family, config = self.family, self.config(self.family.network)
        settings = self._json("scheduler/scheduler_config.json") | dict(family.settings)
        made = self._scheduler(settings) if scheduler == "folder" else replaced(settings, scheduler)
        unit = family.unit and family.unit * float(config.get("timestep_scale") or 1.0)
        tokens = (size[0] // self.unit) * (size[1] // self.unit)
        path = path_of(made, unit)
        return Schedule(made, path, lambda steps: family.arguments(made, tokens, steps))

    def _scheduler(self, settings: Mapping[str, Any]) -> Any:
        return self._class("scheduler").from_config(dict(settings))

    def network(self) -> Any:
        """The network, frozen."""
        return self._network(self.family.network)

    def decoder(self) -> LatentDecoder:
        """The decoder of latents, frozen."""
        vae, config = self._network("vae"), self.config("vae")
        scale: float | Tensor = float(config.get("scaling_factor") or 1.0)
        shift: float | Tensor = float(config.get("shift_factor") or 0.0)
        if config.get("latents_mean") is not None and config.get("latents_std") is not None:
            spread, shift = (
                torch.tensor(config[name])[None, :, None, None]
                for name in ("latents_std", "latents_mean")
            )
            scale = scale / spread
        return LatentDecoder(vae, scale, shift).requires_grad_(False).eval()

    def pipeline(self, **parts: Any) -> Any:
        """The pipeline with these parts in place of its own; None leaves one out."""
        import diffusers

        cls = getattr(diffusers, str(self.index["_class_name"]))
        return self._read("text encoders", cls, self.path, **parts)

    def tokenizer(self, part: str) -> Any:
        """A tokenizer."""
        return self._read(part, self._class(part), self.path / part)

    def unbuilt(self, size: tuple[int, int]) -> dict[Role, Unbuilt]:
        """Network and decoder, from their configurations, for counts of a row's FLOPs alone."""
        family, latent = self.family, self.event_shape(size)

        def network() -> tuple[Callable[..., Tensor], tuple[Any, ...]]:
            net = self._blank(family.network)
            told = family.blank(self.config(family.network))

            def call(x: Tensor, time: Tensor) -> Tensor:
                return family.call(net, x, time, repeated(told, len(x)))

            return call, (torch.zeros(2, *latent), torch.zeros(2))

        return {"flow": network, "decoder": unbuilt_decoder(lambda: self._blank("vae"), latent)}

    def _blank(self, part: str) -> Any:
        """A part of this configuration that holds no weights of the folder."""
        return self._class(part).from_config(self.config(part)).requires_grad_(False).eval()

    def _network(self, part: str) -> Any:
        return self._read(part, self._class(part), self.path / part).requires_grad_(False).eval()

    def _read(self, what: str, cls: Any, where: Path, **given: Any) -> Any:
        try:
            with torch.random.fork_rng(devices=[]):  # some networks are drawn before they are read
                found = cls.from_pretrained(where, local_files_only=True, **given)
        except (OSError, ValueError, RuntimeError, TypeError) as error:
            text = " ".join(str(error).split())[:300]
            raise UserError(f"{what} of {self.path} cannot be loaded ({text}): {AGAIN}") from error
        why = tensor_files.not_finite(found) if isinstance(found, nn.Module) else ""
        if why:
            raise UserError(f"{what} of {self.path} cannot be computed with ({why}): {AGAIN}")
        return found

    def _class(self, part: str) -> Any:
        library, name = self.index[part]
        found = getattr(importlib.import_module(library), name, None)
        if found is None:
            raise UserError(
                f"{library} has no {name}, which {self.path} names as its {part}: install a newer "
                f"{library}"
            )
        return found
