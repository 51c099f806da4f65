"""The identity of an object: the same in another session, another one whenever answers change."""

import importlib
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.core.identity import NoIdentity, identity_of

ROOT = Path(__file__).parents[2]

CELL = """
import functools, math
from dataclasses import dataclass, field
import numpy as np
import torch

torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LeakyReLU(0.1), torch.nn.Linear(4, 2))
scale, names = 2.0, {"a": {1, 2, 3}}

def helper(x):
    return math.exp(1) * x

def reward(x, shift=0.5):
    return [scale * helper(row) + len(names) for row in x]

def outer(power):
    return lambda x: x ** power

@dataclass(frozen=True)
class Params:
    steps: int = 3
    tags: tuple = field(default_factory=tuple)

class Base:
    Params = Params
    def __init__(self, table): self.table = table
    @property
    def size(self): return 3
    @functools.cached_property
    def late(self): return torch.zeros(3)

class Mine(Base):
    '''What it does.'''
    factor = 1.5
    def run(self, x): return super().size + self.factor * x

thing = Mine(np.arange(6.0).reshape(2, 3))
velocity = lambda x, t: net(torch.cat([x, t[:, None]], 1))
"""

NAMES = ("net", "reward", "outer(2)", "Mine", "thing", "velocity", "functools.partial(helper, 1)")


def run(source, *names):
    """The identities of expressions after a notebook's cell was run."""
    space = {"__name__": "__main__"}
    exec(source, space)
    return {name: identity_of(eval(name, space), name) for name in names}


FIRST = run(CELL, *NAMES)


def test_unlike_objects_have_unlike_identities():
    assert len(set(FIRST.values())) == len(NAMES)


def test_another_session_finds_the_same():
    code = textwrap.dedent(
        f"""
        import sys; sys.path.insert(0, {str(ROOT)!r})
        from tests.core.test_identity import CELL, NAMES, run
        print(run("# moved\\n\\n" + CELL, *NAMES) == {FIRST!r})
        """
    )
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, cwd=ROOT,
        )  # fmt: skip
        assert done.stdout.strip() == "True", done.stderr


CHANGES = {
    "a weight": ("manual_seed(0)", "manual_seed(1)", {"net", "velocity"}),
    "a slope": ("LeakyReLU(0.1)", "LeakyReLU(0.2)", {"net", "velocity"}),
    "a global": ("scale, names = 2.0", "scale, names = 2.5", {"reward"}),
    "a set in a mapping": ("{1, 2, 3}", "{1, 2, 4}", {"reward"}),
    "a helper": ("math.exp(1)", "math.exp(2)", {"reward", "functools.partial(helper, 1)"}),
    "a default": ("shift=0.5", "shift=0.6", {"reward"}),
    "an inner function": ("x ** power", "x * power", {"outer(2)"}),
    "a default of Params": ("steps: int = 3", "steps: int = 4", {"Mine", "thing"}),
    "a property of a base": ("return 3", "return 4", {"Mine", "thing"}),
    "an attribute of a class": ("factor = 1.5", "factor = 1.25", {"Mine", "thing"}),
    "an entry of an array": ("np.arange(6.0)", "-np.arange(6.0)", {"thing"}),
    "a dtype": ("np.arange(6.0)", "np.arange(6)", {"thing"}),
    "a base's cached property": ("torch.zeros(3)", "torch.ones(3)", {"Mine", "thing"}),
    "what a docstring says": ("What it does.", "What it is.", set()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_changes_what_it_reaches_and_nothing_else(change):
    old, new, reached = CHANGES[change]
    assert CELL.count(old) == 1
    found = run(CELL.replace(old, new), *NAMES)
    assert {name for name in NAMES if found[name] != FIRST[name]} == reached


HELPERS = """
import torch
SHARP = 2.0
NET = torch.nn.Linear(2, 1)
def unused(x): return x
def inner(x): return SHARP * x
def score(x): return inner(x).sum(1)
class Base:
    def run(self, x): return inner(x)
"""

USES = """
import helpers_of_test as h
from helpers_of_test import Base, score
def by_attribute(x): return h.score(x)
def by_import(x):
    from helpers_of_test import NET
    return NET(x)
class Mine(Base): pass
"""


@pytest.fixture
def helpers(tmp_path, monkeypatch):
    """Writes and loads a module beside a notebook; gives the identities of what uses it."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def found(source, reload=True):
        (tmp_path / "helpers_of_test.py").write_text(source)
        importlib.invalidate_caches()
        if reload:
            sys.modules.pop("helpers_of_test", None)
        return run(USES, "score", "by_attribute", "by_import", "Mine", "h.NET")

    torch.manual_seed(0)
    yield found
    sys.modules.pop("helpers_of_test", None)


def test_a_module_beside_the_notebook_counts_as_it_was_loaded(helpers):
    first = helpers(HELPERS)
    edited = HELPERS.replace("SHARP = 2.0", "SHARP = 3.00")
    stale = helpers(edited, reload=False)
    assert stale == first
    new = helpers(edited)
    assert all(new[name] != first[name] for name in ("score", "by_attribute", "Mine"))
    assert new["by_import"] != first["by_import"]
    other = helpers(edited.replace("unused(x): return x", "unused(x): return -x"))
    assert all(other[name] == new[name] for name in ("score", "by_attribute", "Mine"))


def test_a_closure_counts_with_what_it_holds():
    assert run(CELL, "outer(3)")["outer(3)"] != FIRST["outer(2)"]


def test_what_is_derived_counts_for_nothing():
    space = {"__name__": "__main__"}
    exec(CELL, space)
    before = identity_of(space["thing"], "thing")
    assert space["thing"].late is not None and "late" in vars(space["thing"])
    assert identity_of(space["thing"], "thing") == before
    space["net"].register_forward_hook(lambda *_: None)
    assert identity_of(space["net"], "net") != FIRST["net"]


def test_installed_functions_count_by_name():
    names = {identity_of(f, "f") for f in (torch.exp, torch.sin, np.exp, np.linalg.norm, len, dict)}
    assert len(names) == 6
    assert identity_of(torch.nn.functional.relu, "f") == identity_of(torch.nn.functional.relu, "g")


def test_a_cycle_ends():
    loop = [1]
    loop.append(loop)
    assert identity_of(loop, "loop") != identity_of([1, [1]], "loop")


@pytest.mark.parametrize(
    ("held", "kind"),
    [
        (torch.Generator(), "torch.*Generator"),
        (np.random.default_rng(0), "numpy.random.*Generator"),
        (threading.Lock(), "lock"),
        ((x for x in ()), "generator"),
        (sys.stdout, "TextIO|EncodedFile"),
    ],
)
def test_what_cannot_be_told_is_refused_with_its_place(held, kind):
    def reward(x):
        return held

    with pytest.raises(NoIdentity, match=rf"the reward \(held\) changes: it holds a .*({kind})"):
        identity_of(reward, "the reward")
    reward.identity = "draws of 3 May"
    said = identity_of(reward, "the reward")
    reward.identity = "draws of 4 May"
    assert said != identity_of(reward, "the reward")
