"""The three figures of docs/gibbs.md, from the exact mixture and from runs.

    bench run moves                       the runs behind the second figure
    python -m benchmarks.moves            all three, to docs/figures; runs what the third one needs

First: one round of `gibbs` on the paper's mixture, with its own context and with a shifted one.
Second: distance to the tilted law against the size of the tilt, in multiples of the floor.
Third: what a learned map adds with every round, against exact draws and beside the pool alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from torch import Tensor

from bench.core.noise import NoiseSource
from bench.core.params import parse_name
from bench.core.paths import Linear
from bench.core.shifted import Tilt
from bench.models.mixture import paper_mixture
from bench.models.mixture_roles import MixturePosterior
from bench.plan.suite import build_suite
from bench.record.store import Store
from bench.runner.executors.inline import Inline
from bench.runner.run import run_suite
from methods.particles.gibbs import GibbsParams
from reports.figures.palette import MethodLooks, looks
from reports.figures.svg import panels, styled
from sweeps.driver import Silent

FIGURES = Path("docs/figures")
NATS = {
    "gmm:dimension=2,map_steps=8": [0.6122, 1.545, 3.492, 6.364],
    "gmm:dimension=16,map_steps=8": [0.9997, 1.811, 3.640, 6.534],
    "gmm:dimension=64,map_steps=8": [1.1035, 2.017, 3.978, 7.122],
}
"""Strengths of the linear reward at `SIZES` nats, by task."""

SIZES = (1, 3, 10, 30)
TITLES = dict(zip(NATS, ("2 dimensions", "16 dimensions", "64 dimensions"), strict=True))
SHOWN = (
    "gibbs", "gibbs:proposal=posterior", "sir", "mfm-gf", "mfm-gf:proposal=both", "mfm-g", "tds",
    "dps",
)  # fmt: skip
ROUNDS = (1, 5, 20, 60, 150)


def distances(results: Path, budget: str) -> pd.DataFrame:
    """Mean sliced W2 in multiples of the floor: task, strength, method, floors."""
    table = pd.read_parquet(results)
    table = table[table.metric == "sliced-w2"]
    where = ["task", "reward", "strength"]
    floor = table[table.method == "exact"].groupby(where).value.mean().rename("floor")
    rows = table[(table.budget == budget) & table.reward.str.startswith("linear")]
    mean = rows.groupby([*where, "method"]).value.mean().reset_index()
    mean = mean.merge(floor.reset_index(), on=where)
    return mean.assign(floors=mean.value / mean.floor)


def against_nats(found: pd.DataFrame) -> Figure:
    """A panel per dimension, a line per method."""
    drawn = looks(dict.fromkeys(SHOWN, ""))
    figure, axes = panels(3, 3, 3.4, 3.4)
    for axis, task in zip(axes, NATS, strict=True):
        _by_tilt(axis, found[found.task == task], NATS[task], drawn)
        axis.set_title(TITLES[task])
    axes[0].set_ylabel("sliced W2 in multiples of the floor")
    axes[-1].legend(fontsize=7, frameon=False, loc="upper left")
    figure.tight_layout()
    return figure


def _by_tilt(axis: Axes, rows: pd.DataFrame, strengths: list[float], drawn: MethodLooks) -> None:
    sizes = dict(zip(strengths, SIZES, strict=True))
    for method in SHOWN:
        line = rows[rows.method == method].sort_values("strength")
        x = [sizes[strength] for strength in line.strength]
        look = drawn[method]
        axis.plot(x, line.floors, color=look.colour, marker=look.marker, ms=4, lw=1.2, label=method)
    axis.axhline(1, color="#333333", lw=0.8, ls=":")
    axis.set(xscale="log", yscale="log", xlabel="KL(tilted || base) in nats")
    _plain_ticks(axis.xaxis, SIZES)
    _plain_ticks(axis.yaxis, (1, 2, 5, 10, 20, 50))


def _plain_ticks(axis: Axis, at: Sequence[int]) -> None:
    """Numbers in full: our figures have no mathematical text."""
    axis.set_ticks(at, [str(each) for each in at])
    axis.set_minor_locator(NullLocator())


def drift(root: Path, seeds: int) -> pd.DataFrame:
    """Rounds of moves on the digits and on the paper's mixture, learned map and exact draws."""
    rounds = [f"gibbs:pool=28,draws=2,rounds={k}" for k in ROUNDS]
    mixture = ["exact", "sir:candidates=28", *rounds, *(f"{m},posterior=exact" for m in rounds)]
    content = {
        "name": "drift", "description": "What a learned map adds with every round.", "seeds": seeds,
        "n": 1024, "budgets": ["none"],
        "blocks": [
            {"tasks": ["gmm-paper"], "rewards": ["linear:strength=2.448"], "methods": mixture},
            {"tasks": ["digits"], "rewards": ["class-mixture"],
             "methods": ["prior:steps=100", "sir:candidates=28", *rounds]},
        ],
    }  # fmt: skip
    store = Store(str(root), "drift")
    run_suite(build_suite(content), store, Inline, Silent())
    return store.table("results")


