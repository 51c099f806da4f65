"""The nodes of a Ray cluster: what each brings, asked before a run and by `bench doctor`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.core.cells import Cell, canonical
from bench.core.params import UserError
from bench.runner.nodes import Look, Machine, differences, look

PATIENCE = 120.0
"""Seconds that a node may take to answer: a worker has to be started there."""


@dataclass(frozen=True)
class Node:
    """A node: its address, what Ray may use of it, what it brings, or why it did not answer."""

    address: str
    resources: dict[str, float]
    found: Look | None
    error: str = ""

    @property
    def name(self) -> str:
        """As a person would look for it."""
        host = "" if self.found is None else f" ({self.found.machine.host})"
        return f"{self.address}{host}"

    def objections(self, driver: Machine) -> list[str]:
        """Why it may not compute cells of this driver."""
        if self.found is None:
            return [self.error]
        return [*differences(driver, self.found.machine), *self.found.lacks]


def nodes_of(ray: Any, cells: Sequence[Cell] = (), paths: Sequence[str] = ()) -> list[Node]:
    """Every living node, with what it lacks of what the cells need; all are asked at once."""
    ask = ray.remote(look)
    living = [node for node in ray.nodes() if node["Alive"]]
    options = [{"num_cpus": 0, "max_retries": 1, **on_node(n["NodeID"])} for n in living]
    answers = [ask.options(**own).remote(cells, paths) for own in options]
    return [_node(ray, node, answer) for node, answer in zip(living, answers, strict=True)]


def _node(ray: Any, node: dict[str, Any], answer: Any) -> Node:
    found, error = None, ""
    try:
        found = ray.get(answer, timeout=PATIENCE)
    except Exception as raised:  # whatever a foreign environment raises is what is to be said
        error = (
            f"it did not answer ({_last_line(raised)}): install tiltbench there as it is here, and "
            "start Ray from that environment"
        )
    return Node(node["NodeManagerAddress"], node["Resources"], found, error)


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1][:200]


def on_node(node: str) -> dict[str, Any]:
    """Options of Ray by which something runs on one node and on no other."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node_id=node, soft=False)}


def check_nodes(ray: Any, cells: Iterable[Cell]) -> None:
    """Raise UserError, by name, unless every node that computes is as the driver."""
    driver = Machine.here()
    for node in nodes_of(ray, apart(cells)):
        idle = not (node.resources.get("CPU") or node.resources.get("GPU"))
        objections = [] if idle else node.objections(driver)
        if objections:
            raise UserError(
                f"the node {node.name} cannot take part: {objections[0]}, or take the node out; "
                "'bench doctor --address' shows every node"
            )


def apart(cells: Iterable[Cell]) -> list[Cell]:
    """One cell of every task, reward and method with their parameters: others need the same."""
    kinds: dict[str, Cell] = {}
    for cell in cells:
        plugins = (cell.task, cell.task_params, cell.reward, cell.reward_params, cell.method)
        kinds.setdefault(canonical([*plugins, cell.weights, cell.versions]), cell)
    return list(kinds.values())
