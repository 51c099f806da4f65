"""Every objective and parametrisation of a meta flow map, against the exact posterior.

    python -m benchmarks.objectives

trains one map of the paper's mixture per variant, measures one-step draws and writes
results/objectives.json and the table in docs/objectives.md.  Killed and started again it continues:
measured variants are kept, a half-trained one resumes from runs/objectives.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from bench.core.map_posterior import MapPosterior
from bench.core.work import Work
from bench.metrics.world_quality import w2_to_exact
from bench.models.digits import UnconditionalMap
from bench.models.mixture import paper_mixture
from bench.training.recipes import Recipe
from bench.worlds import gmm_paper

ROOT = Path(__file__).parent.parent
RESULTS, PAGE = ROOT / "results" / "objectives.json", ROOT / "docs" / "objectives.md"
BEGIN, END = "<!-- figures: python -m benchmarks.objectives -->", "<!-- end of figures -->"

TIMES = (0.1, 0.3, 0.6, 0.9)
STEPS, BATCH = 6000, 256
"""Half the shipped recipe's steps at a quarter of its batch: an hour for all on one core."""

VARIANTS: dict[str, dict[str, Any]] = {
    "semigroup": {},
    "semigroup, raw": {"parametrisation": "raw"},
    "semigroup, diagonal": {"parametrisation": "diagonal"},
    "eulerian-self": {"consistency": "eulerian-self"},
    "eulerian-teacher": {"consistency": "eulerian-teacher"},
    "eulerian-residual": {"consistency": "eulerian-residual"},
    "mean-flow": {"consistency": "mean-flow"},
    "lagrangian-self": {"consistency": "lagrangian-self"},
    "lagrangian-teacher": {"consistency": "lagrangian-teacher"},
    "semigroup, from data": {"diagonal": "data"},
    "mean-flow, from data": {"diagonal": "data", "consistency": "mean-flow"},
}

Figures = dict[str, Any]


def recipe(name: str) -> Recipe:
    """The recipe of a variant."""
    return replace(gmm_paper.RECIPE, map_steps=STEPS, batch=BATCH, **VARIANTS[name])


FIRST_KEYS = frozenset(
    {"flow_steps", "map_steps", "batch", "map_width", "flow_width", "depth", "context_power",
     "learning_rate", "classifier_steps", "parametrisation", "diagonal", "consistency", "seed"}
)  # fmt: skip
"""Keys of a recipe when fingerprints began; a later one counts where it is not at its default."""


def fingerprint(name: str) -> str:
    """Changes with everything that a variant's recipe says."""
    own = recipe(name)
    later = {f.name for f in fields(own)} - FIRST_KEYS
    unsaid = {f.name for f in fields(own) if f.name in later and getattr(own, f.name) == f.default}
    said = {key: value for key, value in asdict(own).items() if key not in unsaid}
    text = json.dumps(said, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


TIMED = 150
"""Steps of the trial from which the processor's time per step is taken."""


class Clock:
    """Processor milliseconds per step, from the times between reports."""

    def __init__(self) -> None:
        self.last, self.at, self.each = time.process_time(), 0, list[float]()

    def __call__(self, step: int, _: Mapping[str, float]) -> None:
        now = time.process_time()
        self.each.append(1e3 * (now - self.last) / (step - self.at))
        self.last, self.at = now, step


def step_seconds(own: Recipe) -> float:
    """Median over windows: other programs on the machine make single ones unreliable.

    A trial of its own, so that a training that was interrupted has the same figure.
    """
    clock = Clock()
    with TemporaryDirectory() as folder, torch.enable_grad():
        gmm_paper.train(replace(own, map_steps=TIMED), Path(folder), lambda *_: clock)
    return 1e-3 * statistics.median(clock.each)


@torch.no_grad()
def measured(name: str, folder: Path, say: Callable[[str], None]) -> Figures:
    """Train one variant and measure it."""
    own = recipe(name)

    def report(step: int, losses: Mapping[str, float]) -> None:
        if step % 500 == 0:
            say(f"{name} {step}/{own.map_steps} {dict(losses)}")

    with torch.enable_grad():
        net = gmm_paper.train(own, folder / f"{name}-{fingerprint(name)}", lambda *_: report)["map"]
    mixture = paper_mixture(torch.float32)
    samplers = {f"map-{k}": MapPosterior(UnconditionalMap(net.eval()), k) for k in (1, 2)}
    figures = {str(t): w2_to_exact(mixture, samplers, t) for t in TIMES}
    seconds = round(step_seconds(own) * own.map_steps, 1)
    return {"fingerprint": fingerprint(name), "cpu_seconds": seconds, "w2": figures}


def ratio(figures: Figures, t: float, sampler: str = "map-1") -> float:
    """Sliced W2 over its floor."""
    at_t = figures["w2"][str(t)]
    return float(at_t[sampler] / at_t["floor"])


def table(results: Mapping[str, Figures]) -> str:
    """The Markdown table, variants in order."""
    times = " | ".join(f"t = {t:g}" for t in TIMES)
    lines = [
        "| objective | diagonal | parametrisation | map forward / JVP / backward, teacher "
        f"| paper-nfe | CPU s | {times} | worst |",
        "|" + "---|" * (7 + len(TIMES)),
    ]
    lines += [_line(recipe(name), results[name]) for name in VARIANTS if name in results]
    floors = next(iter(results.values()))["w2"]
    shown = ", ".join(f"{floors[str(t)]['floor']:.4f}" for t in TIMES)
    return "\n".join([*lines, "", f"Floors (exact draws against exact draws): {shown}."])


def _line(own: Recipe, figures: Figures) -> str:
    work: Work = own.objective.work
    rows = work.map
    ratios = [ratio(figures, t) for t in TIMES]
    cells = [
        own.consistency,
        own.diagonal,
        own.parametrisation,
        f"{rows.forward:g} / {rows.jvp:g} / {rows.backward:g}, {work.flow.forward:g}",
        f"{work.cost('paper-nfe'):g}",
        f"{figures['cpu_seconds']:.0f}",
        *(f"{r:.2f}" for r in ratios),
        f"{max(ratios):.2f}",
    ]
    return "| " + " | ".join(cells) + " |"


def write(results: Mapping[str, Figures]) -> None:
    """Figures to the JSON file, the table between its marks on the page."""
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{table(results)}\n{END}{after}", encoding="utf-8")


def kept() -> dict[str, Figures]:
    """Measured variants whose recipe is still the same."""
    if not RESULTS.is_file():
        return {}
    found: dict[str, Figures] = json.loads(RESULTS.read_text(encoding="utf-8"))
    return {n: f for n, f in found.items() if n in VARIANTS and f["fingerprint"] == fingerprint(n)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--work", type=Path, default=Path("runs/objectives"), help="checkpoints")
    parser.add_argument("--only", choices=VARIANTS, nargs="*", default=list(VARIANTS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    results = kept()
    for name in given.only:
        if name not in results:
            results[name] = measured(name, given.work, print)
            write(results)
    print(table(results))


if __name__ == "__main__":
    main()
