"""Every command of the pages is one that would be taken, and the cheap ones are run.

Those in blocks have a row in `tried.py`; those in prose are read only.  A page is one test, since
its commands find what those above them made.
"""

import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.cli.main import app
from tests.pages.desk import ROOT, laid_out
from tests.pages.tried import TRIED, Plan, Run
from tests.worlds.fences import SHELL, blocks, inline
from tests.worlds.typed_commands import PROGRAMS, Wrong, checked, commands, names_a_verb

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def typed(page: Path) -> list[tuple[str, ...]]:
    """The commands of a page's blocks."""
    text = page.read_text(encoding="utf-8")
    return [words for block in blocks(text, *SHELL) for words in commands(block)]


def mentioned(page: Path) -> list[tuple[str, ...]]:
    """The commands in a page's prose; verbs by themselves are words."""
    starts = tuple(f"{program} " for program in PROGRAMS)
    texts = [t for t in inline(page.read_text(encoding="utf-8")) if t.startswith(starts)]
    found = [words for text in texts for words in commands(text)]
    return [words for words in found if words[0] != "bench" or not names_a_verb(words)]


def attempts(page: Path) -> list[tuple[str, Run | Plan]]:
    """What of a page is run or planned; what a later page has too is run there."""
    later = {words for other in PAGES[PAGES.index(page) + 1 :] for words in typed(other)}
    own = [shlex.join(words) for words in typed(page) if words not in later]
    rows = [(text, TRIED.get(text)) for text in own]
    return [(text, how) for text, how in rows if isinstance(how, Run | Plan)]


ALL = [(page, words) for page in PAGES for words in [*typed(page), *mentioned(page)]]


@pytest.mark.parametrize(("page", "words"), ALL, ids=[f"{p.name}: {shlex.join(w)}" for p, w in ALL])
def test_every_command_would_be_taken(page, words):
    checked(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_block_is_run_or_says_why_not(page):
    assert not [text for text in map(shlex.join, typed(page)) if text not in TRIED]


def test_no_row_is_left_of_a_command_that_went():
    written = {shlex.join(words) for page in PAGES for words in typed(page)}
    assert not TRIED.keys() - written


TRY = [page for page in PAGES if attempts(page)]


@pytest.mark.parametrize("page", TRY, ids=lambda page: page.name)
def test_the_cheap_commands_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(laid_out(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("TILTBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TILTBENCH_ROOT", raising=False)
    for text, how in attempts(page):
        words = shlex.split(text)[1:]
        if isinstance(how, Plan):
            words = ["plan", *words[1:]]
        else:
            how.before(tmp_path)
            words += shlex.split(how.words)
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, f"{text}\n{done.output}\n{done.exception}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("bench rnu quickstart", "no verb"),
        ("bench run quikstart", "no suite or file"),
        ("bench run quickstart --adress auto", "No such option"),
        ("bench run -t digits -r", "requires an argument"),
        ("bench run -t digits -r template -m dps:guidence=2", "has no parameter 'guidence'"),
        ("bench run -t digit -r template -m dps", "unknown task"),
        ("bench study valu -t digits", "no verb"),
        ("python -m benchmarks.gpo", "no module"),
        ("python -m benchmarks.gpu --tinny", "does not take"),
        ("make tests", "no target"),
        ("pip install 'tiltbench[al]'", "no extras"),
        ("tiltbench run", "no program"),
    ],
)
def test_what_nobody_would_take_is_caught(text, says):
    (words,) = commands(text)
    with pytest.raises(Wrong, match=says):
        checked(words)


def test_commands_are_split_as_a_shell_does():
    text = "A=1 bench run x \\\n  -m 'a|b'  # why\nbench a && bench b ... | less\n"
    assert list(commands(text)) == [
        ("bench", "run", "x", "-m", "a|b"), ("bench", "a"), ("bench", "b"), ("less",),
    ]  # fmt: skip
