"""A page does not say two things of one pair, and says no thing twice."""

from __future__ import annotations

import html
import math
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from reports.data.comparisons import SIGNIFICANT, all_pairs, fair_entries
from reports.data.marks import summary_of
from reports.data.run import load_run
from reports.figures.palette import MethodLook
from reports.html import TEMPLATES, write_page
from reports.tables.headline import headline_grid
from reports.text.answers import told
from reports.text.leaders import BY_ITSELF
from reports.text.replication import replication_notes
from tests.reports.test_fits import fitted_run
from tests.worlds.cheap_run import run
from tests.worlds.made_run import make_run

LOOK = MethodLook("#112233", "o")


@pytest.mark.parametrize("metric", ["frechet", "reward", "judge"])
def test_where_an_interval_and_an_adjusted_p_part_the_sentence_says_why(
    tmp_path: Path, metric: str
) -> None:
    """At three seeds and 28 pairs some intervals leave out 0 and no p of theirs is below 5 %."""
    summary = summary_of(load_run(make_run(tmp_path / "run", tasks=("digits",), troubles=False)))
    found = [
        comparison
        for problem in summary.problems
        for budget in summary.budgets(problem)
        for comparison in all_pairs(
            fair_entries(summary.of(problem, budget), metric), metric
        ).values()
    ]
    kinds: Counter[tuple[bool, bool]] = Counter()
    for one in found:
        gap, sentence = one.difference, told(one, metric)
        apart = abs(gap.mean) > gap.half
        kinds[apart, one.adjusted < SIGNIFICANT] += 1
        assert (BY_ITSELF in sentence) == (apart and one.adjusted >= SIGNIFICANT)
        assert sentence.endswith("clearly different.") == (one.adjusted < SIGNIFICANT)
        assert not math.isfinite(gap.half) or apart or not one.clear
    assert kinds[False, True] == 0
    assert metric != "frechet" or min(kinds[True, True], kinds[True, False]) > 0, kinds


def test_the_page_and_its_script_say_it_in_the_same_words() -> None:
    script = (TEMPLATES / "scripts" / "answer.js").read_text(encoding="utf-8")
    assert f'"{BY_ITSELF}"' in script


def test_two_seeds_of_a_real_run_agree_with_themselves(tmp_path: Path) -> None:
    store, _ = run(tmp_path, methods=["prior:steps=2", "sir:candidates=4,steps=4"], n=32)
    text = write_page(store.folder).read_text(encoding="utf-8")
    for gap, half, rest in re.findall(
        r"less <code>[^<]*</code> in [^:<]*: [+−]?([\d.,]+) ± ([\d.,]+),([^<]*)", text
    ):
        apart = float(gap.replace(",", "")) > float(half.replace(",", ""))
        assert apart == ("clearly different" in rest or BY_ITSELF in rest)


def test_notes_of_a_table_repeat_no_sentence(tmp_path: Path) -> None:
    """Reasons that several metrics share, and methods that share a reason, stand in one note."""
    folder = make_run(tmp_path / "run")
    summary = summary_of(load_run(folder))
    sharp = next(p for p in summary.problems if "template" in p.reward)
    looks = {e.method: LOOK for e in summary.entries}
    notes = headline_grid(summary, sharp, looks).notes
    (refused,) = [note for note in notes if "effective real digits" in note]
    assert refused.startswith("`frechet` and `mmd2-features` (–): only 143")
    for listed in re.findall(
        r'<ul class="notes">(.*?)</ul>', write_page(folder).read_text("utf-8"), re.DOTALL
    ):
        items = re.findall(r"<li>(.*?)</li>", html.unescape(listed), re.DOTALL)
        sentences = Counter(s for item in items for s in item.split("; ") if len(s) > 60)
        assert max(sentences.values(), default=1) == 1, sentences.most_common(1)


def test_methods_that_share_a_fit_are_named_in_one_note(tmp_path: Path) -> None:
    folder = fitted_run(tmp_path / "one", 1)
    entries = [e for e in summary_of(load_run(folder)).entries if e.untested_fit]
    doubled = [*entries, *(replace(e, method="itm") for e in entries)]
    (note,) = [n for n in replication_notes(doubled) if "fit_seed" in n]
    assert note.startswith("`mfm-ft` and `itm`: their 3 sampling seeds share one fit each, so")
