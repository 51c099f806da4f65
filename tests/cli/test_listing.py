"""What `bench list` shows of one thing, of runs and of presets, and what the shell completes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bench.cli.doctor import doctor
from bench.cli.listing import listing
from bench.core.params import UserError
from bench.models import external, weights
from bench.plan import presets
from bench.plan.suite import build_suite
from bench.record.store import Store
from bench.runner.executors.inline import Inline
from bench.runner.run import run_suite
from tests.worlds.silent import Silent

ROOT = Path(__file__).parents[2]


def listed(capsys, *words, **options):
    listing(*words, **options)
    return capsys.readouterr().out


def test_a_reward_shows_its_strength_and_the_tasks_that_it_scores(capsys):
    found = json.loads(listed(capsys, "rewards", "template", as_json=True))
    assert "digits" in found["goes with the tasks"]
    assert "gmm-paper" not in found["goes with the tasks"]
    assert "strength" in {row["name"] for row in found["parameters"]}
    shown = listed(capsys, "rewards", "template")
    assert "goes with the tasks: digits" in shown and "strength" in shown


def test_tasks_methods_and_metrics_say_what_they_go_with(capsys):
    task = json.loads(listed(capsys, "tasks", "gmm", as_json=True))
    assert "quadratic" in task["goes with the rewards"] and "sliced-w2" in task["metrics"]
    assert "template" not in task["goes with the rewards"]
    shown = listed(capsys, "methods", "dps")
    assert "needs: a differentiable reward" in shown and "standing: baseline" in shown
    assert "caveat: it puts the Tweedie point" in shown
    assert "better: lower" in listed(capsys, "metrics", "mmd2")


def test_a_suite_shows_its_content(capsys):
    assert "blocks" in yaml.safe_load(listed(capsys, "suites", "quickstart"))


def test_runs_and_presets_are_listed(tmp_path, capsys):
    content = {
        "name": "small", "tasks": ["gmm:dimension=2"], "rewards": ["template", "linear"],
        "methods": ["prior:steps=2"], "budgets": ["none"], "seeds": 1, "n": 16,
    }  # fmt: skip
    run_suite(build_suite(content), Store(str(tmp_path), "small"), Inline, Silent())
    presets.write("tuned", {"dps": {"params": {"guidance": 0.5}}}, str(tmp_path))
    assert "small" in (shown := listed(capsys, "runs", root=str(tmp_path)))
    assert "1 ok, 1 skipped" in shown
    assert "dps" in listed(capsys, "presets", root=str(tmp_path))
    with pytest.raises(UserError, match="shows all of them"):
        listing("runs", "small", root=str(tmp_path))


@pytest.mark.parametrize(
    ("line", "offers"),
    [
        ("bench run -m mfm-", {"mfm-g", "mfm-gf", "mfm-ft", "mfm-search"}),
        ("bench run -t digi", {"digits"}),
        ("bench run -r templ", {"template"}),
        ("bench plan quick", {"quickstart"}),
        ("bench list rew", {"rewards"}),
        ("bench exp", {"export"}),
    ],
)
def test_the_shell_completes_names(line, offers):
    code = (
        "import sys; sys.argv = ['bench']\n"
        "from bench.cli.main import app\n"
        "try: app()\nexcept SystemExit: pass\n"
        "assert not {'torch', 'ray'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT,
        env={
            "_BENCH_COMPLETE": "complete_bash", "COMP_WORDS": line,
            "COMP_CWORD": str(len(line.split()) - 1), "PYTHONPATH": str(ROOT),
        },
    )  # fmt: skip
    assert set(done.stdout.split()) == offers, done.stderr


def test_the_doctor_knows_all_weights(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(external, "cache_folder", lambda: tmp_path)
    doctor()
    said = capsys.readouterr().out
    shipped = {path.stem for path in weights.PACKAGE.glob("*.safetensors")}
    assert {"digits", "gmm-paper", "shapes"} <= shipped
    assert all(f"weights {name}" in said for name in shipped)
    assert f"0 of {len(external.EXTERNAL)} in {tmp_path}" in said
    assert all(name in said for name in external.EXTERNAL)
