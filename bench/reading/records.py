"""Sentences for pictures by name: records beside them, and pairings that are written and read.

Names are those of `Contents.names`: relative to the folder, with slashes.  They are compared in
one Unicode form, since file systems write accents differently.  Raises UserError that names the
file and the line.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from bench.core import atomic
from bench.core.params import UserError
from bench.models.picture_folder import RECORDS
from bench.reading.tables import csv_rows
from bench.reading.text import json_lines, one_form, read_text, sentence

T = TypeVar("T")
Named = tuple[int, str, str]
"""Line, picture, sentence."""


def recorded_prompts(folder: Path, names: Sequence[str]) -> list[str] | None:
    """Prompts from metadata.jsonl (keys file_name, and prompt or text) in the order of the names.

    None where there is no such file, or no record has a prompt.  Records of other pictures are
    passed over: `strays` says which.
    """
    path = folder / RECORDS
    if not path.exists():
        return None
    return _read(path, lambda text: _from_records(text, names))


def strays(folder: Path, names: Sequence[str]) -> list[str]:
    """Names in metadata.jsonl that are none of the given ones."""
    path, known = folder / RECORDS, {_known(name) for name in names}
    if not path.exists():
        return []
    recorded = _read(path, lambda text: [_file(*pair) for pair in json_lines(text)])
    return [name for name in recorded if _known(name) not in known]


def read_pairs(path: Path, names: Sequence[str]) -> list[str]:
    """Prompts from a .csv or .jsonl file with `picture` and `prompt`, one line for each name."""
    if not path.is_file():
        raise UserError(f"there is no file {path} of pictures and their prompts")
    rows = _format(path)
    return _read(path, lambda text: _by_name(rows(text), names, strictly=True))


def write_pairs(path: Path, names: Sequence[str], prompts: Sequence[str]) -> None:
    """What `read_pairs` reads back, letter by letter."""
    _format(path)
    pairs = list(zip(names, prompts, strict=True))
    writing = _csv_text if path.suffix.lower() == ".csv" else _json_text
    try:
        atomic.write(path, writing(pairs).encode())
    except (UnicodeEncodeError, OSError) as error:
        raise UserError(f"the pairs cannot be written to {path}: {error}") from error


def _csv_text(pairs: Iterable[tuple[str, str]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([("picture", "prompt"), *pairs])
    return text.getvalue()


def _json_text(pairs: Iterable[tuple[str, str]]) -> str:
    return "".join(
        json.dumps({"picture": picture, "prompt": prompt}, ensure_ascii=False) + "\n"
        for picture, prompt in pairs
    )


def _format(path: Path) -> Callable[[str], Iterator[Named]]:
    formats = {".csv": _csv_pairs, ".jsonl": _json_pairs}
    if path.suffix.lower() not in formats:
        raise UserError(f"pairs of pictures and prompts are .csv or .jsonl, not {path.name}")
    return formats[path.suffix.lower()]


def _csv_pairs(text: str) -> Iterator[Named]:
    for row in csv_rows(text, ("picture", "prompt")):
        where = f"line {row.line}"
        yield row.line, row.cells["picture"], sentence(row.cells["prompt"], where)


def _json_pairs(text: str) -> Iterator[Named]:
    for line, record in json_lines(text):
        where = f"line {line}"
        yield line, _picture(record, "picture", where), sentence(record.get("prompt"), where)


def _file(line: int, record: dict[str, Any]) -> str:
    return _picture(record, "file_name", f"line {line}")


def _picture(record: dict[str, Any], key: str, where: str) -> str:
    name = record.get(key)
    if not isinstance(name, str) or not name:
        raise ValueError(f"{where}: there is no {key}")
    return name


def _from_records(text: str, names: Sequence[str]) -> list[str] | None:
    rows: list[Named] = []
    without: dict[str, int] = {}
    for line, record in json_lines(text):
        name = _file(line, record)
        key = next((k for k in ("prompt", "text") if k in record), None)
        if key is None:
            without[_known(name)] = line
        else:
            rows.append((line, name, sentence(record[key], f"line {line}")))
    if not rows:
        return None
    for name in names:
        if _known(name) in without:
            raise ValueError(f"line {without[_known(name)]}: {name} has no prompt, and others have")
    return _by_name(rows, names, strictly=False)


def _by_name(rows: Iterable[Named], names: Sequence[str], strictly: bool) -> list[str]:
    """The sentence of every name; strictly: a row about another picture is an error."""
    wanted = {_known(name): name for name in names}
    if len(wanted) < len(names):
        raise ValueError("two pictures have names that only differ in their Unicode form")
    found: dict[str, str] = {}
    for line, name, text in rows:
        if strictly and _known(name) not in wanted:
            raise ValueError(f"line {line}: there is no picture {name} in the folder")
        if _known(name) in found:
            raise ValueError(f"line {line}: {name} stands twice")
        found[_known(name)] = text
    missing = [name for known, name in wanted.items() if known not in found]
    if missing:
        more = f" and {len(missing) - 1} more pictures have" if len(missing) > 1 else " has"
        raise ValueError(f"{missing[0]}{more} no prompt")
    return [found[known] for known in wanted]


def _known(name: str) -> str:
    return one_form(PurePosixPath(name).as_posix())


def _read(path: Path, parse: Callable[[str], T]) -> T:
    try:
        return parse(read_text(path))
    except (ValueError, OSError) as error:
        raise UserError(f"the prompts in {path} cannot be read: {error}") from error
