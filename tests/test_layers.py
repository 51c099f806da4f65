"""Imports point one way (the layers of the design), and light commands stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "bench.core": set(),
    "bench.models": {"bench.core"},
    "bench.training": {"bench.core", "bench.models"},
    "bench.tasks": {"bench.core", "bench.models"},
    "bench.metrics": {"bench.core", "bench.models"},
    "rewards": {"bench.core", "bench.models", "bench.api"},
    "methods": {"bench.core", "bench.models", "bench.training", "bench.api"},
    "bench.prompts": {"bench.core"},
    "bench.runner": {"bench.core"},
    "bench.tracking.mirror": {
        "bench.core",
        "bench.runner",
        "bench.tracking.artifacts",
        "bench.tracking.database",
        "bench.tracking.models",
    },
    "bench.tracking.artifacts": {"bench.core", "bench.runner"},
    "bench.tracking.database": {"bench.core", "bench.runner"},
    "bench.tracking.models": {"bench.runner", "bench.tracking.artifacts"},
    "bench.tracking.live": {
        "bench.runner",
        "bench.tracking.mirror",
        "bench.tracking.artifacts",
        "bench.tracking.database",
    },
    "sweeps": {"bench.core", "bench.runner"},
    "reports": set(),
    "bench.api": {"bench.core"},
}
OURS = ("bench", "methods", "rewards", "sweeps", "reports")


def layer(module: str) -> str:
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "bench" and len(parts) > 1 else parts[0]


def imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] in OURS}


def sources():
    for package in OURS:
        for file in sorted((ROOT / package).rglob("*.py")):
            module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
            yield file, module.removesuffix(".__init__")


@pytest.mark.parametrize("own", sorted(ALLOWED))
def test_nothing_imports_upward(own):
    seen = 0
    for file, module in sources():
        if layer(module) != own:
            continue
        seen += 1
        for name in imports(file):
            target = layer(name)
            assert target == own or target in ALLOWED[own], f"{module} imports {name}"
    if not own.startswith("bench.tracking.mirror"):
        assert seen, f"no files in {own}"


def test_metrics_measure_training_from_outside():
    """bench.training never sees a metric: quality is measured by the command line."""
    for file, module in sources():
        if layer(module) == "bench.training":
            assert not any(layer(n) == "bench.metrics" for n in imports(file)), module


HEAVY = "import sys; bad = {'torch', 'ray', 'mlflow', 'optuna', 'pandas'} & set(sys.modules)"


@pytest.mark.parametrize("arguments", [["--help"], ["list", "methods"], ["list", "suites"]])
def test_light_commands_import_nothing_heavy(arguments):
    code = (
        "import sys; from bench.cli.main import app\n"
        f"try: app({arguments!r})\nexcept SystemExit: pass\n"
        f"{HEAVY}; assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    "module", ["reports.html", "reports.tables.terminal", "reports.data.two_runs"]
)
def test_reports_need_no_torch(module):
    code = f"import {module}, sys; assert not {{'torch', 'ray', 'mlflow'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_inline_run_needs_neither_ray_nor_mlflow(tmp_path):
    code = (
        "import sys\nsys.modules['ray'] = sys.modules['mlflow'] = None\n"
        "from bench.cli.main import app\n"
        f"try: app(['run', '--executor', 'inline', '--root', {str(tmp_path)!r}, '--no-track', "
        "'-t', 'gmm', '-r', 'linear', '-m', 'prior:steps=2', '-b', 'none', '--set', 'n=16', "
        "'--seeds', '1'])\nexcept SystemExit as e: assert not e.code\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
