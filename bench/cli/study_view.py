"""Tables, figure and data of `bench study value`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cli.console import wide_console

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table

    from bench.metrics.value_rates import ConvergenceRates
    from bench.metrics.value_study import StudyRow

Timed = Sequence[tuple[float, "ConvergenceRates"]]

COLUMNS = {
    "V, Pearson": ("V", "pearson"),
    "V, RMSE": ("V", "rmse"),
    "V, bias": ("V", "bias"),
    "G, cosine": ("grad V, G", "cosine"),
    "G, rel. RMSE": ("grad V, G", "relative-rmse"),
    "GF, cosine": ("grad V, GF", "cosine"),
    "GF, rel. RMSE": ("grad V, GF", "relative-rmse"),
}
GAIN = "pearson gain"
FAMILIES = ("map", "glass", "sde", "exact")
"""Of samplers that the figure shows."""
STYLES = {1: ":", 2: "--", 4: "-"}


def as_data(about: Mapping[str, Any], rows: Iterable[StudyRow], rates: Timed) -> dict[str, Any]:
    """Everything as plain data, for --json and for a run; about: what was asked, and of whom."""
    slopes = [
        {"t": t, "bias_slope": r.bias_slope, "spread_slope": r.spread_slope} for t, r in rates
    ]
    figures = [
        {k: round(v, 5) if isinstance(v, float) else v for k, v in asdict(row).items()}
        for row in rows
    ]
    return {**about, "rates": slopes, "rows": figures}


def show(rows: Sequence[StudyRow], rates: Timed, markdown: bool) -> None:
    """Full figures at the largest N, correlation by N, and gains at equal evaluations."""
    from rich.console import Console

    console = Console(width=200) if markdown else wide_console(200)
    for t in dict.fromkeys(row.t for row in rows):
        here = [row for row in rows if row.t == t]
        console.print(f"t = {t:g}, 95 % intervals over contexts\n")
        console.print(_full(here, markdown))
        console.print("Correlation of V with the truth, by number of draws\n")
        console.print(_by_draws([r for r in here if _is(r, ("V", "pearson"))], markdown))
        gains = [row for row in here if row.statistic == GAIN]
        if gains:
            console.print("The same, map less GLASS at equal evaluations, same contexts\n")
            console.print(_by_draws(gains, markdown, _interval))
    for t, rate in rates:
        console.print(
            f"t = {t:g}, exact draws: the bias of V falls as N^{rate.bias_slope:.2f} "
            f"(theory -1), its spread as N^{rate.spread_slope:.2f} (theory -1/2)."
        )


def _table(markdown: bool) -> Table:
    from rich import box
    from rich.table import Table

    return Table("sampler", box=box.MARKDOWN if markdown else box.SIMPLE_HEAD)


def _samplers(rows: Iterable[StudyRow]) -> dict[str, int]:
    """Sampler -> evaluations per draw, without the paired differences."""
    return {row.sampler: row.evaluations for row in rows if row.statistic != GAIN}


def _full(rows: Sequence[StudyRow], markdown: bool) -> Table:
    """Every statistic at the largest N at which it was asked."""
    names = [n for n, key in COLUMNS.items() if any((r.quantity, r.statistic) == key for r in rows)]
    most = {COLUMNS[n]: max(r.draws for r in rows if _is(r, COLUMNS[n])) for n in names}
    table = _table(markdown)
    table.add_column("evaluations", justify="right")
    for name in names:
        table.add_column(f"{name} (N = {most[COLUMNS[name]]})", justify="right")
    for sampler, evaluations in _samplers(rows).items():
        mine = (r for r in rows if r.sampler == sampler and _largest(r, most))
        own = {(r.quantity, r.statistic): r for r in mine}
        shown = [_interval(own[COLUMNS[n]]) if COLUMNS[n] in own else "" for n in names]
        table.add_row(sampler, str(evaluations), *shown)
    return table


def _is(row: StudyRow, key: tuple[str, str]) -> bool:
    # The halves of the reference have an N of their own.
    return (row.quantity, row.statistic) == key and not row.sampler.startswith("reference")


def _largest(row: StudyRow, most: dict[tuple[str, str], int]) -> bool:
    key = (row.quantity, row.statistic)
    return row.sampler.startswith("reference") or row.draws == most.get(key)


def _by_draws(
    rows: Sequence[StudyRow],
    markdown: bool,
    text: Callable[[StudyRow], str] = lambda r: f"{r.value:.3f}",
) -> Table:
    """One row per sampler, one column per N."""
    found = {(r.sampler, r.draws): text(r) for r in rows}
    sizes = sorted({n for _, n in found})
    table = _table(markdown)
    for n in sizes:
        table.add_column(f"N = {n}", justify="right")
    for sampler in dict.fromkeys(name for name, _ in found):
        table.add_row(sampler, *(found.get((sampler, n), "") for n in sizes))
    return table


def _interval(row: StudyRow) -> str:
    return f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]"


def draw_figure(rows: Sequence[StudyRow], path: Path) -> None:
    """Correlation and RMSE of V against N, a column per time; bands are 95 % intervals."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import seaborn as sns

    matplotlib.rcParams["svg.hashsalt"] = "tiltbench"
    sns.set_theme(style="whitegrid", context="paper")
    times = list(dict.fromkeys(row.t for row in rows))
    figure, axes = plt.subplots(
        2, len(times), sharex=True, sharey="row", squeeze=False, figsize=(3.1 * len(times), 5.4)
    )
    for column, t in enumerate(times):
        for row, statistic in enumerate(("pearson", "rmse")):
            here = [r for r in rows if r.t == t and r.quantity == "V" and r.statistic == statistic]
            _curves(axes[row][column], here)
        axes[0][column].set_title(f"t = {t:g}")
        axes[1][column].set_xlabel("posterior draws N")
    axes[0][0].set_ylabel("correlation of V with the truth")
    axes[1][0].set_ylabel("RMSE of V")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="center right", frameon=False)
    figure.tight_layout(rect=(0, 0, 1 - 1.1 / (3.1 * len(times)), 1))
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def _curves(ax: Axes, rows: Sequence[StudyRow]) -> None:
    """Colour is the family of the sampler, line style its evaluations per draw."""
    from reports.data.value_study import FAMILIES as colours

    for sampler, evaluations in _samplers(rows).items():
        family = sampler.partition("-")[0]
        own = sorted((r for r in rows if r.sampler == sampler), key=lambda r: r.draws)
        if family not in FAMILIES or evaluations not in STYLES:
            continue
        n = [r.draws for r in own]
        ax.plot(n, [r.value for r in own], STYLES[evaluations], c=colours[family], label=sampler)
        low, high = [r.low for r in own], [r.high for r in own]
        ax.fill_between(n, low, high, color=colours[family], alpha=0.08, linewidth=0)
    ax.set_xscale("log", base=2)
