"""What the words and the metrics of the page mean."""

from __future__ import annotations

from bench.core.units import UNITS
from reports.chapter import Chapter, Content, Material
from reports.data.comparisons import SIGNIFICANT
from reports.data.marks import RULES
from reports.data.summary import MetricInfo


def content(material: Material) -> Content:
    """Of the metrics and baselines that this run has."""
    info = material.summary.info
    ranked = sorted(info, key=lambda metric: (info[metric].rank, metric))
    baselines = dict.fromkeys(e.name for e in material.summary.entries if e.is_baseline)
    return {
        "distances": [(m, info[m].summary) for m in ranked if info[m].measures == "distance"],
        "units": [(unit.name, unit.summary) for unit in UNITS.values()],
        "significant": SIGNIFICANT,
        "rules": list(RULES.items()),
        "baselines": list(baselines),
        "metrics": [(m, _described(info[m])) for m in ranked],
    }


def _described(metric: MetricInfo) -> str:
    """Summary, which way is better, and what measured it."""
    made = f"measured by {metric.implementation}, version {metric.version}"
    return "; ".join(filter(None, [metric.summary, WAYS.get(metric.direction, ""), made]))


WAYS = {"higher": "higher is better", "lower": "lower is better"}

CHAPTER = Chapter(115, "Terms", content)
