"""The picture of the first screen: reward against distance to the law, budgets as paths.

Drawn as plain SVG whose lines and letters take the page's colours, so that it follows light and
dark, stays small, and reads at the width of a phone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from reports.data.statistics import MeanInterval
from reports.data.summary import Entry, LawReward, ProblemKey, Summary
from reports.figures.curves import window
from reports.figures.palette import MethodLooks
from reports.text.labels import budget_label
from reports.text.numbers import short

WIDTH, HEIGHT = 500, 400
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 16, 44
LABELLED = 6
LETTER, LINE = 7.2, 13
"""Width of a letter of a label and distance of two lines, at the size that phones have."""


@dataclass(frozen=True)
class Scale:
    """From values to places, linear or logarithmic; beyond its ends a value is drawn at the end."""

    low: float
    high: float
    start: float
    end: float
    log: bool

    def __call__(self, value: float) -> float:
        low, high, x = (math.log(v) for v in (self.low, self.high, max(value, self.low))) if (
            self.log
        ) else (self.low, self.high, value)  # fmt: skip
        share = (x - low) / (high - low) if high > low else 0.5
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Three to seven round values."""
        if self.log:
            steps = [a * 10.0**k for k in range(-9, 10) for a in (1, 2, 5)]
            found = [s for s in steps if self.low <= s <= self.high]
            return (
                found if len(found) < 7 else [s for s in found if f"{s:e}"[0] == "1"] or found[::3]
            )
        span = self.high - self.low
        raw = span / 5 if span > 0 else 1.0
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(a * power for a in (1, 2, 5, 10) if a * power >= raw)
        first = math.ceil(self.low / step)
        return [k * step for k in range(first, math.floor(self.high / step) + 1)]


def answer_figure(summary: Summary, problem: ProblemKey, looks: MethodLooks) -> str:
    """The SVG of a problem; "" where no row has both a reward and a distance."""
    distance = summary.distance(problem)
    if distance is None:
        return ""
    both = ("reward", distance)
    entries = [e for e in summary.of(problem) if all(e.estimate(m).known for m in both)]
    if len(entries) < 2:
        return ""
    x, y = _scales(entries, distance, summary.laws.get(problem))
    law = summary.laws.get(problem)
    parts = [
        _axes(x, y, distance),
        _law_line(y, law if law is not None and law.known else None),
        *(_path([e for e in entries if e.method == m], distance, x, y, looks[m].colour)
          for m in dict.fromkeys(e.method for e in entries)),
        _names(entries, distance, x, y),
    ]  # fmt: skip
    alt = f"Reward against {distance} of {problem.title}; the values are in the headline table"
    return (
        f'<svg role="img" class="answer" viewBox="0 0 {WIDTH} {HEIGHT}" aria-label="{escape(alt)}">'
        + "".join(parts)
        + "</svg>"
    )


def _scales(entries: list[Entry], distance: str, law: LawReward | None) -> tuple[Scale, Scale]:
    """Distances are logarithmic where positive and far apart; rewards are in a window."""
    means = [e.estimate(distance).mean for e in entries]
    log = min(means) > 0 and max(means) > 8 * min(means)
    pad = 1.25 if log else 0.06 * (max(means) - min(means)) or 1.0
    ends = (min(means) / pad, max(means) * pad) if log else (min(means) - pad, max(means) + pad)
    low, high = window([MeanInterval(e.estimate("reward").mean) for e in entries])
    if law is not None and law.known:
        low, high = min(low, law.mean), max(high, law.mean)
    room = 0.08 * (high - low) or 1.0
    return (
        Scale(*ends, LEFT, WIDTH - RIGHT, log),
        Scale(low - room, high + room, HEIGHT - BOTTOM, TOP, False),
    )


def _axes(x: Scale, y: Scale, distance: str) -> str:
    down = "".join(
        f'<path class="grid" d="M{x(t):.1f} {TOP}V{HEIGHT - BOTTOM}"/>'
        f'<text x="{x(t):.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{short(t)}</text>'
        for t in x.ticks()
    )
    across = "".join(
        f'<path class="grid" d="M{LEFT} {y(t):.1f}H{WIDTH - RIGHT}"/>'
        f'<text x="{LEFT - 6}" y="{y(t) + 4:.1f}" text-anchor="end">{short(t)}</text>'
        for t in y.ticks()
    )
    return (
        f"{down}{across}"
        f'<text class="title" x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 8}" '
        f'text-anchor="middle">← nearer to the law · {escape(distance)}</text>'
        f'<text class="title" x="12" y="{(HEIGHT - BOTTOM) / 2:.0f}" text-anchor="middle" '
        f'transform="rotate(-90 12 {(HEIGHT - BOTTOM) / 2:.0f})">mean reward</text>'
    )


