"""What was done with every file of a folder, in words and in a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.core import atomic
from bench.core.params import UserError
from bench.reading.folder import LEFT_OUT
from bench.reading.picture import TREATMENTS
from bench.reading.survey import Survey

NAMED = 8
"""Files that a remark names before it counts the rest."""


@dataclass(frozen=True)
class Remark:
    """How many files something was done with, and what and which."""

    about: str
    count: int
    text: str


def remarks(survey: Survey) -> Iterator[Remark]:
    """What was read, how, and what was not; everything beyond plain reading is named."""
    names = survey.contents.names()
    ends = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]} in natural order"
    yield Remark("read", len(names), f"{ends}, {_sizes(survey)}")
    treated = list(survey.treated())
    for key, text in TREATMENTS.items():
        named = [name for name, done in treated if done == key]
        if named:
            yield Remark("read", len(named), f"{text}: {_some(named)}")
    for reason, paths in survey.contents.left_out.items():
        named = survey.contents.names(paths)
        yield Remark("left out", len(paths), f"{LEFT_OUT[reason]}: {_some(named)}")
    twice = [f"{name} is {first}" for name, first in survey.duplicates()]
    if twice:
        yield Remark("duplicates", len(twice), f"counted, the same pixels again: {_some(twice)}")


def _sizes(survey: Survey) -> str:
    sizes = [f"{width} x {height} ({n})" for (height, width), n in survey.sizes().items()]
    return "height and width differ: " * (len(sizes) > 1) + _some(sizes)


def _some(named: Sequence[str]) -> str:
    more = len(named) - NAMED
    return ", ".join(named[:NAMED]) + (f" and {more} more" if more > 0 else "")


def write_files(path: Path, surveys: Sequence[Survey]) -> None:
    """A CSV line for every file: folder, file, what was done with it."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("folder", "file", "done"))
    for survey in surveys:
        own = survey.contents.folder.as_posix()
        writer.writerows((own, name, done) for name, done in _done(survey))
    try:
        atomic.write(path, text.getvalue().encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise UserError(f"the list of files cannot be written to {path}: {error}") from error


def _done(survey: Survey) -> Iterator[tuple[str, str]]:
    treated, twice = list(survey.treated()), dict(survey.duplicates())
    for name in survey.contents.names():
        how = [TREATMENTS[key] for other, key in treated if other == name]
        again = [f"same pixels as {twice[name]}"] if name in twice else []
        yield name, "; ".join(["read", *how, *again])
    for reason, paths in survey.contents.left_out.items():
        for name in survey.contents.names(paths):
            yield name, f"left out: {LEFT_OUT[reason]}"
