"""Which commands of the pages are run by their test, how small, and which are read, and why."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


def nothing(desk: Path) -> None:
    """Most commands find what earlier ones on their page made."""


@dataclass(frozen=True)
class Run:
    """Run, with further words that make it small, after `before` has laid out what it reads."""

    words: str = ""
    before: Callable[[Path], None] = nothing


@dataclass(frozen=True)
class Plan:
    """A `bench run` whose arguments are handed to `bench plan`: no weights, no samples."""


@dataclass(frozen=True)
class Read:
    """Only read by the parsers that would read it, for a reason."""

    why: str


def two_runs(desk: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(desk / "runs" / "quickstart", desk / "runs" / name)


TINY = "--executor inline --no-track --seeds 1 --set n=16"
SWEEP = (
    "--executor inline --no-track --trials 20 --n 100 --seeds 1 --tuning-seeds 1 "
    "--name sweep-1a2b3c4d"
)
HOURS = Read("hours: a suite of the page's tables; tests/plan holds its YAML")
MEASURED = Read("its page's tables come from it; tests/cli and tests/reports run the verb")
WEIGHTS = Read("needs published weights; tests/worlds has tiny ones for the same readers")
CLUSTER = Read("needs a cluster or a bucket; tests/runner makes small ones")
SERVER = Read("needs a scorer's server; tests/rewards starts one")
PACKAGE = Read("tests/cli/test_new.py types it, with pip")
TARGET = Read("the Makefile's own; CI makes it")
MINUTES = Read("minutes; tests of the verb run it smaller")

TRIED: dict[str, Run | Plan | Read] = {
    # README.md and CONTRIBUTING.md
    "make run": TARGET,
    "make test": TARGET,
    "make lint": TARGET,
    "make format": TARGET,
    "make docs": TARGET,
    "bench run": Run(f"{TINY} -b paper-nfe=20 --name quickstart"),
    "bench run -t digits -r template:strength=20 -m dps -m mfm-g:scale=rescale -b paper-nfe=100":
        Run(TINY),
    "bench run -t digits -r class-mixture -m mfm-gf -m mfm-ft -b paper-nfe=100:served=50000":
        Plan(),
    "bench plan paper-digits": Run(),
    "bench list methods mfm-g": Run(),
    "bench report runs/quickstart": Run(),
    "bench compare runs/a runs/b": Run(before=two_runs),
    "bench claims runs/quickstart": MEASURED,
    "bench run -t digits -r template:strength=20 -m prior:steps=31 "
    "-m best-of-n:candidates=1000,steps=31 -m mfm-g:draws=1,steps=20,scale=rescale "
    "-m mfm-g:draws=1,steps=20 --seeds 5 --set n=16 --name best-of-1000": MINUTES,
    "bench claims runs/best-of-1000": MEASURED,
    "bench run -t digits -r class-mixture -m gibbs -m sir -m dps -m tds -m fk -b paper-nfe=60":
        Run(TINY),
    "bench claims runs/methods-digits --claims mine.yaml": Read(
        "needs a run and a file of the reader's; tests/reports/test_claims.py makes small ones"
    ),
    "bench reproduce runs/quickstart": Read("tests/cli/test_reproduce.py runs it"),
    "bench sweep dps mfm-g -t gmm-paper -r inverse -b paper-nfe=200": Read(
        "docs/sweeps.md has it with a space and a number of trials, and is run"
    ),
    "bench apply runs/sweep-1a2b3c4d --name tuned": Run(),
    "bench audit runs/quickstart --flops": Run(),
    "bench ui": Read("serves until Ctrl-C; tests/tracking starts and stops it"),
    "bench run quickstart -m ./mine.py:MyRule -m mfm-gf": Run(f"{TINY} -b paper-nfe=100"),
    "bench train digits": MINUTES,
    "bench train --data pictures/ --labels folders --to mine": MINUTES,
    "bench run -t trained:path=mine -r template -m mfm-gf -m dps -b paper-nfe=200": MINUTES,
    "bench run -t 'text-to-image:path=my-flux,prompts=a red fox' "
    "-r callable:function=my_reward:warmth,gradient=true -m prior -m dps -b paper-nfe=80": Plan(),
    "bench run paper-imagenet --device cuda --dtype bfloat16": WEIGHTS,
    "bench run full --root s3://bucket/runs --address auto": CLUSTER,
    "bench export runs/quickstart": Run(),
    "bench study value -t digits -r class-mixture": MINUTES,
    "bench new method my-method": Run(),
    "pip install -e ./my-method": PACKAGE,
    "bench check method my-method": PACKAGE,
    "bench run -t gmm-paper -r quadratic -m my-method -m dps -b paper-nfe=100": PACKAGE,
    "bench check method mean_gradient.py:MeanGradient": Run(),
    "bench run -t digits -r template:strength=20 -m mean_gradient.py:MeanGradient -m mfm-g "
    "-b paper-nfe=100": Run(TINY),
    # docs/
    "bench doctor quickstart --address auto": CLUSTER,
    "bench run quickstart --address auto --root s3://bucket/runs --no-track": CLUSTER,
    "bench report s3://bucket/runs/quickstart": CLUSTER,
    "bench run paper-imagenet --device cuda --dtype bfloat16 --executor inline": WEIGHTS,
    "python -m benchmarks.gpu": Read("needs a GPU"),
    "python -m benchmarks.gpu --tiny --device cpu": Read("tests/benchmarks runs it"),
    "bench prefetch imagenet256 hpsv2 pickscore image-reward": WEIGHTS,
    "bench run paper-imagenet": WEIGHTS,
    "bench run -t imagenet256:classes=207 -r hpsv2:strength=5 -m mfm-g:draws=4,scale=rescale "
    "-m dps": WEIGHTS,
    "bench prepare latents IMAGENET/train --to imagenet-latents": WEIGHTS,
    "bench run paper-imagenet-ft": WEIGHTS,
    "bench prepare statistics IMAGENET/val --to val.safetensors --encoder inception-clean": WEIGHTS,
    "bench run -t digits -r template -m my_rule.py:MyRule:strength=2 -m dps -b paper-nfe=200":
        Run(TINY),
    "bench check method my_rule.py:MyRule": Run(),
    "bench list methods my_rule.py:MyRule": Run(),
    "hpsv3-env/bin/python rewards/scorer_server.py examples/scorers/hpsv3.py": SERVER,
    "bench check reward http:name=hpsv3 -t shapes": SERVER,
    "bench run -t shapes -r http:name=hpsv3 -m best-of-n -b paper-nfe=500": SERVER,
    "bench evaluate out/ --prompts prompts.txt -r http:name=hpsv3": SERVER,
    "bench run -t shapes -r prompt:strength=30 -m mfm-g -b paper-nfe=100": Plan(),
    "bench run -t shapes:guidance=model": Read("the page lets the reader choose the rest"),
    "bench train shapes --to my-weights": MINUTES,
    "bench sweep dps mfm-g -t gmm-paper -r inverse -b paper-nfe=200 --trials 40 "
    "--space guidance=0.1..10:log": Run(SWEEP),
    "bench run -t gmm-paper -r inverse -m dps -m dps@tuned -b paper-nfe=200": Run(TINY),
    "bench sweep dps mfm-g -t gmm-paper -r inverse -b paper-nfe=200 --space guidance=0.1..10:log "
    "--space mfm-g.draws=1..8 --space 'mfm-g.scale=exact|rescale' --space start=off":
        Run(SWEEP.replace("1a2b3c4d", "spaces")),
    "bench run -t 'text-to-image:path=FLUX.1-dev,height=512,width=512,"
    "prompts=a red fox|two cats on a sofa' -r callable:function=my_reward:warmth,gradient=true "
    "-m prior -m best-of-n -m dps -m fk -b paper-nfe=80 --seeds 1 --set n=2 --name warm": Plan(),
    "bench run -t text-to-image:path=FLUX.1-dev,height=512,width=512,prompt_file=prompts.txt "
    "-r callable:function=my_reward:warmth,gradient=true -m prior -m dps -m fk:particles=4 "
    "-b paper-nfe=80 --seeds 1 --set n=4 --set conditions_per_cell=64 --name prompts": Plan(),
    "bench train digits --threads 2 --to my-weights": MINUTES,
    "bench train gmm-paper --shorten 0.01 --to trial": MINUTES,
    "bench run -t digits": Read("the page lets the reader choose the rest"),
    "bench study value -t digits -r class-mixture --figure docs/value-estimation-digits.svg":
        MINUTES,
    "bench study value -t gmm-paper -r inverse --json": MINUTES,
    "bench study value -t gmm-paper -r inverse --run runs/quickstart": MINUTES,
    "bench report runs/quickstart --export paper/": Read("tests/reports/test_export.py writes one"),
    "bench track export runs/quickstart --to wandb --dir wandb-runs":
        Read("needs 60 MB of W&B; tests/tracking/test_wandb.py types it"),
    **{
        f"bench run {suite}": HOURS
        for suite in ("exactness-dimension", "exactness-fits", "exactness", "limits",
                      "methods-digits", "methods-shapes", "tuned-digits", "prompts", "hacking")
    },
    **{
        f"bench report runs/{suite} --markdown results/{suite}.md": MEASURED
        for suite in ("exactness-dimension", "exactness-fits", "exactness", "limits",
                      "methods-digits", "methods-shapes", "tuned-digits")
    },
}  # fmt: skip
"""Every command in a block of a page, as the shell splits it."""
