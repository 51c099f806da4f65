"""Who leads, by how much, and what more compute buys, in words."""

from __future__ import annotations

import math

from reports.data.comparisons import (
    best_baseline,
    best_entry,
    compare_pairs,
    compared_with,
    winner,
)
from reports.data.ranking import probability_best
from reports.data.summary import Entry, ProblemKey, Summary
from reports.text.labels import budget_label, listed
from reports.text.numbers import decimals, plus_minus, probability, short
from reports.text.robustness import left_out


def leader(summary: Summary, problem: ProblemKey, budget: str, metric: str) -> str:
    """Who is best at a budget, and whether the seeds support saying so."""
    entries = [e for e in summary.of(problem, budget) if not e.is_closed_form]
    entries = [e for e in entries if e.estimate(metric).known]
    direction = summary.info[metric].direction if metric in summary.info else "none"
    top = best_entry(entries, metric, direction)
    if top is None or len(entries) < 2:
        return ""
    value = top.estimate(metric)
    judged = _judged(top, entries, summary.judge(problem)) if metric == "reward" else ""
    most = "highest" if direction == "higher" else "lowest"
    return (
        f"At `{budget_label(budget)}` the {most} {metric} is that of `{top.method}`, "
        f"{plus_minus(value, decimals([value]))}{_chance(top, entries, metric, direction)}, "
        f"{_lead(top, entries, metric, direction)}{_cost(top, entries, metric, direction)}{judged}."
        f"{left_out(entries, metric, direction)}"
    )


def _chance(top: Entry, entries: list[Entry], metric: str, direction: str) -> str:
    """How probable it is that the highest of so many is the best: the highest is too high."""
    chance = probability_best(top, entries, metric, direction)
    if math.isnan(chance):
        return ""
    percentage = f"{min(max(chance, 0.01), 0.99):.0%}".replace("%", "\u2009%")
    beyond = "over " if chance > 0.99 else ""
    return f" (the best with probability {beyond}{percentage})"


def _lead(top: Entry, entries: list[Entry], metric: str, direction: str) -> str:
    """How clear the lead is, against everybody and against the best baseline."""
    if winner(entries, metric, direction) is top:
        return "clearly ahead of every other method"
    rivals = compared_with(top, [e for e in entries if e is not top], entries, metric)
    if not any(math.isfinite(c.difference.p) for c in rivals):
        return "though without intervals no lead can be tested"
    unclear = [c.other for c in rivals if not c.clear]
    text = f"which these seeds cannot tell from {listed([f'`{e.method}`' for e in unclear])}"
    baseline = best_baseline(metric, direction)([e for e in entries if e is not top])
    found = next((c for c in rivals if c.other is baseline and c.clear), None)
    if found is None:
        return text
    p = probability(found.adjusted)
    equals = p if p.startswith("<") else f"= {p}"
    return f"{text}, but clearly ahead of the best baseline `{found.other.method}` (p {equals})"


def _cost(top: Entry, entries: list[Entry], metric: str, direction: str) -> str:
    """How much less or more the leader spends than the best baseline, where that differs."""
    baseline = best_baseline(metric, direction)([e for e in entries if e is not top])
    ratio = baseline.mean("paper_nfe") / top.mean("paper_nfe") if baseline else math.nan
    if baseline is None or not ratio > 0 or 2 / 3 < ratio < 1.5:
        return ""
    if ratio > 1:
        share = f"{short(ratio)} times fewer paper-nfe than"
    else:
        share = f"{short(1 / ratio)} times the paper-nfe of"
    return f", with {share} the best baseline `{baseline.method}`"


def _judged(top: Entry, entries: list[Entry], judge: str) -> str:
    """Whether the held-out judge agrees."""
    by_judge = best_entry(entries, judge, "higher")
    if by_judge is None or not top.estimate(judge).known:
        return ""
    if by_judge is top:
        return "; the held-out judge, which nobody optimises, puts it first too"
    if any(c.clear for c in compared_with(by_judge, [top], entries, judge)):
        return f"; the held-out judge clearly prefers `{by_judge.method}`"
    return f"; the held-out judge puts `{by_judge.method}` first, but not clearly"


def more_compute(summary: Summary, problem: ProblemKey, budgets: list[str]) -> str:
    """Methods whose reward the largest budget did not clearly raise over the smallest."""
    if len(budgets) < 2:
        return ""
    first, last = ({e.method: e for e in summary.of(problem, b)} for b in (budgets[0], budgets[-1]))
    both = [m for m, e in first.items() if m in last and e.is_contestant]
    found = compare_pairs([(last[m], first[m]) for m in both], "reward")
    found = [c for c in found if math.isfinite(c.difference.p)]
    flat = [f"`{c.entry.method}`" for c in found if not (c.clear and c.difference.mean > 0)]
    if not flat:
        return ""
    rest = "it does for the others" if len(flat) < len(found) else "that is all of them"
    return (
        f"Between `{budgets[0]}` and `{budgets[-1]}`, more compute does not clearly raise the "
        f"reward of {listed(flat)}; {rest}."
    )


def closed_form_note(summary: Summary) -> str:
    """Who does not compete, of the methods that there are."""
    names = [
        f"`{name}`" for name in dict.fromkeys(e.name for e in summary.entries if e.is_closed_form)
    ]
    if not names:
        return ""
    know, do = ("know", "do") if len(names) > 1 else ("knows", "does")
    return f"{listed(names)}, which {know} the closed form, {do} not compete"