def _law_line(y: Scale, law: LawReward | None) -> str:
    if law is None:
        return ""
    return (
        f'<path class="law" d="M{LEFT} {y(law.mean):.1f}H{WIDTH - RIGHT}"/>'
        f'<text class="law" x="{WIDTH - RIGHT}" y="{y(law.mean) - 5:.1f}" text-anchor="end">'
        f"the law’s own reward</text>"
    )


def _path(entries: Sequence[Entry], distance: str, x: Scale, y: Scale, colour: str) -> str:
    """From budget to budget: points grow, whiskers are 95 % intervals, marked ones are hollow."""
    places = [(x(e.estimate(distance).mean), y(e.estimate("reward").mean)) for e in entries]
    ends = entries[0].is_untilted or entries[0].is_floor
    line = "" if ends or len(places) < 2 else (
        f'<path d="M{"L".join(f"{a:.1f} {b:.1f}" for a, b in places)}" opacity=".55"/>'
    )  # fmt: skip
    kind = ' class="ends"' if ends else f' style="--c:{colour}"'
    dots = "".join(_dot(e, distance, x, y, k) for k, e in enumerate(entries))
    return f"<g{kind}>{line}{dots}</g>"


def _dot(entry: Entry, distance: str, x: Scale, y: Scale, k: int) -> str:
    a, b = entry.estimate(distance), entry.estimate("reward")
    cx, cy = x(a.mean), y(b.mean)
    whisker = ""
    if math.isfinite(a.half):
        whisker += f"M{x(a.low):.1f} {cy:.1f}H{x(a.high):.1f}"
    if math.isfinite(b.half):
        whisker += f"M{cx:.1f} {y(b.low):.1f}V{y(b.high):.1f}"
    hollow = ' class="marked"' if entry.marks else ""
    marks = "".join(f"; {mark.kind}" for mark in entry.marks)
    tip = (
        f"{entry.method} at {budget_label(entry.budget)}: {distance} {short(a.mean)}, reward "
        f"{short(b.mean)}{marks}"
    )
    lines = f'<path class="whisker" d="{whisker}"/>' if whisker else ""
    return (
        f'{lines}<circle cx="{cx:.1f}" cy="{cy:.1f}" r="{3 + min(k, 3):g}"{hollow}>'
        f"<title>{escape(tip)}</title></circle>"
    )


def _names(entries: list[Entry], distance: str, x: Scale, y: Scale) -> str:
    """The nearest rows without a mark, the highest reward, the base model and the law itself."""
    last = {e.method: e for e in entries}.values()
    ends = [e for e in last if e.is_untilted or e.is_floor]
    rest = sorted(
        (e for e in last if not e.marks and e not in ends and not e.is_closed_form),
        key=lambda e: e.estimate(distance).mean,
    )
    top = max(last, key=lambda e: e.estimate("reward").mean)
    chosen = list(dict.fromkeys([*ends, *rest[:LABELLED], top]))
    taken: list[tuple[float, float, float]] = []
    return "".join(_name(e, distance, x, y, taken) for e in chosen)


def _name(
    entry: Entry, distance: str, x: Scale, y: Scale, taken: list[tuple[float, float, float]]
) -> str:
    """Beside its point where there is room, else above or below it, else not at all."""
    text = {True: "base model"}.get(entry.is_untilted, entry.method)
    text = text if len(text) <= 24 else text[:23] + "…"
    px, py = x(entry.estimate(distance).mean), y(entry.estimate("reward").mean)
    width = LETTER * len(text)
    for dx, dy in ((10, 4), (10, -9), (10, 17), (-10 - width, 4), (10, -22), (10, 30)):
        left, base = px + dx, py + dy
        inside = left >= LEFT and left + width <= WIDTH - 2 and TOP < base < HEIGHT - BOTTOM
        if inside and all(
            abs(base - b) > LINE or left > r or left + width < a for a, r, b in taken
        ):
            taken.append((left, left + width, base))
            return f'<text class="name" x="{left:.1f}" y="{base:.1f}">{escape(text)}</text>'
    return ""


def as_markup(svg: str) -> Markup:
    """For templates: everything variable in it is escaped above."""
    return Markup(svg)


def standalone(svg: str) -> str:
    """The picture as a file of its own, in the colours of a light page."""
    # Of Markup, `replace` would escape what it puts in.
    return (
        str(svg)
        .replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
        .replace(">", f"><style>{STYLE}</style>", 1)
    )


STYLE = (
    "svg{--ink:#22252a}"
    "text{font:11.5px sans-serif;fill:#5d626a}.name,text.law{fill:#22252a}"
    "path{fill:none;stroke:var(--c)}.grid{stroke:#dcdee1;stroke-width:.7}.whisker{opacity:.45}"
    "circle{fill:var(--c);stroke:#fff;stroke-width:.8}"
    "circle.marked{fill:#fff;stroke:var(--c);stroke-width:1.5}"
    ".ends{--c:#22252a}path.law{stroke:#22252a;stroke-dasharray:5 3}"
)
"""As the page's own style sheet has it."""
