"""VQAScore: the probability of "Yes" to "Does this figure show ...?" (arXiv 2404.01291).

The package scores all pictures against all texts and returns a matrix, whose diagonal is asked for
here pair by pair.  It reads files.
"""

import os
import tempfile
from functools import cache
from importlib.metadata import version as installed
from pathlib import Path

NAME = "vqascore"
SCALE = "probability of Yes, 0 to 1"
LIMITS = (0.0, 1.0)
MODEL = os.environ.get("VQASCORE_MODEL", "clip-flant5-xxl")


@cache
def model():
    import t2v_metrics

    return t2v_metrics.VQAScore(model=MODEL)


def version():
    return f"t2v-metrics {installed('t2v-metrics')} {MODEL}"


def score(pictures, prompts):
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "picture.png")
        return [_one(path, *pair) for pair in zip(pictures, prompts, strict=True)]


def _one(path, picture, prompt):
    picture.save(path)
    return float(model()(images=[path], texts=[prompt])[0][0])
