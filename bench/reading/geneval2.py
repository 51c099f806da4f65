"""GenEval 2 from a local copy: prompts with the questions by which pictures are judged.

A JSON object a line (arXiv 2512.16853): `prompt`, `atom_count` (of how many primitives it is
composed), `vqa_list` (pairs of question and answer) and `skills` (one for each pair).  Its data may
not be used commercially, so none of it is shipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.reading.text import json_lines, read_text, sentence

KEYS = frozenset({"prompt", "atom_count", "vqa_list", "skills"})


@dataclass(frozen=True)
class Question:
    """What is asked of the picture, the right answer, and the skill that it tests."""

    text: str
    answer: str
    skill: str


@dataclass(frozen=True)
class ComposedPrompt:
    """A prompt of so many atoms; "a" is asked for, too, but is no atom."""

    text: str
    atoms: int
    questions: tuple[Question, ...]


def read_geneval2(path: Path) -> list[ComposedPrompt]:
    """All prompts, in order; raises ValueError with the line."""
    return list(_prompts(read_text(path)))


def _prompts(text: str) -> Iterator[ComposedPrompt]:
    for number, record in json_lines(text):
        where = f"line {number}"
        missing = sorted(KEYS - set(record))
        if missing:
            raise ValueError(f"{where}: there is no {' and no '.join(missing)}")
        atoms = record["atom_count"]
        if type(atoms) is not int or atoms < 1:
            raise ValueError(f"{where}: the atom_count is {atoms!r}, no positive number")
        questions = tuple(_questions(record["vqa_list"], record["skills"], where))
        yield ComposedPrompt(sentence(record["prompt"], where), atoms, questions)


def _questions(pairs: Any, skills: Any, where: str) -> Iterator[Question]:
    if not isinstance(pairs, list) or not isinstance(skills, list) or not pairs:
        raise ValueError(f"{where}: vqa_list and skills must be lists of the same length")
    if len(pairs) != len(skills):
        raise ValueError(f"{where}: {len(pairs)} questions and {len(skills)} skills")
    for pair, skill in zip(pairs, skills, strict=True):
        words = [*pair, skill] if isinstance(pair, list) else []
        if len(words) != 3 or not all(isinstance(word, str) and word for word in words):
            raise ValueError(f"{where}: {pair!r} is no question with its answer and skill")
        yield Question(*words)
