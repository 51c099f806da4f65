"""What the numbers say, in words: every sentence is computed, none is assumed."""

from __future__ import annotations

import math

import numpy as np

from reports.data.comparisons import floor_ratio
from reports.data.statistics import difference
from reports.data.summary import Entry, Problem, Summary
from reports.text.leaders import listed, more_compute, standing
from reports.text.numbers import decimals, fixed, plus_minus, short
from reports.text.words import RATIO, named

AT_THE_FLOOR = 1.5
NEAR = 2.0
OFF = 5.0
"""Multiples of the floor up to which a method counts as exact and as close, and above which it
does not sample the tilted law."""

Ratios = list[tuple[Entry, float]]
"""Entries with their distance in multiples of the floor."""


def read(summary: Summary, problem: Problem) -> list[str]:
    """Sentences about a problem: its distances at the largest budget, then who leads at each."""
    budgets = [b for b in summary.budgets(problem) if _any(summary.of(problem, b))]
    if not budgets:
        return ["No cell of this problem has finished yet."]
    same = [b for b in budgets if b.partition("=")[0] == budgets[-1].partition("=")[0]]
    metrics = ["reward", summary.distance(problem) or RATIO]
    leads = [standing(summary, problem, b, m) for b in budgets for m in metrics if m != RATIO]
    sentences = [*_floor(summary, problem, same[-1]), _tweedie(summary, problem, same), *leads]
    sentences.append(_beyond(summary, problem, same[-1], metrics[1]))
    return [s for s in [*sentences, more_compute(summary, problem, same)] if s]


def _any(entries: list[Entry]) -> bool:
    return any(len(entry.done) for entry in entries)


def _floor(summary: Summary, problem: Problem, budget: str) -> list[str]:
    """Where each method stands in multiples of the floor."""
    exact = summary.exact(problem, budget)
    if exact is None or not exact.estimate(RATIO).known:
        return []
    entries = [e for e in summary.of(problem, budget) if e.name != "exact"]
    known = [(e, r) for e in entries if math.isfinite(r := floor_ratio(summary, e, RATIO))]
    own = exact.estimate(RATIO)
    intro = (
        f"At `{named(budget)}` independent draws of the tilted law itself (`{exact.method}`) score "
        f"a {RATIO} of {plus_minus(own, decimals([own]))} at this sample size: the floor."
    )
    return [" ".join([intro, *_close(known), *_between(known)]), *_climbers(known, exact)]


def _close(known: Ratios) -> list[str]:
    found = [(e, r) for e, r in known if r <= NEAR and e.name != "prior"]
    if not found:
        return ["No method comes within twice the floor."]
    very = all(r <= AT_THE_FLOOR for _, r in found)
    within = "one and a half times" if very else "twice"
    quality = "hardly to be told from the law itself" if very else "close to the law asked for"
    stays = "stay" if len(found) > 1 else "stays"
    return [f"{_multiples(found)} {stays} within {within} the floor: {quality}."]


def _between(known: Ratios) -> list[str]:
    """Methods with a visible bias, and the prior as the yardstick."""
    untilted = [r for e, r in known if e.name == "prior"]
    found = [(e, r) for e, r in known if NEAR < r <= OFF and e.name != "prior"]
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
        if ratio > OFF and entry.name != "prior":
            kinds.setdefault(_instead(entry, exact), []).append((entry, ratio))
    return [_off(kind, found, exact) for kind, found in kinds.items()]


def _instead(entry: Entry, exact: Entry) -> str:
    """How the reward compares with that of the law itself."""
    gap = difference(entry.estimate("reward"), exact.estimate("reward"))
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


def _tweedie(summary: Summary, problem: Problem, budgets: list[str]) -> str:
    """Why DPS is off, and whether compute mends it."""
    found = [e for b in budgets if (e := summary.find(problem, "dps", b))]
    found = [e for e in found if e.estimate(RATIO).known]
    if not found or not floor_ratio(summary, found[-1], RATIO) > NEAR:
        return ""
    return (
        f"Why `{found[-1].method}` is off: it puts the Tweedie point E[x₁ | xₜ], a single average, "
        "in the place of the posterior, and so takes r(E[x₁ | xₜ]) for the value log E[exp r(x₁) | "
        "xₜ]. For a reward that is not linear this is biased, regardless of compute"
        f"{_mended(found)}."
    )


def _mended(found: list[Entry]) -> str:
    if len(found) < 2:
        return ""
    first, last = found[0].estimate(RATIO), found[-1].estimate(RATIO)
    places = decimals([first, last])
    return (
        f": from `{found[0].budget}` to `{found[-1].budget}` its distance goes from "
        f"{plus_minus(first, places)} to {plus_minus(last, places)}"
    )


def _beyond(summary: Summary, problem: Problem, budget: str, metric: str) -> str:
    """Without a floor the prior is the yardstick: who went further from the law than that?"""
    prior = summary.find(problem, "prior", budget)
    if metric == RATIO or prior is None or not prior.estimate(metric).known:
        return ""
    rest = [e for e in summary.of(problem, budget) if e is not prior and e.estimate(metric).known]
    gaps = [(e, difference(e.estimate(metric), prior.estimate(metric))) for e in rest]
    found = [e for e, gap in gaps if gap.mean > np.nan_to_num(gap.half) and _rose(e, prior)]
    if not found:
        return ""
    ends, it = ("end", "they climb") if len(found) > 1 else ("ends", "it climbs")
    values = [f"`{e.method}` ({short(e.estimate(metric).mean)})" for e in found]
    return (
        f"At `{named(budget)}`, {listed(values)} {ends} further from the tilted law ({metric}) "
        f"than the untilted base model ({short(prior.estimate(metric).mean)}): "
        f"{it} the reward instead of sampling the law."
    )


def _rose(entry: Entry, prior: Entry) -> bool:
    gap = difference(entry.estimate("reward"), prior.estimate("reward"))
    return gap.mean > float(np.nan_to_num(gap.half))


def _multiples(found: Ratios) -> str:
    return listed([f"`{e.method}` ({r:.1f}×)" for e, r in sorted(found, key=lambda pair: pair[1])])
