"""Text as it was written: UTF-8, lines that end where lines end, one JSON object a line.

`str.splitlines` also breaks at U+2028, U+0085 and form feeds, which stand inside sentences; a byte
order mark is no letter.  Everything here raises ValueError with the line, for the caller to name
the file.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LINE_END = re.compile(r"\r\n|\r|\n")
MARK = "\ufeff"
"""The byte order mark."""


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, without the mark that some editors put first."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(f"line {line} is not UTF-8: save the file as UTF-8") from error


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that hold anything, with their numbers; blanks and tabs around them are kept."""
    for number, line in enumerate(LINE_END.split(text), 1):
        if line.startswith(MARK):
            raise ValueError(
                f"line {number} begins with a byte order mark: files were joined, take it out"
            )
        if line.strip(" \t"):
            yield number, line


def json_lines(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The object of every line, with the number of the line."""
    for number, line in numbered_lines(text):
        try:
            found = parse_json(line)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error
        if not isinstance(found, dict):
            raise ValueError(f"line {number} is no JSON object")
        yield number, found


def parse_json(text: str) -> Any:
    """JSON in which no key stands twice, of which Python would silently keep the last."""
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"this is no JSON ({error})") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key '{twice}' stands twice")
    return found


KINDS = {type(None): "missing", list: "a list", dict: "an object", bool: "a truth value"}


def sentence(value: object, where: str) -> str:
    """A prompt as it stands, not a letter changed; raises where it is no sentence."""
    if not isinstance(value, str):
        raise ValueError(f"{where}: the prompt is {KINDS.get(type(value), 'a number')}")
    if not value.strip():
        raise ValueError(f"{where}: the prompt is empty")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ValueError(f"{where}: the prompt holds half a character (a lone surrogate)")
    return value


def one_form(text: str) -> str:
    """The canonical composition (NFC): an accent of its own or within its letter is the same."""
    return unicodedata.normalize("NFC", text)
