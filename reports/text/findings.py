"""What the numbers say, in words: every sentence is computed, none is assumed."""

from __future__ import annotations

import math

import numpy as np

from reports.data.comparisons import floor_ratio
from reports.data.statistics import difference
from reports.data.summary import Entry, ProblemKey, Summary
from reports.text.labels import budget_label, listed
from reports.text.leaders import leader, more_compute
from reports.text.numbers import decimals, fixed, plus_minus, short
from reports.text.robustness import other_units

AT_THE_FLOOR = 1.5
NEAR = 2.0
OFF = 5.0
"""Multiples of the floor up to which a method counts as exact and as close, and above which it
does not sample the tilted law."""

Ratios = list[tuple[Entry, float]]
"""Entries with their distance in multiples of the floor."""


def findings(summary: Summary, problem: ProblemKey) -> list[str]:
    """Sentences about a problem: its distances at the largest budget, then who leads at each."""
    budgets = [b for b in summary.budgets(problem) if _any(summary.of(problem, b))]
    if not budgets:
        return ["No cell of this problem has finished yet."]
    same = [b for b in budgets if b.partition("=")[0] == budgets[-1].partition("=")[0]]
    distance, floored = summary.distance(problem), summary.floored(problem)
    unread = distance if distance != floored else None
    leads = [leader(summary, problem, b, m) for b in budgets for m in ("reward", unread) if m]
    sentences = [
        *(_floor(summary, problem, same[-1], floored) if floored else []),
        *(_caveats(summary, problem, same, floored) if floored else []),
        *leads,
        _beyond(summary, problem, same[-1], unread) if unread else "",
        more_compute(summary, problem, same),
        other_units(summary, problem, "reward") if summary.has(problem, "reward") else "",
    ]
    return [sentence for sentence in sentences if sentence]


def _any(entries: list[Entry]) -> bool:
    return any(len(entry.done) for entry in entries)


def _floor(summary: Summary, problem: ProblemKey, budget: str, metric: str) -> list[str]:
    """Where each method stands in multiples of the floor."""
    exact = summary.exact(problem, budget)
    if exact is None or not exact.estimate(metric).known:
        return []
    entries = [e for e in summary.of(problem, budget) if not e.is_floor]
    known = [(e, r) for e in entries if math.isfinite(r := floor_ratio(summary, e, metric))]
    own = exact.estimate(metric)
    intro = (
        f"At `{budget_label(budget)}` independent draws of the tilted law itself "
        f"(`{exact.method}`) score a {metric} of {plus_minus(own, decimals([own]))} at this sample "
        "size: the floor."
    )
    return [" ".join([intro, *_close(known), *_between(known)]), *_climbers(known, exact)]


def _close(known: Ratios) -> list[str]:
    found = [(e, r) for e, r in known if r <= NEAR and not e.is_untilted]
    if not found:
        return ["No method comes within twice the floor."]
    very = all(r <= AT_THE_FLOOR for _, r in found)
    within = "one and a half times" if very else "twice"
    quality = "hardly to be told from the law itself" if very else "close to the law asked for"
    stays = "stay" if len(found) > 1 else "stays"
    return [f"{_multiples(found)} {stays} within {within} the floor: {quality}."]


def _between(known: Ratios) -> list[str]:
    """Methods with a visible bias, and the prior as the yardstick."""
    untilted = [r for e, r in known if e.is_untilted]
    found = [(e, r) for e, r in known if NEAR < r <= OFF and not e.is_untilted]
    better = [(e, r) for e, r in found if not untilted or r < untilted[0]]
    worse = [pair for pair in found if pair not in better]
    parts = []
    if better:
        lies = "lie" if len(better) > 1 else "lies"
        parts.append(f"{_multiples(better)} {lies} in between: tilted, with a visible bias.")
    if worse:
        brings = "bring" if len(worse) > 1 else "brings"
        parts.append(f"{_multiples(worse)} {brings} the samples no closer to it than the prior.")
    if untilted:
        parts.append(f"The untilted base model is at {untilted[0]:.1f} times the floor.")
    return parts


