"""`bench check reward` on scorers behind a server: swapped, mispaired and misscaled ones are found.

The faults are those of public scorers: prompts where pictures belong (the order of HPSv3's
arguments changed between releases), a matrix of all pictures and prompts flattened, the first
prompt for all, scores standardised within the batch, logits where probabilities were promised.
"""

from __future__ import annotations

import sys
import types

import pytest

from bench.conformance.check import check_reward, conform
from bench.plan.binding import make_reward, make_task
from tests.worlds.contract_findings import failed
from tests.worlds.scorer_servers import COLOURS, serving

GOOD = "own = lambda p, t: (p.resize((1, 1)).getpixel((0, 0))[0] + len(t)) / 512"
PAIRED = "[own(p, t) for p, t in zip(pictures, prompts)]"
MATRIX = "[own(p, t) for p in pictures for t in prompts]"

SCORERS: dict[str, tuple[str, set[str]]] = {
    "good": (PAIRED, set()),
    "constant": ("[0.5 for p in pictures]", set()),
    "no prompt": ("[own(p, '') for p in pictures]", {"argument order"}),
    "no picture": ("[len(t) / 512 for t in prompts]", {"argument order"}),
    "first prompt for all": ("[own(p, prompts[0]) for p in pictures]", {"argument order"}),
    "prompts turned round": (
        "[own(p, t) for p, t in zip(pictures, prompts[::-1])]",
        {"argument order"},
    ),
    "matrix flattened": (f"{MATRIX}[:len(pictures)]", {"argument order", "batch size"}),
    "standardised": (f"(lambda s: [v - sum(s) / len(s) for v in s])({PAIRED})", {"batch size"}),
    "per cent": (f"[100 * s for s in {PAIRED}]", {"scale"}),
}


def findings(tmp_path, scores: str, more: str = ""):
    scorer = tmp_path / "scorer.py"
    body = f"def score(pictures, prompts): return {scores}\n"
    scorer.write_text(f"LIMITS = (0.0, 1.0)\n{GOOD}\n{body}{more}")
    with serving(scorer) as running:
        reward = make_reward(f"http:url={running.url},pause=0.01")[1]
        return check_reward(reward, make_task("shapes")[1], "shapes")


@pytest.mark.parametrize("name", SCORERS)
def test_faults_of_scorers_are_found(tmp_path, name):
    scores, expected = SCORERS[name]
    found = failed(findings(tmp_path, scores))
    assert expected <= found, name
    # Limits, order, rows of several prompts: what breaks one may break another, nothing else may.
    related = {"argument order", "scale", "rows of conditions"}
    assert found <= expected | related if expected else not found


def test_a_scorer_without_prompts_may_ignore_them(tmp_path):
    assert not failed(findings(tmp_path, SCORERS["no prompt"][0], "PROMPTS = False\n"))


def test_a_matrix_instead_of_its_diagonal_is_named(tmp_path):
    said = next(f.reason for f in findings(tmp_path, MATRIX) if f.status == "fail")
    assert "64 numbers for 8 pictures" in said


def test_the_command_checks_a_served_scorer():
    with serving(COLOURS) as running:
        found = conform("reward", f"http:url={running.url}", ["shapes"])
    assert not failed(found)
    passed = {finding.check for finding in found if finding.status == "pass"}
    assert {"score", "repeatable", "batch size", "argument order", "scale"} <= passed


PAIRING = {"argument order", "rows of conditions"}
"""What fails where pictures meet the prompts of others."""


@pytest.mark.parametrize(
    ("paired", "broken"),
    [("zip(pixels, prompts)", set()), ("zip(pixels, prompts[::-1])", PAIRING)],
)
def test_callables_are_checked_for_their_pairs_too(monkeypatch, paired, broken):
    module = types.ModuleType("paired_reward")
    exec(
        f"def score(pixels, prompts): return [float(x.mean()) + len(t) for x, t in {paired}]",
        module.__dict__,
    )
    module.__file__ = None
    monkeypatch.setitem(sys.modules, "paired_reward", module)
    reward = make_reward("callable:function=paired_reward:score")[1]
    found = failed(check_reward(reward, make_task("shapes")[1], "shapes"))
    assert found - {"parameters"} == broken  # it has no default: it names no function
