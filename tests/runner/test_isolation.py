"""A cell's numbers follow from its id: neither its worker's past nor global generators decide."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.api import Samples
from bench.core import seeding
from bench.plan.expand import expand
from bench.plan.suite import build_suite
from bench.runner import cell as cells
from bench.runner import isolation
from bench.runner.cell import Job
from bench.runner.measuring import unpack_samples
from tests.worlds import odd_plugins
from tests.worlds.cheap_run import CONTENT


def job(method, seed=0, reward="linear"):
    content = {**CONTENT, "methods": [method], "rewards": [reward], "seeds": [seed], "n": 8}
    (row,) = expand(build_suite(content))
    return Job(row.cell, row.limit)


@pytest.fixture
def odd(monkeypatch):
    odd_plugins.install(monkeypatch)
    return lambda name, makes: monkeypatch.setitem(odd_plugins.MAKES, name, makes)


def drawn(problem, n):
    """Draws from every global generator."""
    mixed = torch.tensor(odd_plugins.random_state()).sum()
    return Samples(problem.x0() + torch.randn(n, 2) + mixed)


def test_global_generators_follow_the_cell_and_not_the_worker(odd):
    odd("drawn", drawn)
    first = job("odd:name=drawn").run().samples
    torch.rand(17), np.random.rand(3)  # noqa: NPY002
    assert job("odd:name=drawn").run().samples == first
    assert job("odd:name=drawn", seed=1).run().samples != first


def test_the_generators_of_the_process_are_put_back(odd):
    odd("drawn", drawn)
    torch.manual_seed(3)
    wanted = odd_plugins.random_state()[0]
    torch.manual_seed(3)
    job("odd:name=drawn").run()
    assert odd_plugins.random_state()[0] == wanted


VANDALS = {
    "the default dtype": lambda: torch.set_default_dtype(torch.float64),
    "the default device": lambda: torch.set_default_device("meta"),
    "the grad mode": lambda: torch.set_grad_enabled(False),
    "the number of threads": lambda: torch.set_num_threads(2),
    "deterministic algorithms": lambda: torch.set_deterministic_debug_mode("warn"),
    "the precision of products": lambda: torch.set_float32_matmul_precision("medium"),
    "NumPy's handling of errors": lambda: np.seterr(all="raise"),
    "the working directory": lambda: os.chdir("/"),
    "the environment": lambda: os.environ.update(TILTBENCH_ODD="1"),
    "the search path of modules": lambda: isolation.sys.path.insert(0, "/odd"),
}


@pytest.mark.parametrize("name", VANDALS)
def test_what_is_global_is_put_back_and_the_record_says_so(odd, name):
    before = {known: each.read() for known, each in isolation.GLOBALS.items()}

    def vandal(problem, n):
        x = problem.x0()
        VANDALS[name]()
        return Samples(x)

    odd("vandal", vandal)
    torch.set_num_threads(1)
    attempt = job("odd:name=vandal").run()
    assert {known: each.read() for known, each in isolation.GLOBALS.items()} == before
    which = " (TILTBENCH_ODD)" if name == "the environment" else ""
    assert attempt.machine["changed"] == f"a plugin changed {name}{which}; put back"
    assert "changed" not in job("odd").run().machine


def test_a_removed_working_directory_is_left_again(odd, tmp_path):
    here = Path.cwd()

    def vandal(problem, n):
        (tmp_path / "gone").mkdir()
        os.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()
        return odd_plugins.plain(problem, n)

    odd("vandal", vandal)
    assert job("odd:name=vandal").run().ok and Path.cwd() == here


METHODS = {
    "prior:steps=3": "prior", "exact": "exact", "dps:steps=5": "dps", "mfm-gf:steps=5": "mfm-gf",
    "best-of-n:candidates=2": "best-of-n", "tds:steps=5": "tds",
}  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_our_methods_never_see_the_global_generators(monkeypatch, method):
    """Their samples are the same whatever the generators are seeded by."""
    found = set()
    for other in ("", "another"):
        monkeypatch.setattr(cells, "seed_all", lambda label, o=other: seeding.seed_all(label + o))
        attempt = job(method, reward="inverse").run()
        assert attempt.ok, attempt.reason
        assert len(unpack_samples(attempt.samples)) == 8
        found.add(hashlib.sha256(attempt.samples).hexdigest())
    assert len(found) == 1
