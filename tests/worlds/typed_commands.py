"""What pages and files tell their readers to type, and whether it would be taken.

Nothing is run here.  `checked` holds a command against what would read it: the command line's own
parser and the registered names for `bench`, the module's parser for `python`, the Makefile for
`make`, the extras of pyproject.toml for `pip`.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import runpy
import shlex
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from bench.cli.main import app
from bench.core import plugins
from bench.core.params import UserError, build, parse_name
from bench.plan.binding import STRENGTH
from bench.plan.suite import load_suite

ROOT = Path(__file__).parents[2]
AND_SO_ON = "..."
BEHIND_ANOTHER = ("&&", "|", ";")
ASSIGNMENT = re.compile(r"[A-Z_]+=\S*")
PLACEHOLDER = re.compile(r"[A-Z]{3,}")

Words = tuple[str, ...]
Refused = typer.BadParameter.__mro__[2]
"""What the parser raises for any misuse; typer brings a parser of its own and does not name it."""


class Wrong(Exception):
    """What would not take a command, and why."""


# -- what is written -----------------------------------------------------------------------------


def commands(text: str) -> Iterator[Words]:
    """The commands of a shell text, without comments and the variables set before them."""
    for line in text.replace("\\\n", " ").splitlines():
        yield from _of_line(line)


def _of_line(line: str) -> Iterator[Words]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&;|")
    lexer.whitespace_split, own = True, list[str]()
    for word in [*lexer, ";"]:
        if word in BEHIND_ANOTHER:
            if own:
                yield tuple(own)
            own = []
        elif (own or not ASSIGNMENT.fullmatch(word)) and word != AND_SO_ON:
            own.append(word)


# -- what would read it ----------------------------------------------------------------------------


def checked(words: Words) -> None:
    """Nothing, or what is wrong with a command."""
    program = Path(words[0]).name
    if program not in PROGRAMS:
        raise Wrong(f"'{words[0]}' is no program that a reader has")
    PROGRAMS[program](words[1:])


def names_a_verb(words: Words) -> bool:
    """Whether prose only names a verb, as in "`bench plan` shows"."""
    return len(words) <= 2 or (len(words) == 3 and words[1] in ("check", "prepare", "track"))


def _bench(words: Words) -> None:
    command, rest = typer.main.get_command(app), list(words)
    while isinstance(command, TyperGroup):
        if not rest or rest[0] not in command.commands:
            raise Wrong(f"there is no verb {shlex.join(['bench', *rest[:1]])}")
        command, rest = command.commands[rest[0]], rest[1:]
    try:
        context = command.make_context(command.name, rest)
    except Refused as error:
        raise Wrong(error.format_message()) from error
    for option, group in NAMED.items():
        given = context.params.get(option) or ()
        for text in [given] if isinstance(given, str) else given:
            _name(group, text)
    _suite(context.params.get("suite"))


NAMED = {"task": "tasks", "reward": "rewards", "method": "methods", "methods": "methods"}
"""Options of verbs that take a name with parameters."""

INDIVIDUAL = re.compile(r"\.py:|@")
"""A class of a reader's file, and a preset of a reader's sweep."""


OWN = ("mine", "my-method", "my-task")
"""Names that pages give to what a reader makes."""


def _name(group: plugins.Group, text: str) -> None:
    """A registered name, with parameters that it has and in their range."""
    name, values = parse_name(text)
    if INDIVIDUAL.search(text) or name in OWN or PLACEHOLDER.fullmatch(text):
        return
    try:
        cls = plugins.load(group, name)
        if group == "rewards":
            values.pop(STRENGTH, None)
        build(cls.Params, values, name)
    except UserError as error:
        raise Wrong(str(error)) from error


def _suite(name: str | None) -> None:
    if name is None or PLACEHOLDER.fullmatch(name):
        return
    try:
        load_suite(name)
    except UserError as error:
        raise Wrong(str(error)) from error


class _Taken(Exception):
    """Raised in place of the work of a program that has read its arguments."""


def _python(words: Words) -> None:
    """`python -m MODULE ...` or `python FILE ...`: it is there, and its parser takes the rest."""
    module = words[0] == "-m"
    name, arguments = (words[1], words[2:]) if module else (words[0], words[1:])
    found = importlib.util.find_spec(name) if module else None
    file = Path(found.origin or "") if found else ROOT / name
    if (module and found is None) or not file.is_file():
        raise Wrong(f"there is no module or file '{name}'")
    if "ArgumentParser(" in file.read_text(encoding="utf-8"):
        _reads(file, arguments)
    elif not all(word.isdigit() for word in arguments):
        raise Wrong(f"{name} reads numbers only, not {arguments}")


def _reads(file: Path, arguments: Words) -> None:
    real = argparse.ArgumentParser.parse_args

    def taken(self: argparse.ArgumentParser, *_: object, **__: object) -> None:
        real(self, list(arguments))
        raise _Taken

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", taken)
        patch.setattr(sys, "argv", [str(file), *arguments])
        try:
            runpy.run_path(str(file), run_name="__main__")
        except _Taken:
            return
        except SystemExit as error:
            raise Wrong(f"{file.name} does not take {shlex.join(arguments)}") from error


def _make(words: Words) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    for word in words:
        if word not in targets:
            raise Wrong(f"the Makefile has no target '{word}'")


def _pip(words: Words) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for word in words:
        name, _, extras = word.rstrip("]").partition("[")
        asked = set(filter(None, extras.split(",")))
        if asked and name not in (project["name"], "."):
            raise Wrong(f"'{name}' is not the name of this package")
        if unknown := asked - set(project["optional-dependencies"]):
            raise Wrong(f"there are no extras {sorted(unknown)}")


PROGRAMS: dict[str, Callable[[Words], None]] = {
    "bench": _bench,
    "python": _python,
    "python3": _python,
    "make": _make,
    "pip": _pip,
}
