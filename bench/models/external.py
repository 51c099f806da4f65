"""Weights that other people publish: where they are kept, what they weigh, which bytes they are.

Nothing is ever downloaded while a run is going on.  `bench prefetch NAME` puts the file into the
cache with a record of its SHA-256; a run then reads it from there, or from a path of its own.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.core.own_files import own_json
from bench.core.params import UserError, nearest
from bench.models import tensor_files
from bench.models.averages import choose

HUB = "https://huggingface.co"


@dataclass(frozen=True)
class External:
    """A published file: its address, its size in MB, and what its SHA-256 has to begin with."""

    file: str
    url: str
    megabytes: float
    sha256: str = ""


def _hub(repository: str, file: str, megabytes: float, kept_as: str = "") -> External:
    return External(kept_as or file, f"{HUB}/{repository}/resolve/main/{file}", megabytes)


EXTERNAL: dict[str, External] = {
    "hpsv2-2.0": _hub("xswu/HPSv2", "HPS_v2_compressed.pt", 1970),
    "hpsv2-2.1": _hub("xswu/HPSv2", "HPS_v2.1_compressed.pt", 1970),
    "pickscore": _hub(
        "yuvalkirstain/PickScore_v1", "model.safetensors", 3940, "pickscore-v1.safetensors"
    ),
    "clip-vit-b-32": _hub(
        "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        "open_clip_model.safetensors",
        605,
        "clip-vit-b-32-laion2b.safetensors",
    ),
    "clip-vit-l-14": _hub(
        "openai/clip-vit-large-patch14",
        "model.safetensors",
        1710,
        "clip-vit-l-14-openai.safetensors",
    ),
    "clip-vit-l-14-336": _hub(
        "openai/clip-vit-large-patch14-336",
        "pytorch_model.bin",
        1710,
        "clip-vit-l-14-336-openai.bin",
    ),
    "aesthetic": External(
        "sac+logos+ava1-l14-linearMSE.pth",
        "https://raw.githubusercontent.com/christophschuhmann/improved-aesthetic-predictor/main/"
        "sac+logos+ava1-l14-linearMSE.pth",
        4,
    ),
    "image-reward": _hub("THUDM/ImageReward", "ImageReward.pt", 1790),
    "bert-vocabulary": _hub(
        "google-bert/bert-base-uncased", "vocab.txt", 0.3, "bert-base-uncased-vocab.txt"
    ),
    "inception": External(
        "pt_inception-2015-12-05-6726825d.pth",
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
        "pt_inception-2015-12-05-6726825d.pth",
        96,
        sha256="6726825d",  # by torch's convention the file name ends with its first eight digits
    ),
    "dinov2-vit-l-14": _hub(
        "timm/vit_large_patch14_dinov2.lvd142m",
        "model.safetensors",
        1218,
        "dinov2-vit-l-14-timm.safetensors",
    ),
    "mfm-xl2": _hub("adh1s/mfm", "mfm-xl2.pt", 2740),
    "sd-vae-ft-mse-config": _hub(
        "stabilityai/sd-vae-ft-mse", "config.json", 0.1, "sd-vae-ft-mse/config.json"
    ),
    "sd-vae-ft-mse": _hub(
        "stabilityai/sd-vae-ft-mse",
        "diffusion_pytorch_model.safetensors",
        335,
        "sd-vae-ft-mse/diffusion_pytorch_model.safetensors",
    ),
    "parti-prompts": External(
        "PartiPrompts.tsv",
        "https://raw.githubusercontent.com/google-research/parti/main/PartiPrompts.tsv",
        0.2,
    ),
    "geneval-prompts": External(
        "geneval-metadata.jsonl",
        "https://raw.githubusercontent.com/djghosh13/geneval/main/prompts/evaluation_metadata.jsonl",
        0.2,
    ),
}
for _style in ("anime", "concept-art", "paintings", "photo"):
    EXTERNAL[f"hpdv2-{_style}"] = _hub(
        "datasets/zhwang/HPDv2", f"benchmark/{_style}.json", 0.1, f"hpdv2/{_style}.json"
    )


def entry(name: str) -> External:
    """A known file, or a UserError that suggests the nearest name."""
    if name not in EXTERNAL:
        raise UserError(f"no published weights '{name}' are known: {nearest(name, EXTERNAL)}")
    return EXTERNAL[name]


def cache_folder() -> Path:
    """Where published weights are kept: TILTBENCH_CACHE, or ~/.cache/tiltbench."""
    return Path(os.environ.get("TILTBENCH_CACHE") or Path.home() / ".cache" / "tiltbench")


def rates_folder() -> Path:
    """Where measured rates are kept (`bench.plan.rates`), beside published weights."""
    return cache_folder() / "rates"


def locate(name: str, given: str = "") -> Path:
    """The file that a reward or a metric reads: the given path, or what was prefetched.

    Raises UserError with the command that fetches it and what it weighs.
    """
    if given:
        path = Path(given).expanduser()
        if not path.is_file():
            raise UserError(f"there is no weight file {path}: give the path of an existing one")
        return path
    known = entry(name)
    path = cache_folder() / known.file
    if not path.is_file():
        raise UserError(
            f"the weights '{name}' are not here: run 'bench prefetch {name}' "
            f"({known.megabytes:,.0f} MB), or give the path of a copy"
        )
    record = recorded(path)
    if record and record["bytes"] != path.stat().st_size:
        raise UserError(
            f"{path} has {path.stat().st_size:,} bytes, not the {record['bytes']:,} that were "
            f"recorded: run 'bench prefetch {name} --again'"
        )
    return path


def record_path(path: Path) -> Path:
    """The record beside a file."""
    return path.with_name(path.name + ".json")


def recorded(path: Path) -> dict[str, Any] | None:
    """What `bench prefetch` wrote down: url, bytes, sha256, time; None for other files."""
    found = record_path(path)
    if not found.is_file():
        return None
    return own_json(found, "fetch the file again with 'bench prefetch --again'")


def file_digest(path: Path) -> str:
    """SHA-256 of a file, read once per content: large files take seconds."""
    stat = path.stat()
    return _digest(path, stat.st_size, stat.st_mtime_ns)


@cache
def _digest(path: Path, _size: int, _changed: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, on the CPU.

    safetensors, or torch's format with `weights_only`, so that reading runs no code.  A wrapper
    such as {"state_dict": ...} and the parts of names that parallel or compiled training adds are
    taken off; where a moving average stands in the file, it is what is read.
    """
    try:
        chosen = choose(tensor_files.read(path), prefixes=())
    except tensor_files.HoldsCode as error:
        raise UserError(
            f"{path} holds more than tensors ({error}), and reading it would run code: "
            "convert it to safetensors"
        ) from error
    except tensor_files.Unreadable as error:
        raise UserError(f"the weights {path} cannot be read ({error}): fetch them again") from error
    except UserError as error:
        raise UserError(f"the weights {path} are refused: {error}") from error
    if chosen is None:
        raise UserError(f"{path} is no dictionary of tensors: save a dict of names and tensors")
    return chosen.tensors


def load_strictly(module: torch.nn.Module, state: Mapping[str, Tensor], where: Path | str) -> None:
    """Every tensor and nothing else, sound ones, or a UserError that says what differs."""
    if unsound := tensor_files.unsound(state, module.state_dict()):
        raise UserError(
            f"the weights {where} are none to compute with: {'; '.join(unsound[:5])}; fetch the "
            "file again, or train it again"
        )
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        text = " ".join(str(error).split())[:400]
        raise UserError(f"the weights {where} do not fit: {text}") from error
