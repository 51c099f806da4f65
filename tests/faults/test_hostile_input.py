"""Input of anybody: read, or refused with one sentence; never a traceback, a hang, or a way out."""

import json
import random
import time

import pytest

from bench.core.documents import read_yaml, yaml
from bench.core.names import printable, safe_name
from bench.core.params import UserError
from bench.plan.suite import build_suite
from bench.reading.text import parse_json
from tests.faults.fuzz import BAD, KINDS, fuzz
from tests.faults.watch import Watch
from tests.worlds.cheap_run import CONTENT, run


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        ("suites", 300), ("names", 300), ("store files", 20),
        ("pictures", 40), ("arrays", 100), ("prompts", 100), ("archives", 20),
    ],
)  # fmt: skip
def test_mutated_input_is_read_or_refused(kind, number):
    share = KINDS[kind].share
    (ends,) = fuzz(round(number / share), seed=1, kinds=(kind,)).values()
    assert not any(ends[bad] for bad in BAD), ends
    assert ends["read"] and ends["refused" if kind != "store files" else "read"]


def test_the_watch_sees_what_is_written_elsewhere(tmp_path):
    """Opened, made, renamed, removed; not what is read, and not what is allowed."""
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (tmp_path / "there").write_text("x")
    watch = Watch(allowed)
    with watch.watching():
        (allowed / "a").write_text((tmp_path / "there").read_text())
        (allowed / "a").rename(allowed / "b")
    assert watch.outside == []
    for deed in (
        lambda: (allowed / "../new").write_text("x"),
        lambda: (allowed / "b").rename(tmp_path / "moved"),
        lambda: (tmp_path / "made").mkdir(),
        lambda: (tmp_path / "there").unlink(),
    ):
        before = len(watch.outside)
        with watch.watching():
            deed()
        assert len(watch.outside) > before


def test_an_object_of_many_keys_is_read_at_once():
    text = json.dumps({f"k{k}": 0 for k in range(100_000)})
    began = time.process_time()
    assert len(parse_json(text)) == 100_000
    with pytest.raises(ValueError, match="'k7' stands twice"):
        parse_json(text[:-1] + ', "k7": 1}')
    assert time.process_time() - began < 5


BOMB = "\n".join(
    ["a0: &a0 [1, 1]", *(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 12))]
)


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        "&a [*a]",
        "a: " + "[" * 500,
        "a: " + "[" * 5000 + "]" * 5000,
        "n: " + "9" * 5000,
        "d: 2001-13-41",
        "x: !!timestamp a",
        "!!python/object/apply:os.system ['true']",
        "x" * (2**24 + 1),
    ],
)
def test_documents_beyond_measure_are_no_documents(text):
    with pytest.raises(yaml.YAMLError):
        read_yaml(text)


def test_aliases_are_read_within_measure():
    assert read_yaml("a: &x [1, 2]\nb: *x\nc: {<<: {d: 3}}") == {
        "a": [1, 2], "b": [1, 2], "c": {"d": 3},
    }  # fmt: skip


@pytest.mark.parametrize(
    "name", ["..", ".", "../../x", "a/b", "a\\b", "", " ", "a\n", "\x1b[2J", "presets", "x" * 300]
)
def test_a_run_is_one_folder_below_the_root(tmp_path, name):
    with pytest.raises(UserError, match="name"):
        run(tmp_path / "root", name=name)
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize("name", ["quickstart", "my run", "a.b-c_d", "тест"])
def test_other_names_are_kept(name):
    assert safe_name(name) == build_suite({**CONTENT, "name": name}).name == name


def test_control_characters_are_written_out():
    assert printable("a\x1b[2Jb\tc\nd\x9b") == "a\\x1b[2Jb\tc\nd\\x9b"
    text = "".join(map(chr, random.Random(0).sample(range(256), 256)))
    assert not any(ch < " " and ch not in "\t\n" for ch in printable(text))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"blocks": 5}, "should be a list"),
        ({"blocks": [5]}, "should be a list"),
        ({"blocks": {"a": 1}}, "should be a list"),
        ({"seeds": 10**9}, "more than the 1000000"),
    ],
)
def test_suites_of_other_shapes_are_refused(change, says):
    with pytest.raises(UserError, match=says):
        build_suite({**CONTENT, **change})
