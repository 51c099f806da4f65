"""What a comparison found: its table, its report, and who is best as far as the seeds can tell."""

from __future__ import annotations

import html
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench.core.params import UserError, nearest
from bench.record import layout
from bench.record.store import Store
from bench.runner.run import Outcome
from reports.data.comparisons import best_entry, compare_pairs, deciding, unmarked, winner
from reports.data.entries import summarise
from reports.data.marks import marked, summary_of
from reports.data.run import load_run, tidy_cells, tidy_metrics
from reports.data.statistics import MeanInterval
from reports.data.summary import Entry, ProblemKey, Summary
from reports.tables.terminal import headline
from reports.text.labels import budget_label
from reports.text.leaders import leader
from reports.text.numbers import decimals, plus_minus

HEIGHT = 900
"""Of the report in a notebook, in pixels."""


@dataclass(frozen=True)
class Report:
    """The page of a run: shown in a notebook, opened in a browser, or a file."""

    path: Path
    page: str

    def open(self) -> None:
        """Show it in the browser of this machine."""
        webbrowser.open(self.path.resolve().as_uri())

    def _repr_html_(self) -> str:
        """The whole page in a frame, which needs no server and no file."""
        frame = 'style="width: 100%; border: 1px solid #ddd"'
        return f'<iframe srcdoc="{html.escape(self.page)}" height="{HEIGHT}" {frame}></iframe>'

    def __repr__(self) -> str:
        return f"Report: {self.path}"


@dataclass(frozen=True)
class Best:
    """Who is best by a metric at a budget, with its interval.

    clear: whether it is better than every other method beyond chance (5 %, adjusted over all pairs,
    paired by seed).  unclear: the methods from which these seeds cannot tell it.
    """

    method: str
    metric: str
    budget: str
    estimate: MeanInterval
    clear: bool
    unclear: tuple[str, ...]
    sentence: str

    @property
    def mean(self) -> float:
        return self.estimate.mean

    @property
    def interval(self) -> tuple[float, float]:
        """Of 95 %; NaN where one seed gives none."""
        return self.estimate.low, self.estimate.high

    def __repr__(self) -> str:
        return self.sentence


