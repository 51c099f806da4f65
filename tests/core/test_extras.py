"""The light base runs inline; what it lacks is a sentence with the command that brings it."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from bench.core.extras import EXTRAS

ROOT = Path(__file__).parents[2]
DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUN = "run -t gmm -r linear -m prior:steps=2 -b none --set n=16 --seeds 1 --no-baselines"
SWEEP = "sweep dps -t gmm-paper -r inverse -b paper-nfe=50 --trials 2"


def bench(folder, words, without):
    """`bench` in an environment without some packages."""
    code = (
        "import sys\n"
        f"for name in {without!r}: sys.modules[name] = None\n"
        f"sys.argv = ['bench', *{words.split()!r}]\n"
        "from bench.cli.main import main\nmain()"
    )
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip


def test_every_lack_has_an_extra_and_all_has_every_extra():
    extras = DECLARED["optional-dependencies"]
    assert set(EXTRAS.values()) <= set(extras)
    (everything,) = extras["all"]
    assert set(everything.removeprefix("tiltbench[").rstrip("]").split(",")) == set(EXTRAS.values())
    light = " ".join(DECLARED["dependencies"])
    assert not [name for name in EXTRAS if f"{name}>" in light or f"{name}[" in light]


def test_a_run_needs_none_of_them(tmp_path):
    done = bench(tmp_path, RUN, list(EXTRAS))
    assert done.returncode == 0, done.stderr
    assert "one after another in this process; pip install 'tiltbench[ray]'" in done.stderr
    assert "1 ok." in done.stdout


@pytest.mark.parametrize(
    ("words", "package"),
    [
        (f"{RUN} --executor ray", "ray"),
        (f"{SWEEP} --executor inline --no-track", "optuna"),
        ("ui", "mlflow"),
    ],
)
def test_what_is_lacking_is_said_with_its_command(tmp_path, words, package):
    done = bench(tmp_path, words, [package])
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"needs {package}, which is not installed" in done.stderr
    assert f"pip install 'tiltbench[{EXTRAS[package]}]'" in done.stderr
