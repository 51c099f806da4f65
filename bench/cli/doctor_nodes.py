"""The nodes of a Ray cluster as a person reads them: what each brings, and what is to be mended."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from bench.cli.console import wide_console

if TYPE_CHECKING:
    from bench.core.cells import Cell
    from bench.runner.executors.ray_nodes import Node
    from bench.runner.nodes import Machine

    Told = list[tuple[Node, list[str]]]
    """Nodes, and why each may not take part."""


def show_nodes(address: str, suite: str, paths: list[str], as_json: bool) -> None:
    """Ask every node, show what it brings, and end with 1 if one may not take part."""
    from bench.runner.executors.ray_cluster import cluster
    from bench.runner.executors.ray_nodes import nodes_of
    from bench.runner.nodes import Machine

    driver, cells = Machine.here(), cells_of(suite)
    with cluster(address, 1) as ray:
        nodes = nodes_of(ray, cells, paths)
    told = [(node, node.objections(driver)) for node in nodes]
    (_print_json if as_json else _print)(driver, told)
    if any(objections for _, objections in told):
        raise typer.Exit(1)


def cells_of(suite: str) -> list[Cell]:
    """A cell of every task, reward and method of a suite, as they are planned on this machine."""
    from bench.plan.expand import expand
    from bench.plan.suite import build_suite, load_suite
    from bench.runner.executors.ray_nodes import apart

    rows = expand(build_suite(load_suite(suite)))
    return apart(row.cell for row in rows if row.status == "pending")


def _print_json(driver: Machine, told: Told) -> None:
    rows = [
        {
            "node": node.name,
            "resources": node.resources,
            "machine": None if node.found is None else asdict(node.found.machine),
            "objections": objections,
        }
        for node, objections in told
    ]
    typer.echo(json.dumps({"driver": asdict(driver), "nodes": rows}))


def _print(driver: Machine, told: Told) -> None:
    from rich import box
    from rich.table import Table

    console = wide_console(140)
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("node", "Python", "torch", "tiltbench", "cores", "GPUs", ""):
        table.add_column(column, overflow="fold")
    table.add_row(f"driver ({driver.host})", *_figures(driver), "")
    for node, objections in told:
        figures = _figures(node.found.machine) if node.found else [""] * 5
        verdict = f"{len(objections)} to mend" if objections else "as the driver"
        table.add_row(node.name, *figures, verdict)
    console.print(table)
    for node, objections in told:
        for sentence in objections:
            console.print(f"{node.name}: {sentence}.", soft_wrap=True, highlight=False)
    if not any(objections for _, objections in told):
        count = "1 node is" if len(told) == 1 else f"All {len(told)} nodes are"
        console.print(f"{count} as the driver: cells may run on each.")


def _figures(machine: Machine) -> list[str]:
    return [
        machine.python,
        machine.torch,
        f"{machine.tiltbench} {machine.code[:8]}",
        str(machine.cores),
        ", ".join(machine.gpus) or "none",
    ]
