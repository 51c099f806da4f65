"""Imports point one way (the layers of the design), in no circle, and light commands stay light."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = ("bench", "methods", "rewards", "sweeps", "reports")

CORE = {"bench.core"}
ALLOWED = {
    "bench.core": set(),
    "bench.loops": CORE,
    "bench.api": CORE | {"bench.loops"},
    "bench.models": CORE,
    "bench.reading": CORE | {"bench.models"},
    "bench.prompts": CORE | {"bench.reading"},
    "bench.training": CORE | {"bench.models"},
    "bench.metrics": CORE | {"bench.models", "bench.reading"},
    "bench.worlds": CORE | {"bench.models", "bench.training", "bench.metrics"},
    "bench.tasks": {"bench.api", "bench.models", "bench.prompts"},
    "rewards": {"bench.api", "bench.models"},
    "methods": {"bench.api", "bench.training"},
    "bench.plan": CORE,
    "bench.record": CORE,
    "bench.runner": CORE | {"bench.plan", "bench.record"},
    "bench.conformance": CORE | {"bench.plan", "bench.runner"},
    "bench.tracking": CORE | {"bench.record"},
    "bench.notebook": CORE
    | {"bench.plan", "bench.record", "bench.runner", "reports", "rewards"}
    | {"bench.cli.execution", "bench.cli.progress"},
    "sweeps": CORE | {"bench.plan", "bench.record", "bench.runner"},
    "reports": {"bench.record", "bench.core.units"},
}
"""Which layers a layer may import, at any place in a file; the command line may import all."""


def layer(module: str) -> str:
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "bench" and len(parts) > 1 else parts[0]


def modules() -> dict[str, Path]:
    files = (file for package in OURS for file in sorted((ROOT / package).rglob("*.py")))
    named = ((".".join(file.relative_to(ROOT).with_suffix("").parts), file) for file in files)
    return {name.removesuffix(".__init__"): file for name, file in named}


MODULES = modules()


def imports(file: Path) -> Iterator[str]:
    """Every module of ours that a file imports: inside functions and for the type checker too."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            found = {name if name in MODULES else node.module for name in names}
            yield from (name for name in found if name in MODULES)


GRAPH = {module: sorted({*imports(file)} - {module}) for module, file in MODULES.items()}


@pytest.mark.parametrize("own", sorted(ALLOWED))
def test_nothing_imports_upward(own):
    members = [module for module in MODULES if layer(module) == own]
    assert members, f"no files in {own}"
    for module in members:
        for name in GRAPH[module]:
            fits = layer(name) == own or {layer(name), name} & ALLOWED[own]
            assert fits, f"{module} imports {name}"


def test_every_layer_has_its_arrows():
    free = {"bench", "bench.__main__", "bench.cli"}
    assert {layer(module) for module in MODULES} - free == set(ALLOWED)


def circles(graph: dict[str, list[str]]) -> list[str]:
    """A path back to its start for every module that has one, by depth-first search."""
    done, path, found = set(), [], []

    def visit(module: str) -> None:
        if module in path:
            found.append(" -> ".join([*path[path.index(module) :], module]))
        elif module not in done:
            path.append(module)
            for name in graph[module]:
                visit(name)
            done.add(path.pop())

    for module in graph:
        visit(module)
    return found


def test_no_module_comes_back_to_itself():
    assert not circles(GRAPH)


def test_a_circle_would_be_found():
    assert circles({"a": ["b"], "b": ["c"], "c": ["b"]}) == ["b -> c -> b"]


def test_only_fits_know_of_training():
    for module in MODULES:
        if layer(module) == "methods" and not module.startswith("methods.finetuning"):
            assert not [n for n in GRAPH[module] if layer(n) == "bench.training"], module


HEAVY = "import sys; bad = {'torch', 'ray', 'mlflow', 'optuna', 'pandas'} & set(sys.modules)"


@pytest.mark.parametrize("arguments", [["--help"], ["list", "methods"], ["list", "suites"]])
def test_light_commands_import_nothing_heavy(arguments):
    code = (
        "import sys; from bench.cli.main import app\n"
        f"try: app({arguments!r})\nexcept SystemExit: pass\n"
        f"{HEAVY}; assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT)


REPORTS = sorted(module for module in MODULES if layer(module) == "reports")


def test_reports_need_no_torch():
    heavy = "{'torch', 'ray', 'mlflow'}"
    code = f"import sys, {', '.join(REPORTS)}; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_inline_run_needs_neither_ray_nor_mlflow(tmp_path):
    code = (
        "import sys\nsys.modules['ray'] = sys.modules['mlflow'] = None\n"
        "from bench.cli.main import app\n"
        f"try: app(['run', '--executor', 'inline', '--root', {str(tmp_path)!r}, '--no-track', "
        "'-t', 'gmm', '-r', 'linear', '-m', 'prior:steps=2', '-b', 'none', '--set', 'n=16', "
        "'--seeds', '1'])\nexcept SystemExit as e: assert not e.code\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT)