@dataclass(frozen=True, eq=False)
class Comparison:
    """The result of `bench.compare`.

    executed, cached: cells that were computed now, and that were found in the store.
    cells, metrics: the run's tables, as `cells.parquet` and `metrics.parquet` hold them.
    """

    folder: Path
    cells: pd.DataFrame
    metrics: pd.DataFrame
    page: str
    executed: int
    cached: int

    @staticmethod
    def of(store: Store, outcome: Outcome) -> Comparison:
        """What a run has stored."""
        return Comparison(
            store.folder,
            store.table("cells"),
            store.table("metrics"),
            store.read(layout.REPORT).decode(),
            outcome.executed,
            outcome.cached,
        )

    @property
    def summary(self) -> Summary:
        """Entries with their estimates, as the report has them."""
        return summarise(tidy_cells(self.cells), tidy_metrics(self.metrics))

    @property
    def _marked(self) -> Summary:
        """The same with marks, by the stored samples where they are on this machine."""
        here = self.folder.is_dir()
        return summary_of(load_run(self.folder)) if here else marked(self.summary)

    @property
    def table(self) -> pd.DataFrame:
        """One row per method and budget.

        Every metric has its mean over seeds and, under `METRIC_half`, the half-width of its 95 %
        interval; beside them the measured cost per sample and what did not end well.
        """
        full = headline(self.cells, self.metrics)
        metrics = [c.removesuffix("_mean") for c in map(str, full) if c.endswith("_mean")]
        known = [m for m in metrics if full[f"{m}_mean"].notna().any()]
        columns = {"method": "method", "budget": "budget", "seeds": "seeds"}
        for metric in known:
            columns |= {f"{metric}_mean": metric, f"{metric}_half": f"{metric}_half"}
        kept = ("paper_nfe", "utilisation", "seconds", "status", "trouble")
        columns |= {name: name for name in kept}
        return full[list(columns)].rename(columns=columns)

    def report(self, to: str | Path | None = None) -> Report:
        """The report: shown by a notebook, `.open()` for a browser, written to `to` if given."""
        if to is None:
            return Report(self.folder / layout.REPORT, self.page)
        Path(to).write_text(self.page, encoding="utf-8")
        return Report(Path(to), self.page)

    def best(self, metric: str | None = None, budget: str | None = None) -> Best:
        """The best method by a metric, at a budget (default: the largest).

        Without a metric the distance to the law decides, where it is known, and else the reward,
        and rows that collapsed or maximise do not take part while others are left.  Methods that
        know the closed form never do.  Raises UserError for a metric that nothing has, or that has
        no better direction.
        """
        plain = self.summary
        problem, seen = plain.problems[0], self._marked
        at = self._budget(plain, problem, budget)
        honest = metric is None and bool(unmarked(_contestants(seen, problem, at)))
        summary = seen if honest else plain
        entries = unmarked(_contestants(summary, problem, at))
        metric = metric or next(iter(deciding(summary, problem)), "reward")
        info = summary.info.get(metric)
        if info is None or info.direction == "none":
            usable = [m for m, i in summary.info.items() if i.direction != "none"]
            raise UserError(f"no method is better by '{metric}': {nearest(metric, usable)}")
        top = best_entry(entries, metric, info.direction)
        if top is None:
            raise UserError(f"no method has a value of '{metric}': {_troubles(entries)}")
        rivals = [e for e in entries if e is not top and e.estimate(metric).known]
        unclear = [
            c.other.method for c in compare_pairs([(top, e) for e in rivals], metric) if not c.clear
        ]
        return Best(
            method=top.method,
            metric=metric,
            budget=at,
            estimate=top.estimate(metric),
            clear=winner(entries, metric, info.direction) is top,
            unclear=tuple(unclear),
            sentence=leader(summary, problem, at, metric) or _alone(summary, top, metric),
        )

    @staticmethod
    def _budget(summary: Summary, problem: ProblemKey, wanted: str | None) -> str:
        budgets = summary.budgets(problem)
        if wanted is None:
            return budgets[-1]
        if wanted not in budgets:
            raise UserError(f"there is no budget '{wanted}': {nearest(wanted, budgets)}")
        return wanted

    def _repr_html_(self) -> str:
        """The table, who is best, and where the report is."""
        try:
            said = html.escape(str(self.best()))
        except UserError as error:
            said = html.escape(str(error))
        place = html.escape(str(self.folder / layout.REPORT))
        shown: Any = self.table.round(4)
        return f"{shown.to_html(index=False)}<p>{said}</p><p>Report: <code>{place}</code></p>"

    def __repr__(self) -> str:
        return f"{self.table.to_string(index=False)}\nReport: {self.folder / layout.REPORT}"


def _contestants(summary: Summary, problem: ProblemKey, budget: str) -> list[Entry]:
    return [e for e in summary.of(problem, budget) if not e.is_closed_form]


def _alone(summary: Summary, entry: Entry, metric: str) -> str:
    """The only method that has a value, or whose value may be taken for the best."""
    value, rivals = entry.estimate(metric), _contestants(summary, entry.problem, entry.budget)
    marked_rows = [f"`{e.method}` is marked: {e.marks[0].text}" for e in rivals if e.marks]
    return ". ".join(
        (
            f"At `{budget_label(entry.budget)}` only `{entry.method}` is to be judged by its "
            f"{metric}, {plus_minus(value, decimals([value]))}: there is nothing to compare it "
            "with",
            *marked_rows,
        )
    )


def _troubles(entries: list[Entry]) -> str:
    told = dict.fromkeys(f"{e.method}: {e.trouble}" for e in entries if e.trouble)
    return "; ".join(told) or "nothing has finished"