def _climbers(known: Ratios, exact: Entry) -> list[str]:
    """Methods above five times the floor, by what they did with the reward instead."""
    kinds: dict[str, Ratios] = {}
    for entry, ratio in known:
        if ratio > OFF and not entry.is_untilted:
            kinds.setdefault(_instead(entry, exact), []).append((entry, ratio))
    return [_off(kind, found, exact) for kind, found in kinds.items()]


def _instead(entry: Entry, exact: Entry) -> str:
    """How the reward compares with that of the law itself."""
    gap = difference(entry.estimate("reward"), exact.estimate("reward"), as_drawn=True)
    if not math.isfinite(gap.half) or abs(gap.mean) <= gap.half:
        return "same"
    return "climb" if gap.mean > 0 else "short"


def _off(kind: str, found: Ratios, exact: Entry) -> str:
    found = sorted(found, key=lambda pair: pair[1])  # as `_multiples` names them
    values = [e.estimate("reward") for e, _ in found]
    law = exact.estimate("reward")
    places = decimals([*values, law])
    means = listed([fixed(value.mean, places) for value in values])
    rewards = f"(mean reward {means}, where the law itself has {fixed(law.mean, places)})"
    many = len(found) > 1
    does, it = ("do", "they") if many else ("does", "it")
    says = {
        "climb": f"{it} {'climb' if many else 'climbs'} the reward {rewards}. "
        "That is a different goal from the one asked for",
        "short": f"{it} {'fall' if many else 'falls'} short of its reward, too {rewards}",
        "same": f"the mean reward alone does not show it {rewards}",
    }
    return f"{_multiples(found)} {does} not sample the tilted law: {says[kind]}."


def _caveats(summary: Summary, problem: ProblemKey, budgets: list[str], metric: str) -> list[str]:
    """Why methods are off that say so themselves, and whether compute mends it."""
    names = dict.fromkeys(e.name for e in summary.of(problem) if e.about.caveat)
    return [_caveat(summary, problem, name, budgets, metric) for name in names]


def _caveat(
    summary: Summary, problem: ProblemKey, name: str, budgets: list[str], metric: str
) -> str:
    found = [e for b in budgets if (e := summary.find(problem, name, b))]
    found = [e for e in found if e.estimate(metric).known]
    if not found or not floor_ratio(summary, found[-1], metric) > NEAR:
        return ""
    last = found[-1]
    return f"Why `{last.method}` is off: {last.about.caveat}{_mended(found, metric)}."


def _mended(found: list[Entry], metric: str) -> str:
    if len(found) < 2:
        return ""
    first, last = found[0].estimate(metric), found[-1].estimate(metric)
    places = decimals([first, last])
    return (
        f": from `{found[0].budget}` to `{found[-1].budget}` its distance goes from "
        f"{plus_minus(first, places)} to {plus_minus(last, places)}"
    )


def _beyond(summary: Summary, problem: ProblemKey, budget: str, metric: str) -> str:
    """Without a floor the prior is the yardstick: who went further from the law than that?"""
    prior = summary.untilted(problem, budget)
    if prior is None or not prior.estimate(metric).known:
        return ""
    rest = [e for e in summary.of(problem, budget) if e is not prior and e.estimate(metric).known]
    gaps = [
        (e, difference(e.estimate(metric), prior.estimate(metric), as_drawn=True)) for e in rest
    ]
    found = [e for e, gap in gaps if gap.mean > np.nan_to_num(gap.half) and _rose(e, prior)]
    if not found:
        return ""
    ends, it = ("end", "they climb") if len(found) > 1 else ("ends", "it climbs")
    values = [f"`{e.method}` ({short(e.estimate(metric).mean)})" for e in found]
    return (
        f"At `{budget_label(budget)}`, {listed(values)} {ends} further from the tilted law "
        f"({metric}) than the untilted base model ({short(prior.estimate(metric).mean)}): "
        f"{it} the reward instead of sampling the law."
    )


def _rose(entry: Entry, prior: Entry) -> bool:
    gap = difference(entry.estimate("reward"), prior.estimate("reward"), as_drawn=True)
    return gap.mean > float(np.nan_to_num(gap.half))


def _multiples(found: Ratios) -> str:
    return listed([f"`{e.method}` ({r:.1f}×)" for e, r in sorted(found, key=lambda pair: pair[1])])
