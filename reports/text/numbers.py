"""Numbers as text: few digits, aligned within a column, and a dash where there is none."""

from __future__ import annotations

import math
from collections.abc import Iterable

from reports.data.statistics import MeanInterval

DASH = "–"
MINUS = "−"


def decimals(estimates: Iterable[MeanInterval]) -> int:
    """Decimals for a column: two digits of the typical interval, else three of the value."""
    known = [e for e in estimates if e.known]
    halves = sorted(e.half for e in known if 0 < e.half < math.inf)
    sizes = sorted(abs(e.mean) for e in known if e.mean and math.isfinite(e.mean))
    if not halves and not sizes:
        return 2
    size, digits = (halves[len(halves) // 2], 2) if halves else (sizes[len(sizes) // 2], 3)
    return min(max(digits - 1 - math.floor(math.log10(size)), 0), 5)


def fixed(value: float, places: int) -> str:
    """`value` with that many decimals and a true minus sign."""
    if not math.isfinite(value):
        return DASH
    text = f"{value:,.{places}f}"
    negative = text.startswith("-") and any(c in "123456789" for c in text)
    return (MINUS if negative else "") + text.lstrip("-")


def plus_minus(estimate: MeanInterval, places: int) -> str:
    """`1.23 ± 0.04`, without the second part where no interval is known."""
    text = fixed(estimate.mean, places)
    return f"{text} ± {fixed(estimate.half, places)}" if math.isfinite(estimate.half) else text


def short(value: float) -> str:
    """Three significant digits, thousands separated: 0.0123, 4.2, 1,250."""
    if not math.isfinite(value):
        return DASH
    if value == 0:
        return "0"
    places = max(2 - math.floor(math.log10(abs(value))), 0)
    text = fixed(value, min(places, 6))
    return text.rstrip("0").rstrip(".") if "." in text else text


def rows(value: float) -> str:
    """Rows per sample: whole where they are whole, nothing where there are none."""
    if not math.isfinite(value):
        return DASH
    return "·" if value == 0 else fixed(value, 0 if abs(value - round(value)) < 1e-6 else 2)


def percent(value: float) -> str:
    """A share as whole percent."""
    return f"{value:.0%}".replace("%", "\u2009%") if math.isfinite(value) else DASH


def signed_percent(value: float) -> str:
    """A deviation in percent with one decimal and its sign."""
    if not math.isfinite(value):
        return DASH
    text = fixed(100 * value, 1)
    plus = "+" if value > 0 and text.strip("0.") else ""
    return f"{plus}{text}\u2009%"


def seconds(value: float) -> str:
    """A duration in the unit that suits it."""
    for limit, factor, unit in ((1.0, 1e3, "ms"), (120.0, 1.0, "s"), (7200.0, 1 / 60, "min")):
        if value < limit:
            return f"{short(value * factor)}\u2009{unit}"
    return f"{short(value / 3600)}\u2009h" if math.isfinite(value) else DASH


def size(value: float) -> str:
    """Bytes in binary units."""
    if not math.isfinite(value) or value <= 0:
        return DASH
    power = min(int(math.log2(value) // 10), 4)
    return f"{short(value / 1024**power)}\u2009{('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"


def scientific(value: float) -> str:
    """Large counts: 1.2e+09 as 1.2 × 10⁹."""
    if not math.isfinite(value) or value <= 0:
        return DASH
    exponent = math.floor(math.log10(value))
    if exponent < 6:
        return short(value)
    raised = str(exponent).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{value / 10**exponent:.1f} × 10{raised}"


def probability(value: float) -> str:
    """A p value."""
    if not math.isfinite(value):
        return DASH
    return "< 0.001" if value < 0.001 else fixed(value, 3)