def against_rounds(table: pd.DataFrame) -> Figure:
    """Left: the paper's mixture, learned against exact draws.  Right: the digits."""
    figure, (left, right) = panels(2, 2, 3.6, 3.0)
    plane = _means(table, "gmm-paper", "sliced-w2")
    plane = plane / plane["exact"]
    for name, exact in (("learned map", False), ("exact draws", True)):
        _rounds(left, plane, exact, name)
    left.axhline(plane["sir:candidates=28"], color="#8a8a8a", lw=1, ls="--", label="pool alone")
    left.set(title="paper's mixture, 3 nats", ylabel="sliced W2 in multiples of the floor")
    digits = _means(table, "digits", "frechet")
    _rounds(right, digits, False, "learned map")
    right.axhline(digits["sir:candidates=28"], color="#8a8a8a", lw=1, ls="--", label="pool alone")
    right.set(title="digits, class mixture", ylabel="Frechet distance to weighted data")
    for axis in (left, right):
        axis.set(xscale="log", xlabel="rounds", ylim=(0, None))
        _plain_ticks(axis.xaxis, ROUNDS)
        axis.legend(fontsize=7, frameon=False)
    figure.tight_layout()
    return figure


def _means(table: pd.DataFrame, task: str, metric: str) -> pd.Series:
    rows = table[(table.task == task) & (table.metric == metric)]
    return rows.groupby("method").value.mean()


def _rounds(axis: Axes, means: pd.Series, exact: bool, label: str) -> None:
    found = {_at(name): value for name, value in means.items() if _is_chain(name, exact)}
    axis.plot(sorted(found), [found[k] for k in sorted(found)], "o-", ms=4, lw=1.2, label=label)


def _is_chain(label: object, exact: bool) -> bool:
    name, values = parse_name(str(label))
    return name == "gibbs" and (values.get("posterior") == "exact") == exact


def _at(label: object) -> int:
    """Rounds of a method; a default is not written in a label."""
    return int(parse_name(str(label))[1].get("rounds", GibbsParams.rounds))


SLOPE = torch.tensor([2.448, -2.448]) / 2**0.5
"""The linear reward of the first figure, 3 nats along (1, -1)."""


def one_round() -> Figure:
    """The current sample, its noised state, and draws with their weights; plain and shifted."""
    figure, axes = panels(2, 2, 3.6, 3.2)
    t, source = torch.tensor([0.45]), NoiseSource(3, "figure")
    mixture = paper_mixture()
    posterior, path = MixturePosterior(mixture), Linear()
    now = torch.tensor([[-3.0, -3.0]], dtype=mixture.means.dtype)
    x = path.noised(now, source.normal("renoise", 0, (2,), range(1)).to(now), t.to(now))
    slope = Tilt(SLOPE.to(now)[None], torch.zeros(1, dtype=now.dtype))
    contexts = ((x, t.to(now)), slope.context(path, x, t.to(now)))
    titles = ("proposals of the noised state", "proposals of the shifted context")
    for axis, context, title in zip(axes, contexts, titles, strict=True):
        _drawn(axis, posterior, now, context, source, title)
    figure.tight_layout()
    return figure


def _drawn(
    axis: Axes, posterior: MixturePosterior, now: Tensor, context: tuple[Tensor, Tensor],
    source: NoiseSource, title: str,
) -> None:  # fmt: skip
    def noise(name: str, shape: tuple[int, ...]) -> Tensor:
        return source.normal(name, 0, shape, range(1)).to(now)

    base = paper_mixture().sample(500, torch.Generator().manual_seed(0))
    axis.plot(*base.T, ".", color="#d9d9d9", ms=2, label="base law")
    drawn = posterior.draw(*context, 40, noise)[:, 0]
    weight = (
        (drawn @ SLOPE.to(drawn)).softmax(0) if "noised" in title else torch.full((40,), 1 / 40)
    )
    axis.scatter(*drawn.T, s=600 * weight + 4, color="#aa3377", alpha=0.6, label="draws, by weight")
    axis.plot(*now[0], "s", color="#222222", ms=6, label="current sample")
    axis.plot(*(context[0][0] / context[1]), "x", color="#0072b2", ms=7, label="context")
    axis.set_title(title)
    axis.legend(fontsize=7, frameon=False)


def save(name: str, made: Callable[[], Figure]) -> None:
    """Write a figure as SVG, byte-identical from run to run."""
    FIGURES.mkdir(parents=True, exist_ok=True)
    with styled():
        made().savefig(FIGURES / f"{name}.svg", metadata={"Date": None})


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/moves"), help="of suite `moves`")
    parser.add_argument("--root", type=Path, default=Path("build/moves"), help="for own runs")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args(arguments)
    save("gibbs-round", one_round)
    found = distances(given.run / "results.parquet", "paper-nfe=500")
    save("gibbs-nats", lambda: against_nats(found))
    table = drift(given.root, given.seeds)
    save("gibbs-drift", lambda: against_rounds(table))


if __name__ == "__main__":
    main()
