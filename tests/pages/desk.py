"""The folder of somebody who reads the pages: the files that they bring."""

from __future__ import annotations

from pathlib import Path

from tests.worlds.fences import blocks
from tests.worlds.tiny_pipelines import saved_pipeline

ROOT = Path(__file__).parents[2]
RULE = '''
from dataclasses import dataclass

from bench.api import Method, Samples, euler, forward, integrate, param


@dataclass(frozen=True)
class Shift:
    """How far."""

    strength: float = param(1.0, low=0.0, high=10.0, help="how far samples are moved")
    steps: int = param(5, low=1, high=100, help="Euler steps")


class MyRule(Method[Shift]):
    """Samples of the flow, each moved along the diagonal."""

    Params = Shift
    effort = ("steps",)
    summary = "moves samples along the diagonal"
    standing = "baseline"

    def work(self, spec):
        return forward("flow", spec.calls(spec.grid(self.params.steps)[:-1]))

    def sample(self, problem, n):
        grid = problem.grid(self.params.steps)
        x0 = problem.started(problem.x0(), grid)
        return Samples(integrate(euler(problem.flow.velocity), x0, grid) + self.params.strength)
'''


def laid_out(folder: Path) -> Path:
    """Own rules, an own reward as the page writes it, prompts, pictures, and a pipeline."""
    (folder / "mine.py").write_text(RULE)
    (folder / "my_rule.py").write_text(RULE)
    (folder / "mean_gradient.py").write_text(python("README.md")[1])
    (folder / "my_reward.py").write_text(python("docs/text-to-image.md")[0])
    (folder / "prompts.txt").write_text("a red fox\ntwo cats\na blue bird\na house\na boat\n")
    _pictures(folder / "pictures")
    for name in ("FLUX.1-dev", "my-flux"):
        (folder / name).symlink_to(saved_pipeline("flux"))
    return folder


def python(page: str) -> list[str]:
    """The Python blocks of a page."""
    return blocks((ROOT / page).read_text(encoding="utf-8"), "python")


def _pictures(folder: Path) -> None:
    """Forty noughts and forty ones of 8 x 8, in a folder each."""
    from PIL import Image
    from sklearn.datasets import load_digits

    data = load_digits()
    for digit in (0, 1):
        own = folder / str(digit)
        own.mkdir(parents=True)
        for k, picture in enumerate(data.images[data.target == digit][:40]):
            Image.fromarray((picture * 15.9).astype("uint8")).save(own / f"{k}.png")
