"""HPSv3: human preference from a Qwen2-VL with an uncertainty (Ma et al., arXiv 2508.03789).

The score is the mean of the preference, without its uncertainty.  `reward` takes (image_paths,
prompts) in release 1.0.0 of the package and (prompts, image_paths) in later source: by keyword both
are right.
"""

import hashlib
import os
from functools import cache
from importlib.metadata import version as installed
from pathlib import Path

NAME = "hpsv3"
SCALE = "mean of the preference, unbounded"
INDEX = "arXiv 2508.03789, as indexed at wizwand.com/paper/68fa7ad71e209131cea85763"
ACCURACY = (
    ("HPD v2", 85.4, INDEX),
    ("HPD v3", 76.9, INDEX),
    ("Pick-a-Pic", 72.8, INDEX),
)


@cache
def model():
    from hpsv3 import HPSv3RewardInferencer

    device = os.environ.get("SCORER_DEVICE", "cuda")
    return HPSv3RewardInferencer(checkpoint_path=os.environ["HPSV3_CHECKPOINT"], device=device)


def version():
    with Path(os.environ["HPSV3_CHECKPOINT"]).open("rb") as stream:
        weights = hashlib.file_digest(stream, "sha256").hexdigest()[:12]
    return f"hpsv3 {installed('hpsv3')} {weights}"


def score(pictures, prompts):
    import torch

    with torch.inference_mode():
        found = model().reward(prompts=prompts, image_paths=pictures)
    return [float(row[0]) for row in found]
