"""Every Python block of the pages runs, with what a reader would bring, in small.

`docs/python.md` is run by tests/notebook/test_notebooks.py.
"""

import typing
from pathlib import Path

import torch

from bench.api import ESTIMATORS
from bench.core.params import build
from sweeps.space import axes_of
from tests.pages.desk import ROOT, python
from tests.worlds.notebooks import run_cells

ELSEWHERE = {"docs/python.md": "tests/notebook/test_notebooks.py"}
BLOCKS = {
    "README.md": 2, "docs/scorers.md": 1, "docs/sweeps.md": 1, "docs/text-to-image.md": 1,
    "docs/training.md": 1,
}  # fmt: skip
"""Pages with blocks, and how many the tests below run."""


def test_no_block_is_left_out():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    found = {str(p.relative_to(ROOT)): len(python(str(p.relative_to(ROOT)))) for p in pages}
    assert {p: n for p, n in found.items() if n and p not in ELSEWHERE} == BLOCKS


def run(block: str, **brought: typing.Any) -> dict[str, typing.Any]:
    """The names that a block leaves, with those that it takes for granted."""
    space = {"__name__": "__main__", **brought}
    exec(compile(block, "<block>", "exec"), space)
    return space


def test_the_readme_compares(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, _ = python("README.md")
    (shown,) = run_cells([first])
    assert "At `paper-nfe=100`" in shown and "Report: " in shown


def test_the_readme_s_own_method_is_a_plain_steering_rule():
    method = run(python("README.md")[1])["MeanGradient"].create(draws=2)
    assert method.estimator is ESTIMATORS["mean"]


def test_a_scorer_has_the_arguments_that_the_server_hands_over():
    assert run(python("docs/scorers.md")[0])["score"](pictures=[], prompts=[]) == [...]


def test_a_reward_of_pixels_gives_one_number_for_each():
    warmth = run(python("docs/text-to-image.md")[0])["warmth"]
    red = torch.tensor([1.0, 0.0, -1.0])[None, :, None, None].expand(2, 3, 4, 4)
    assert warmth(red, ["", ""]).tolist() == [2.0, 2.0]


def test_a_search_names_parameters_that_methods_have():
    from methods.steering.dps import DPS

    search = run(python("docs/sweeps.md")[0], ClassVar=typing.ClassVar)["search"]
    axes = {axis.name: axis for axis in axes_of("dps", DPS.Params(), {}, search)}
    assert search.keys() <= axes.keys()
    for other, values in axes["noise_level"].when:
        assert all(build(DPS.Params, {other: value}, "dps") for value in values)
    assert (axes["guidance"].low, axes["guidance"].high, axes["guidance"].log) == (0.1, 10.0, True)


SMALLER = {'device="cuda"': 'device="cpu"', "steps=10_000": "steps=4", "every=500": "every=2"}


def test_a_trainer_from_python(tmp_path, monkeypatch):
    """As the page has it, on this machine's processor and for four steps."""
    monkeypatch.chdir(tmp_path)
    Path("work").mkdir()
    (block,) = python("docs/training.md")
    for large, small in SMALLER.items():
        assert large in block
        block = block.replace(large, small)

    def losses(model, average, generator):
        x = torch.randn(8, 2, generator=generator)
        return {"fit": (model(x) - x).square().mean()}

    space = run(block, net=torch.nn.Linear(2, 2), losses=losses, my_figures=lambda net: {"f": 1.0})
    assert isinstance(space["average"], torch.nn.Module)
    assert Path("work/validation.jsonl").stat().st_size > 0
