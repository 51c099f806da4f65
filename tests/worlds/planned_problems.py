"""Problems as the runner makes them, of a task and a reward by name, and their exact answers."""

from dataclasses import replace

from bench.core.metering import Meter
from bench.plan.expand import expand
from bench.plan.suite import build_suite
from bench.runner.instances import instances_of
from bench.runner.problems import make_problem


def cell_of(task, reward, n=6, seed=0, batch=1024):
    content = {
        "name": "t",
        "tasks": [task],
        "rewards": [reward],
        "methods": ["prior"],
        "seeds": 1,
        "n": n,
        "batch": batch,
    }
    (row,) = expand(build_suite(content))
    return replace(row.cell, seed=seed)


def problem_of(task, reward, n=6, seed=0):
    cell = cell_of(task, reward, n, seed)
    return make_problem(cell, instances_of(cell), Meter(), range(n))


def reference_of(task, reward, n, seed=0):
    """n exact draws of the tilted law, (n, *event_shape)."""
    cell = cell_of(task, reward, n)
    made = instances_of(cell)
    return made.task.reference(made.target.reward, cell.strength, cell.condition, n, seed).x
