"""Rows of CSV and TSV files, each with as many cells as there are columns, or an error by line.

CSV is quoted (RFC 4180).  TSV is not: PartiPrompts writes sentences that begin with a quotation
mark as they are, and a reader of quoted cells swallows the rows up to the next one.  Where a cell
could be either, it is refused.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass

from bench.reading.text import numbered_lines

csv.field_size_limit(2**31 - 1)  # a sentence may be longer than the default of 131,072 letters


@dataclass(frozen=True)
class Row:
    """The cells of a row by column, and the line on which it ends."""

    line: int
    cells: dict[str, str]


def csv_rows(text: str, needed: tuple[str, ...]) -> list[Row]:
    """Rows of quoted, comma-separated text that has the needed columns."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        lines = [(reader.line_num, cells) for cells in reader if cells]
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from error
    return list(_rows(lines, needed))


def tsv_rows(text: str, needed: tuple[str, ...]) -> list[Row]:
    """Rows of tab-separated text without quoting that has the needed columns."""
    lines = [(number, line.split("\t")) for number, line in numbered_lines(text)]
    gap = next((k for k, (number, _) in enumerate(lines, 1) if number != k), None)
    if gap is not None:
        raise ValueError(f"line {gap} is empty between the others: a sentence was broken, or lost")
    for number, cells in lines:
        if any(_quoted(cell, number == lines[0][0]) for cell in cells):
            raise ValueError(
                f"line {number}: its quotation marks may be letters or may enclose a cell; "
                "save the sentences as JSON lines"
            )
    return list(_rows(lines, needed))


def _quoted(cell: str, heading: bool) -> bool:
    """Whether a writer that quotes where it must could have made this cell, or its first line.

    Such a writer doubles every quotation mark inside; it leaves a cell without any bare, and when
    it quotes all cells it quotes the headings too.
    """
    if not cell.startswith('"'):
        return False
    inner = cell[1:-1] if len(cell) > 1 and cell.endswith('"') else None
    doubled = inner is not None and '"' in inner and '"' not in inner.replace('""', "")
    return cell.count('"') % 2 == 1 or doubled or (heading and inner is not None)


def _rows(lines: list[tuple[int, list[str]]], needed: tuple[str, ...]) -> Iterator[Row]:
    if not lines:
        return
    (first, heading), *rest = lines
    for column in needed:
        if heading.count(column) != 1:
            count = "no column" if column not in heading else "more than one column"
            raise ValueError(f"line {first}: {count} '{column}' among {', '.join(heading)}")
    for number, cells in rest:
        if len(cells) != len(heading):
            raise ValueError(
                f"line {number} has {len(cells)} cells where there are {len(heading)} columns: "
                "a separator in a sentence, or a missing one"
            )
        yield Row(number, dict(zip(heading, cells, strict=True)))
