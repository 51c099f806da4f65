"""Runs on pipelines: what a method makes without a reward are the pipeline's own latents."""

import pytest

from bench.core.noise import NoiseSource
from bench.plan.suite import build_suite
from bench.record.store import Store
from bench.runner.executors.inline import Inline
from bench.runner.measuring import unpack_samples
from bench.runner.run import run_suite
from bench.tasks.text_to_image import TextToImage
from tests.worlds.pipeline_flows import STRONG, task_name
from tests.worlds.silent import Silent
from tests.worlds.tiny_pipelines import PIPELINES, own_latents, tiny_pipeline

N = 2
METHODS = {"prior": "", "dps": "guidance=0,", "best-of-n": "candidates=1,"}
REWARD = "callable:function=tests.worlds.brightness:brightness,gradient=true"


def finished(root, task, methods, budget):
    """(cell, its samples, its work) of every row that ran, none failed."""
    content = {
        "name": "pipelines",
        "tasks": [task],
        "rewards": [REWARD],
        "methods": methods,
        "budgets": [budget],
        "seeds": 1,
        "n": N,
    }
    store = Store(str(root), "pipelines")
    plan = run_suite(build_suite(content), store, Inline, Silent()).plan
    for row in plan:
        if row.status != "skipped":
            attempt = store.index.last(row.cell.id).attempt
            assert attempt.status == "ok", attempt.reason
            yield row, unpack_samples(store.index.samples(row.cell.id)).x, attempt.work


def latents(cell, name):
    """The pipeline's own, of the noise that belongs to a cell."""
    source = NoiseSource(cell.seed, cell.task, str(cell.condition))
    shape = TextToImage.create(**cell.task_params).event_shape
    z = source.normal("x0", 0, shape, range(N))
    steps = cell.method_params["steps"]
    return own_latents(tiny_pipeline(name), z, cell.condition, steps, STRONG)


def assert_own_latents(root, name, methods, budget):
    seen = set()
    for row, x, work in finished(root, task_name(name), methods, budget):
        wanted = latents(row.cell, name)
        assert (x - wanted).abs().max() < 1e-5 * wanted.abs().max()
        each = 1 if name == "flux" else 2
        assert work["flow_forward"] == N * each * row.cell.method_params["steps"]
        seen.add(row.cell.method)
    assert seen == set(METHODS)


@pytest.mark.parametrize("name", PIPELINES)
def test_without_a_reward_methods_make_the_latents_of_the_pipeline(name, tmp_path):
    """With the steps that matching finds for a budget."""
    methods = [f"{method}:{more}".rstrip(",:") for method, more in METHODS.items()]
    assert_own_latents(tmp_path, name, methods, "paper-nfe=41")


def test_so_they_do_with_steps_of_ones_own(tmp_path):
    methods = [f"{method}:{more}steps={k}" for method, more in METHODS.items() for k in (8, 20)]
    assert_own_latents(tmp_path, "sd15", methods, "none")
