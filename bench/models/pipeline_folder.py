"""A pipeline as diffusers saves it to a folder: what it holds, and its parts one by one.

Nothing is fetched: a part that is not in the folder is an error that names it.  Planning reads the
configurations alone; text encoders are loaded for as long as prompts are encoded, and dropped.
"""

from __future__ import annotations

import gc
import importlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from bench.core.native_paths import NativePath
from bench.core.params import UserError
from bench.core.protocols import Condition
from bench.models.external import file_digest
from bench.models.pipeline_flow import LatentDecoder
from bench.models.pipeline_schedules import Schedule, path_of, replaced
from bench.models.pipelines import Asked, Config, Family, Told, family_of

INDEX = "model_index.json"
AGAIN = "save the pipeline again with save_pretrained, or fetch all of it"
WEIGHTS = ("*.safetensors", "*.bin")


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
    def parts(self) -> tuple[str, ...]:
        """The parts that are used: those of the index that are not null, in order."""
        skipped = ("safety_checker", "feature_extractor", "image_encoder")
        named = {name: value for name, value in self.index.items() if isinstance(value, list)}
        return tuple(name for name, value in named.items() if value[0] and name not in skipped)

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
        """SHA-256 of every file of every part that decides the samples."""
        files = (file for part in self.parts for file in sorted((self.path / part).rglob("*")))
        return {
            f"pipeline/{file.relative_to(self.path).as_posix()}": file_digest(file)
            for file in files
            if file.is_file()
        }

    # -- sizes -------------------------------------------------------------------------------------

    @cached_property
    def factor(self) -> int:
        """Pixels of a latent, per side."""
        config = self.config("vae")
        levels = config.get("encoder_block_out_channels") or config["block_out_channels"]
        return int(2 ** (len(levels) - 1))

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
        path: NativePath = path_of(made, family.unit and family.unit(config))
        unit = self.factor * family.pack * int(config.get("patch_size") or 1)
        tokens = (size[0] // unit) * (size[1] // unit)
        return Schedule(made, path, lambda steps: family.arguments(config, made, tokens, steps))

    def _scheduler(self, settings: Mapping[str, Any]) -> Any:
        return self._class("scheduler").from_config(dict(settings))

    def network(self) -> Any:
        """The network, frozen."""
        return self._loaded(self.family.network)

    def decoder(self, end: float = 1.0) -> LatentDecoder:
        """The decoder of latents; `end`: what the last state is multiplied by to be latents."""
        vae, config = self._loaded("vae"), self.config("vae")
        scale: float | Tensor = float(config.get("scaling_factor") or 1.0) / end
        shift: float | Tensor = float(config.get("shift_factor") or 0.0)
        if config.get("latents_mean") is not None and config.get("latents_std") is not None:
            spread, shift = (
                torch.tensor(config[name])[None, :, None, None]
                for name in ("latents_std", "latents_mean")
            )
            scale = scale / spread
        return LatentDecoder(vae, scale, shift).requires_grad_(False).eval()

    def _loaded(self, part: str) -> Any:
        try:
            module = self._class(part).from_pretrained(self.path / part, local_files_only=True)
        except (OSError, ValueError, RuntimeError) as error:
            text = " ".join(str(error).split())[:300]
            raise UserError(f"the part '{part}' of {self.path} does not load ({text})") from error
        return module.requires_grad_(False).eval()

    def _class(self, part: str) -> Any:
        library, name = self.index[part]
        found = getattr(importlib.import_module(library), name, None)
        if found is None:
            raise UserError(
                f"{library} has no {name}, which {self.path} names as its {part}: install a newer "
                f"{library}"
            )
        return found

    # -- prompts -----------------------------------------------------------------------------------

    def tokens_cut(self, sentence: str) -> dict[str, int]:
        """Tokens of a sentence that are not read, by tokenizer; empty if all are."""
        readers = [(name, most) for name, most in self.family.readers if name in self.parts]
        cut = {}
        for name, most in readers:
            tokenizer = self._tokenizers[name]
            length = len(tokenizer(sentence, truncation=False, verbose=False).input_ids)
            cut[name] = length - (most or tokenizer.model_max_length)
        return {name: tokens for name, tokens in cut.items() if tokens > 0}

    @cached_property
    def _tokenizers(self) -> dict[str, Any]:
        names = [name for name, _ in self.family.readers if name in self.parts]
        return {name: self._loaded_tokenizer(name) for name in names}

    def _loaded_tokenizer(self, name: str) -> Any:
        try:
            return self._class(name).from_pretrained(self.path / name, local_files_only=True)
        except (OSError, ValueError) as error:
            raise UserError(f"the part '{name}' of {self.path} does not load ({error})") from error

    @torch.no_grad()
    def tell(self, conditions: Iterable[Condition], asked: Asked) -> dict[Condition, Told]:
        """What the network hears of each condition; the text encoders are dropped afterwards."""
        config = self.config(self.family.network)
        pipe = None if self.family.labels else self._encoders(config)
        told = {c: self.family.embed(pipe, config, c, asked) for c in conditions}
        del pipe
        gc.collect()
        return told

    def _encoders(self, config: Config) -> Any:
        """The pipeline without network and decoder."""
        import diffusers

        absent = {
            name: None
            for name, value in self.index.items()
            if isinstance(value, list) and not name.startswith(("tokenizer", "text_encoder"))
        }
        cls = getattr(diffusers, str(self.index["_class_name"]))
        pipe = cls.from_pretrained(self.path, local_files_only=True, **absent)
        # encoding asks the network for its widths, where an encoder is left out
        setattr(pipe, self.family.network, SimpleNamespace(config=SimpleNamespace(**config)))
        return pipe
