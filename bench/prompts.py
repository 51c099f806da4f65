"""Prompts from files: plain text, JSON lines, and the public sets, with splits.

A prompt is on the tuning side or on the reporting side by the hash of its text: for ever, whatever
else is in the file and in which order, and the same sentence is never on both.  What is read is
what was written, letter by letter, or an error that names the line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench.core.params import UserError
from bench.reading.geneval2 import read_geneval2
from bench.reading.tables import Row, csv_rows, tsv_rows
from bench.reading.text import (
    json_lines,
    numbered_lines,
    one_form,
    parse_json,
    read_text,
    sentence,
)

PromptKind = Literal["text", "jsonl", "hpdv2", "drawbench", "parti", "geneval", "geneval2"]
KIND_OF_ENDING: dict[str, PromptKind] = {
    "": "text",
    ".txt": "text",
    ".text": "text",
    ".prompts": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "hpdv2",
    ".csv": "drawbench",
    ".tsv": "parti",
}
"""What a file is taken for, unless its kind is given."""

SHOWN = 8
"""Keys of a record that an error names."""

TUNE_SHARE = 0.25
"""Share of the prompts that tuning may see."""


@dataclass(frozen=True)
class PromptEntry:
    """A sentence, and the category that its set puts it in."""

    text: str
    category: str = ""


def read_prompts(path: Path, kind: PromptKind | None = None) -> list[str]:
    """The sentences of a file, in its order."""
    return [prompt.text for prompt in read_set(path, kind)]


def read_set(path: Path, kind: PromptKind | None = None) -> list[PromptEntry]:
    """The prompts of a file (HPDv2: or of the folder with a file per style).

    Raises UserError for files that are not of that kind, with the line where there is one.
    """
    if not path.exists():
        raise UserError(f"there is no prompt file {path}")
    try:
        prompts = READERS[kind or _guess(path)](path)
    except (ValueError, OSError) as error:
        raise UserError(f"the prompts in {path} cannot be read: {error}") from error
    if not prompts:
        raise UserError(f"{path} holds no prompts")
    return prompts


def split(prompts: Sequence[str], which: str, tune_share: float = TUNE_SHARE) -> list[str]:
    """The prompts of a split, "tune" or "report", in the given order."""
    if which not in ("tune", "report"):
        raise UserError(f"prompts are split into tune and report, not '{which}'")
    return [p for p in prompts if (_place(p) < tune_share) == (which == "tune")]


def identity(prompt: str) -> str:
    """What makes two sentences the same: not case, not blanks, not how accents are encoded."""
    return one_form(" ".join(one_form(prompt).lower().split()))


def _place(prompt: str) -> float:
    """A number in [0, 1) that only depends on the words."""
    number = int.from_bytes(hashlib.sha256(identity(prompt).encode()).digest()[:8], "big")
    return number / 2**64


def _guess(path: Path) -> PromptKind:
    if path.is_dir():
        return "hpdv2"
    ending = path.suffix.lower()
    if ending not in KIND_OF_ENDING:
        raise ValueError(f"'{ending}' is none of {', '.join(k for k in KIND_OF_ENDING if k)}")
    if KIND_OF_ENDING[ending] != "jsonl":
        return KIND_OF_ENDING[ending]
    first = next(json_lines(read_text(path)), None)
    keys = set(first[1]) if first else set()
    known: dict[PromptKind, set[str]] = {
        "geneval": {"tag", "include"},
        "geneval2": {"atom_count", "vqa_list"},
    }
    return next((kind for kind, own in known.items() if own <= keys), "jsonl")


def _text(path: Path) -> list[PromptEntry]:
    """A sentence a line, without the blanks around it; empty lines are passed over."""
    out = []
    for number, line in numbered_lines(read_text(path)):
        if _is_json_object(line):
            raise ValueError(f"line {number} is JSON: let the name of the file end with .jsonl")
        out.append(PromptEntry(sentence(line.strip(" \t"), f"line {number}")))
    return out


def _is_json_object(line: str) -> bool:
    try:
        return line.lstrip().startswith("{") and isinstance(parse_json(line), dict)
    except ValueError:
        return False


def _jsonl(path: Path) -> list[PromptEntry]:
    out = []
    for number, record in json_lines(read_text(path)):
        where = f"line {number}"
        known = [k for k in ("prompt", "text", "caption") if k in record]
        if not known:
            keys = ", ".join(sorted(record)[:SHOWN])
            raise ValueError(f"{where}: no prompt, text or caption among its keys ({keys})")
        text = sentence(record[known[0]], where)
        out.append(PromptEntry(text, _category(record.get("category"), where)))
    return out


def _category(value: Any, where: str) -> str:
    """A category or none, which is no reason to refuse; anything but a word is."""
    if value is not None and not isinstance(value, str | int):
        raise ValueError(f"{where}: the category is no word")
    return "" if value is None else str(value)


def _hpdv2(path: Path) -> list[PromptEntry]:
    """A JSON list of sentences per style; the file's name is the style."""
    files = [path] if path.is_file() else sorted(path.glob("[!.]*.json"))
    out = []
    for file in files:
        lines = parse_json(read_text(file))
        if not isinstance(lines, list):
            raise ValueError(f"{file.name} is no list of sentences")
        where = (f"{file.name}, sentence {k}" for k in range(1, len(lines) + 1))
        out += [PromptEntry(sentence(*pair), file.stem) for pair in zip(lines, where, strict=True)]
    return out


def _drawbench(path: Path) -> list[PromptEntry]:
    return _entries(csv_rows(read_text(path), ("Prompts",)), "Prompts")


def _parti(path: Path) -> list[PromptEntry]:
    return _entries(tsv_rows(read_text(path), ("Prompt",)), "Prompt")


def _entries(rows: list[Row], column: str) -> list[PromptEntry]:
    return [
        PromptEntry(sentence(row.cells[column], f"line {row.line}"), row.cells.get("Category", ""))
        for row in rows
    ]


def _geneval(path: Path) -> list[PromptEntry]:
    out = []
    for number, record in json_lines(read_text(path)):
        where = f"line {number}"
        text = sentence(record.get("prompt"), where)
        out.append(PromptEntry(text, _category(record.get("tag"), where)))
    return out


def _geneval2(path: Path) -> list[PromptEntry]:
    """The category is the number of atoms, by which the benchmark's analysis is split."""
    return [PromptEntry(prompt.text, str(prompt.atoms)) for prompt in read_geneval2(path)]


READERS: dict[PromptKind, Callable[[Path], list[PromptEntry]]] = {
    "text": _text,
    "jsonl": _jsonl,
    "hpdv2": _hpdv2,
    "drawbench": _drawbench,
    "parti": _parti,
    "geneval": _geneval,
    "geneval2": _geneval2,
}
