"""Who leads, by how much, and what more compute buys, in words."""

from __future__ import annotations

import math

from reports.data.comparisons import (
    Comparison,
    best_baseline,
    best_entry,
    compare_pairs,
    compared_with,
    fair_entries,
    leading,
    unmarked,
    winner,
)
from reports.data.ranking import probability_best
from reports.data.summary import Entry, ProblemKey, Summary
from reports.text.labels import budget_label, listed
from reports.text.numbers import decimals, plus_minus, probability, short
from reports.text.robustness import left_out

NAMED = 4
"""Rows that a sentence names before it counts the rest."""


def leader(summary: Summary, problem: ProblemKey, budget: str, metric: str) -> str:
    """Who is best at a budget, and whether the seeds support saying so."""
    entries = list(fair_entries(summary.of(problem, budget), metric))
    direction = summary.info[metric].direction if metric in summary.info else "none"
    top = leading(entries, metric, direction)
    if top is None or len(unmarked(entries)) < 2:
        return ""
    value = top.estimate(metric)
    judged = _judged(top, entries, summary.judge(problem)) if metric == "reward" else ""
    most = "highest" if direction == "higher" else "lowest"
    return (
        f"At `{budget_label(budget)}` the {most} {metric}{_of_the_unmarked(entries)} is that of "
        f"`{top.method}`, "
        f"{plus_minus(value, decimals([value]))}{_chance(top, entries, metric, direction)}, "
        f"{_lead(top, entries, metric, direction)}{_cost(top, entries, metric, direction)}{judged}."
        f"{left_out(entries, metric, direction)}"
    )


def _of_the_unmarked(entries: list[Entry]) -> str:
    marked = len(entries) - len(unmarked(entries))
    rows = "row" if marked == 1 else "rows"
    return f" (but for {marked} {rows} with a mark)" if marked else ""


def highest(summary: Summary, problem: ProblemKey, budget: str) -> str:
    """Whose reward is the highest, and that it is none to be chosen for where it is marked."""
    entries = fair_entries(summary.of(problem, budget), "reward")
    top = best_entry(entries, "reward", "higher")
    if top is None or not top.marks:
        return ""
    value = top.estimate("reward")
    kinds = listed([f"{mark.kind} ({mark.text})" for mark in top.marks])
    return (
        f"The highest reward there, {plus_minus(value, decimals([value]))}, is that of "
        f"`{top.method}`, which is marked: {kinds}."
    )


BY_ITSELF = "this pair alone would differ, but of so many pairs one may do so by luck"
"""Where an interval leaves out 0 and the p that is adjusted over all pairs does not follow."""


def _chance(top: Entry, entries: list[Entry], metric: str, direction: str) -> str:
    """How probable it is that the highest of so many is the best: the highest is too high."""
    chance = probability_best(top, unmarked(entries), metric, direction)
    if math.isnan(chance):
        return ""
    percentage = f"{min(max(chance, 0.01), 0.99):.0%}".replace("%", "\u2009%")
    beyond = "over " if chance > 0.99 else ""
    return f" (the best with probability {beyond}{percentage})"


def _lead(top: Entry, entries: list[Entry], metric: str, direction: str) -> str:
    """How clear the lead is, against everybody and against the best baseline."""
    others = [e for e in unmarked(entries) if e is not top]
    if winner(entries, metric, direction) is top:
        return "clearly ahead of every other method" + (
            " without a mark" if len(others) + 1 < len(entries) else ""
        )
    rivals = compared_with(top, others, entries, metric)
    if not any(math.isfinite(c.difference.p) for c in rivals):
        return "though without intervals no lead can be tested"
    text = f"which these seeds cannot tell from {_named(rivals, metric, direction)}"
    if any(c.clear_alone for c in rivals):
        text += " once all pairs are allowed for"
    baseline = best_baseline(metric, direction)(others)
    found = next((c for c in rivals if c.other is baseline and c.clear), None)
    if found is None:
        return text
    p = probability(found.adjusted)
    equals = p if p.startswith("<") else f"= {p}"
    return f"{text}, but clearly ahead of the best baseline `{found.other.method}` (p {equals})"


def _named(rivals: list[Comparison], metric: str, direction: str) -> str:
    """Those that are not clearly behind, the nearest first."""
    sign = -1 if direction == "higher" else 1
    unclear = [c.other for c in rivals if not c.clear]
    unclear.sort(key=lambda e: sign * e.estimate(metric).mean)
    shown = [f"`{e.method}`" for e in unclear[:NAMED]]
    more = len(unclear) - len(shown)
    return listed([*shown, *([f"{more} more"] if more > 1 else [f"`{unclear[-1].method}`"] * more)])


def _cost(top: Entry, entries: list[Entry], metric: str, direction: str) -> str:
    """How much less or more the leader spends than the best baseline, where that differs."""
    others = [e for e in unmarked(entries) if e is not top]
    baseline = best_baseline(metric, direction)(others)
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
    by_judge = best_entry(unmarked(entries), judge, "higher")
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
