"""What `bench run` says and with which code it ends."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from bench.cli import options as o
from bench.core.params import UserError
from bench.plan.binding import bind
from bench.plan.suite import build_suite

ROOT = Path(__file__).parents[2]


def bench(folder, words):
    return subprocess.run(
        [sys.executable, "-m", "bench", *words.split()], capture_output=True, text=True, cwd=folder,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip


SMALL = "--executor inline --no-track --no-baselines --seeds 1 --set n=16 --name small"


def test_what_was_skipped_says_why_and_a_finished_run_shows_its_table_again(tmp_path):
    words = f"run -t gmm:dimension=2 -r linear -m prior:steps=3 -m fmrg -b paper-nfe=3 {SMALL}"
    for told in ("2 cells", "Nothing to do: all 1 cells"):
        done = bench(tmp_path, words)
        assert done.returncode == 0, done.stderr
        assert "prior:steps=3" in done.stdout and "reward" in done.stdout
        assert (
            "fmrg at paper-nfe=3 on gmm:dimension=2 · linear: infeasible: needs at" in done.stdout
        )
        assert told in done.stdout or "1 cells on" in done.stderr
    found = json.loads(bench(tmp_path, f"{words} --json").stdout)
    rows = {row["method"]: row for row in found["results"]}
    assert rows["prior:steps=3"]["status"] == "ok"
    assert isinstance(rows["prior:steps=3"]["reward_mean"], float)
    assert rows["fmrg"]["trouble"].startswith("infeasible: needs at least")


def test_a_pair_that_does_not_fit_says_so_and_ends_with_1(tmp_path):
    done = bench(tmp_path, f"run -t gmm:dimension=2 -r template -m prior -b none {SMALL}")
    assert done.returncode == 1
    assert "prior on gmm:dimension=2 · template: skipped: " in done.stdout
    assert "Nothing to do" not in done.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("run -t gmm -r linear -m dpss -b none --json", "did you mean 'dps'"),
        ("list methods dpss --json", "did you mean 'dps'"),
    ],
)
def test_errors_are_json_where_that_is_asked_for(tmp_path, words, says):
    done = bench(tmp_path, words)
    assert done.returncode == 2 and says in json.loads(done.stdout)["error"] and says in done.stderr


def test_the_version_and_bad_numbers_of_workers(tmp_path):
    assert bench(tmp_path, "--version").stdout.startswith("tiltbench ")
    done = bench(tmp_path, "run --workers 0")
    assert done.returncode == 2 and "--workers" in done.stderr


def test_blocks_that_are_no_list_are_one_sentence():
    for blocks in (3, {"tasks": ["gmm"]}, ["gmm"]):
        with pytest.raises(UserError, match="'blocks' should be a list of mappings"):
            build_suite({"name": "x", "blocks": blocks})


def content(suite="quickstart", seeds=None, name=None, settings=(), methods=()):
    return o.suite_content(suite, [], [], list(methods), [], seeds, name, list(settings), True)


def test_a_reduced_suite_has_a_folder_of_its_own():
    assert content()["name"] == "quickstart"
    assert content(settings=["device=cpu", "batch=8"])["name"] == "quickstart"
    reduced = [content(seeds=1), content(settings=["n=32"]), content(methods=["dps"])]
    names = [found["name"] for found in reduced]
    assert len({*names, "quickstart"}) == 4 and all(n.startswith("quickstart-") for n in names)
    assert content(seeds=1)["name"] == names[0]
    assert content(seeds=1, name="mine")["name"] == "mine"


def test_two_runs_are_compared_within_a_terminal(tmp_path):
    words = "run -t gmm:dimension=2 -r linear -m prior:steps={} -b none --executor inline"
    for steps in (2, 3):
        rest = f"--no-track --no-baselines --seeds 2 --set n=16 --name run-{steps}"
        assert bench(tmp_path, f"{words.format(steps)} {rest}").returncode == 0
    done = bench(tmp_path, "compare runs/run-2 runs/run-3")
    assert done.returncode == 0 and "gmm:dimension=2 · linear" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 160
    rows = json.loads(bench(tmp_path, "compare runs/run-2 runs/run-3 --json").stdout)
    assert {row["method"] for row in rows} == {"prior:steps=2", "prior:steps=3"}


def test_ctrl_c_ends_with_a_sentence_and_the_same_command_continues(tmp_path):
    (tmp_path / "slow_of_test.py").write_text(SLOW)
    words = (
        "run -t gmm:dimension=2 -r linear -m slow_of_test.py:Slow -b none --seeds 3 --set n=8 "
        "--executor inline --no-track --no-baselines --name slow"
    )
    started = subprocess.Popen(
        [sys.executable, "-m", "bench", *words.split()], cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WAIT": "1", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (tmp_path / "second").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    started.send_signal(signal.SIGINT)
    _, said = started.communicate(timeout=120)
    assert started.returncode == 130 and "Traceback" not in said
    assert "1 of 3 cells of 'slow' are done; the same command goes on" in said
    done = bench(tmp_path, f"{words} --json")
    told = json.loads(done.stdout)
    assert (told["executed"], told["cached"], told["statuses"]) == (2, 1, {"ok": 3})


SLOW = """
import os, time
from pathlib import Path
from bench.api import Method, NoParams, Samples, forward

class Slow(Method[NoParams]):
    def work(self, spec):
        return forward("flow", 0)
    def sample(self, problem, n):
        if "WAIT" in os.environ and Path("first").exists():
            Path("second").touch()
            time.sleep(300)
        Path("first").touch()
        return Samples(problem.x0())
"""


# -- callables ------------------------------------------------------------------------------------


@pytest.fixture
def scorer(tmp_path, monkeypatch):
    (tmp_path / "vector_scorer.py").write_text("def score(x, prompts): return x[:, 0] - 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "vector_scorer", raising=False)
    return "callable:function=vector_scorer:score"


def test_a_callable_scores_vectors_as_they_are(scorer):
    bound = bind("gmm:dimension=3", f"{scorer},gradient=true")
    x = 4 * torch.randn(5, 3)
    assert bound.refusal is None and bound.spec.reward_differentiable
    assert torch.equal(bound.reward(x, None), x[:, 0] - 1)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def scores(x, p): return x", "has no 'score': did you mean 'scores'"),
        ("if True:\n    def score(x, p): return x", ""),
        ("try:\n    from math import exp as score\nexcept ImportError:\n    pass", ""),
        ("score: object = len", ""),
        ("from math import *", ""),
    ],
)
def test_a_misspelt_callable_fails_while_planning(tmp_path, scorer, source, says):
    (tmp_path / "vector_scorer.py").write_text(source + "\n")
    reward = bind("gmm:dimension=3", scorer).reward
    if not says:
        assert scorer.partition("=")[2] in reward.weights()
        return
    with pytest.raises(UserError, match=says):
        reward.weights()


@pytest.mark.parametrize("extra", ["signature=model", "signature=batch,images=uint8"])
def test_what_needs_pictures_refuses_vectors(scorer, extra):
    assert "pictures" in str(bind("gmm:dimension=3", f"{scorer},{extra}").refusal)
