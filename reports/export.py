"""What a paper takes from a run: its tables as CSV, LaTeX and Markdown, its figures as SVG and PDF.

Files are the same bytes every time; the page itself prints on A4 landscape.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from reports.chapter import Material, material_of
from reports.data.comparisons import all_pairs, deciding, fair_entries
from reports.data.conditions import by_condition, mapped_metrics
from reports.data.run import load_run
from reports.data.summary import ProblemKey, slug
from reports.data.training import losses
from reports.data.value_study import value_studies
from reports.figures.answer import answer_figure, standalone
from reports.figures.curves import compute_figure
from reports.figures.front import front_figure
from reports.figures.judge_against_reward import judge_figure
from reports.figures.svg import save
from reports.figures.training import training_figure
from reports.figures.value_study import value_figure
from reports.tables.front import metric_fronts
from reports.tables.grid import TableCell, TableGrid
from reports.tables.headline import headline_grid
from reports.tables.markdown import markdown
from reports.tables.terminal import headline

SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": "$-$",
    "×": r"$\times$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "†": r"$\dagger$",
    "\u00a0": "~",
    "\u2009": r"\,",
}
"""Signs that LaTeX needs commands for; %, $, #, &, _ and braces are escaped by a backslash."""


def export(run: Path, folder: Path) -> list[Path]:
    """Write everything into a folder, which is made where it is missing, and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    material = material_of(load_run(run))
    texts = dict(_texts(run, material))
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts] + list(_figures(material, folder))


def _texts(run: Path, material: Material) -> Iterator[tuple[str, str]]:
    loaded, summary = material.run, material.summary
    yield "headline.csv", as_csv(headline(loaded.cells, loaded.metrics))
    yield "pairs.csv", as_csv(pair_table(material))
    if len(table := condition_table(material)):
        yield "conditions.csv", as_csv(table)
    yield "tables.md", markdown(run)
    for problem in material.problems:
        grid = headline_grid(summary, problem, material.looks)
        yield f"headline-{problem.slug}.tex", latex(grid, problem.title)
        for name, svg in _drawings(material, problem):
            if svg:
                yield f"{name}-{problem.slug}.svg", standalone(svg)
    for study in value_studies(loaded):
        if svg := value_figure(study):
            yield f"value-{slug(f'{study.task} {study.reward}')}.svg", standalone(svg)


def _drawings(material: Material, problem: ProblemKey) -> Iterator[tuple[str, str]]:
    """The page's own SVG of a problem; "" for what it does not have."""
    summary, looks = material.summary, material.looks
    yield "answer", answer_figure(summary, problem, looks)
    yield "front", front_figure(summary, problem, metric_fronts(summary, problem), looks)
    own = [loss for loss in losses(material.run, summary) if loss.problem == problem]
    yield "training", training_figure(own, looks) if own else ""


def _figures(material: Material, folder: Path) -> Iterator[Path]:
    summary, looks = material.summary, material.looks

    def reward(problem: ProblemKey) -> str | None:
        return "reward" if summary.has(problem, "reward") else None

    figures = {
        "reward-against-compute": compute_figure(summary, looks, reward),
        "distance-against-compute": compute_figure(summary, looks, summary.distance),
        **{f"judge-{p.slug}": judge_figure(summary, looks, p) for p in material.problems},
    }
    for name, figure in figures.items():
        for ending in ("svg", "pdf") if figure is not None else ():
            assert figure is not None
            save(figure, folder / f"{name}.{ending}")
            yield folder / f"{name}.{ending}"


def pair_table(material: Material) -> pd.DataFrame:
    """Every pair of rows at every budget, in what decides and in the reward."""
    summary = material.summary
    rows = []
    for problem in material.problems:
        metrics = dict.fromkeys([*deciding(summary, problem)[:1], "reward"])
        for budget in summary.budgets(problem):
            for metric in metrics:
                entries = fair_entries(summary.of(problem, budget), metric)
                place = {id(e): i for i, e in enumerate(entries)}
                rows += [
                    {
                        "task": problem.task, "reward": problem.reward,
                        "strength": problem.strength, "budget": budget, "metric": metric,
                        "method": a.method, "other": b.method, "difference": c.difference.mean,
                        "half": c.difference.half, "p": c.difference.p, "adjusted": c.adjusted,
                        "repetitions": c.difference.pairs, "test": c.difference.test,
                    }
                    for (a, b), c in all_pairs(entries, metric).items()
                    if place[id(a)] < place[id(b)]
                ]  # fmt: skip
    return pd.DataFrame(rows)


def condition_table(material: Material) -> pd.DataFrame:
    """Every row under every condition, in the metrics of the heat maps."""
    summary = material.summary
    rows = []
    for problem in material.problems:
        for metric in mapped_metrics(summary, problem):
            for entry in summary.of(problem):
                found = entry.estimate(metric).rows
                seeds = Counter(row.condition for row in found)
                rows += [
                    {
                        "task": problem.task, "reward": problem.reward,
                        "strength": problem.strength, "budget": entry.budget,
                        "method": entry.method, "metric": metric, "condition": condition,
                        "value": value, "seeds": seeds[condition],
                    }
                    for condition, value in by_condition(entry, metric).items()
                ]  # fmt: skip
    return pd.DataFrame(rows)


def as_csv(table: pd.DataFrame) -> str:
    """CSV in which no text is a formula to a spreadsheet."""
    safe = table.apply(lambda column: column.map(_harmless))
    return str(safe.to_csv(index=False, lineterminator="\n"))


def _harmless(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value


def latex(grid: TableGrid, title: str) -> str:
    """A booktabs table of the page's own cells, with its notes as comments."""
    heads = " & ".join(escaped(column.title) for column in grid.columns)
    lines = [
        f"% {line}" for line in [title, *grid.notes, "needs the package booktabs"]
        for line in [" ".join(line.split())]
    ]  # fmt: skip
    lines += [rf"\begin{{tabular}}{{l{'r' * (len(grid.columns) - 1)}}}", r"\toprule"]
    lines += [rf"{heads} \\"]
    for group in grid.groups:
        span = len(grid.columns)
        lines += [r"\midrule", rf"\multicolumn{{{span}}}{{l}}{{{escaped(group.title)}}} \\"]
        lines += [" & ".join(map(_latex_cell, line.cells)) + r" \\" for line in group.lines]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _latex_cell(cell: TableCell) -> str:
    tags = "".join(f" ({tag})" for tag in cell.tags)
    text = escaped(" ".join(filter(None, [cell.text + tags, cell.minor])))
    text = rf"\texttt{{{text}}}" if cell.code else text
    return rf"\textbf{{{text}}}" if cell.bold else text


def escaped(text: str) -> str:
    """Text as LaTeX shows it."""
    return re.sub(
        r"[\\~^±−×↑↓†\u00a0\u2009%$#&_{}]",
        lambda found: SPECIAL.get(found[0], f"\\{found[0]}"),
        text,
    )
