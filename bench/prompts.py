"""Prompts from files: plain text, JSON lines, and the public sets, with splits.

A prompt is on the tuning side or on the reporting side by the hash of its text: for ever, whatever
else is in the file and in which order, and the same sentence is never on both.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench.core.params import UserError

PromptKind = Literal["text", "jsonl", "hpdv2", "drawbench", "parti", "geneval"]
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
        found = READERS[kind or _guess(path)](path)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(f"the prompts in {path} cannot be read: {error}") from error
    prompts = [PromptEntry(p.text.strip(), p.category) for p in found if p.text.strip()]
    if not prompts:
        raise UserError(f"{path} holds no prompts")
    return prompts


def split(prompts: Sequence[str], which: str, tune_share: float = TUNE_SHARE) -> list[str]:
    """The prompts of a split, "tune" or "report", in the given order."""
    if which not in ("tune", "report"):
        raise UserError(f"prompts are split into tune and report, not '{which}'")
    return [p for p in prompts if (_place(p) < tune_share) == (which == "tune")]


def _place(prompt: str) -> float:
    """A number in [0, 1) that only depends on the words."""
    words = " ".join(prompt.lower().split())
    number = int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "big")
    return number / 2**64


def _guess(path: Path) -> PromptKind:
    if path.is_dir() or path.suffix == ".json":
        return "hpdv2"
    if path.suffix == ".tsv":
        return "parti"
    if path.suffix == ".csv":
        return "drawbench"
    if path.suffix != ".jsonl":
        return "text"
    first = _records(path)[:1]
    return "geneval" if first and {"tag", "include"} <= set(first[0]) else "jsonl"


def _records(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file."""
    out = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        record = json.loads(line)
        if not isinstance(record, dict):
            raise ValueError(f"line {number} is no JSON object")
        out.append(record)
    return out


def _text(path: Path) -> list[PromptEntry]:
    return [PromptEntry(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _jsonl(path: Path) -> list[PromptEntry]:
    out = []
    for record in _records(path):
        known = [k for k in ("prompt", "text", "caption") if isinstance(record.get(k), str)]
        if not known:
            raise ValueError(f"no prompt, text or caption in {sorted(record)}")
        out.append(PromptEntry(record[known[0]], str(record.get("category", ""))))
    return out


def _hpdv2(path: Path) -> list[PromptEntry]:
    """A JSON list of sentences per style; the file's name is the style."""
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    out = []
    for file in files:
        lines = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
            raise ValueError(f"{file.name} is no list of sentences")
        out += [PromptEntry(line, file.stem) for line in lines]
    return out


def _table(path: Path, delimiter: str, text: str, category: str) -> list[PromptEntry]:
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter=delimiter))
    if rows and text not in rows[0]:
        raise ValueError(f"no column '{text}' among {', '.join(map(str, rows[0]))}")
    return [PromptEntry(row[text] or "", row.get(category) or "") for row in rows]


def _drawbench(path: Path) -> list[PromptEntry]:
    return _table(path, ",", "Prompts", "Category")


def _parti(path: Path) -> list[PromptEntry]:
    return _table(path, "\t", "Prompt", "Category")


def _geneval(path: Path) -> list[PromptEntry]:
    return [PromptEntry(record["prompt"], str(record["tag"])) for record in _records(path)]


READERS: dict[PromptKind, Callable[[Path], list[PromptEntry]]] = {
    "text": _text,
    "jsonl": _jsonl,
    "hpdv2": _hpdv2,
    "drawbench": _drawbench,
    "parti": _parti,
    "geneval": _geneval,
}
