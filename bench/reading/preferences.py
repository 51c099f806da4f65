"""People's choices between two pictures of a prompt, from a local file.

A .csv or .jsonl with `prompt`, `first` and `second` (pictures, by name) and `preferred`: first,
second or tie.  Raises UserError that names the file and the line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bench.core.params import UserError
from bench.reading.tables import csv_rows
from bench.reading.text import json_lines, one_form, read_text, sentence

COLUMNS = ("prompt", "first", "second", "preferred")
ANSWERS = ("first", "second", "tie")


@dataclass(frozen=True)
class Preference:
    """Two pictures of a prompt by their names in the folder, and which of them people prefer."""

    prompt: str
    first: str
    second: str
    preferred: str


def read_preferences(path: Path, names: Sequence[str]) -> list[Preference]:
    """All choices of a file, in its order, between pictures that are there."""
    formats: dict[str, Callable[[str], Iterator[tuple[int, dict[str, object]]]]] = {
        ".csv": lambda text: ((r.line, dict(r.cells)) for r in csv_rows(text, COLUMNS)),
        ".jsonl": json_lines,
    }
    if path.suffix.lower() not in formats:
        raise UserError(f"preferences are .csv or .jsonl, not {path.name}")
    known = {_known(name): name for name in names}
    try:
        rows = formats[path.suffix.lower()](read_text(path))
        found = [_preference(row, known, f"line {line}") for line, row in rows]
    except (ValueError, OSError) as error:
        raise UserError(f"the preferences in {path} cannot be read: {error}") from error
    if not found:
        raise UserError(f"{path} holds no preferences")
    return found


def _preference(row: dict[str, object], known: dict[str, str], where: str) -> Preference:
    first, second = (_picture(row.get(side), known, f"{where}: {side}") for side in COLUMNS[1:3])
    if first == second:
        raise ValueError(f"{where}: first and second are the same picture, {first}")
    answer = row.get("preferred")
    if answer not in ANSWERS:
        raise ValueError(f"{where}: preferred is {answer!r}, not one of {', '.join(ANSWERS)}")
    return Preference(sentence(row.get("prompt"), where), first, second, str(answer))


def _picture(name: object, known: dict[str, str], where: str) -> str:
    if not isinstance(name, str) or _known(name) not in known:
        raise ValueError(f"{where}: there is no picture {name!r} in the folder")
    return known[_known(name)]


def _known(name: str) -> str:
    return one_form(PurePosixPath(name).as_posix())
