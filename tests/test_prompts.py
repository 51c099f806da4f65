"""Prompt files give back the sentences that were written, letter by letter, or name the line."""

import csv
import io
import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.core.params import UserError
from bench.prompts import identity, read_prompts, read_set, split

PARTI = "Prompt\tCategory\tChallenge\tNote\n"
ROWS = [
    '"G I G G L E" painted as graffiti on a wall',
    'the word "WOMBAT" on a white wall',
    "a plush monkey",
    'a burger patty. "COFFEE" written on it',
]


def test_a_quotation_mark_in_a_tsv_is_a_letter(tmp_path):
    path = tmp_path / "PartiPrompts.tsv"
    path.write_text(PARTI + "".join(f"{row}\tArtifacts\tWriting & Symbols\t\n" for row in ROWS))
    assert read_prompts(path) == ROWS


def test_a_mark_at_the_head_of_a_file_is_no_letter(tmp_path):
    for name, text in {
        "a.txt": "a cat\n",
        "a.jsonl": '{"prompt": "a cat"}\n',
        "a.json": '["a cat"]',
        "a.csv": "Prompts,Category\na cat,x\n",
        "a.tsv": PARTI + "a cat\tx\t\t\n",
    }.items():
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert read_prompts(tmp_path / name) == ["a cat"], name


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.jsonl", '{"prompt": "a"}\n{"prompt": ["a", "b"]}', "line 2: the prompt is a list"),
        ("a.jsonl", '{"prompt": "a"}\n{"prompt": ["a"], "text": "b"}', "line 2: .* a list"),
        ("a.jsonl", '{"prompt": "a"}\n{"prompt": ""}', "line 2: the prompt is empty"),
        ("a.jsonl", '{"prompt": "a"}\n{"prompt": null}', "line 2: the prompt is missing"),
        ("a.jsonl", '{"prompt": "a"}\n{"seed": 1}', "line 2: no prompt"),
        ("a.jsonl", '{"prompt": "a", "category": ["b"]}', "line 1: the category"),
        ("g.jsonl", '{"tag": "x", "include": [], "prompt": ["a"]}', "line 1: .* a list"),
        ("a.json", '["a", ["b"]]', "sentence 2: the prompt is a list"),
        ("a.json", '["a", ""]', "sentence 2: the prompt is empty"),
        ("a.csv", "Prompts,Category\na cat, sitting,x\n", "line 2 has 3 cells"),
        ("a.csv", "Prompts,Category\na cat\n", "line 2 has 1 cells"),
        ("a.csv", 'Prompts,Category\n"a cat,x\nthe "dog",y\n', "line 3"),
        ("a.csv", "Prompts,Prompts\na,b\n", "more than one column"),
        ("a.csv", 'Prompts,Category\n,x\n', "line 2: the prompt is empty"),
        ("a.tsv", PARTI + "a cat\tx\n", "line 2 has 2 cells"),
        ("a.tsv", PARTI + '"a ""b"""\tx\t\t\n', "line 2: its quotation marks"),
        ("a.txt", 'a cat\n{"prompt": "a dog"}\n', "line 2 is JSON"),
        ("a.txt", "a cat\n\ufeffa dog\n", "line 2 begins with a byte order mark"),
        ("a.yaml", "a cat\n", "'.yaml' is none of"),
    ],
)  # fmt: skip
def test_what_is_no_sentence_is_refused_by_its_line(name, text, reason, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=reason) as caught:
        read_set(tmp_path / name)
    assert name in str(caught.value)


def test_what_is_not_utf8_is_refused_by_its_line(tmp_path):
    (tmp_path / "a.txt").write_bytes("a cat\na caf\u00e9\n".encode("latin-1"))
    with pytest.raises(UserError, match="line 2 is not UTF-8"):
        read_prompts(tmp_path / "a.txt")
    (tmp_path / "b.txt").write_text("a cat\n", encoding="utf-16")
    with pytest.raises(UserError, match="line 1 is not UTF-8"):
        read_prompts(tmp_path / "b.txt")


def test_endings_in_capitals_are_the_same_kind(tmp_path):
    (tmp_path / "A.JSONL").write_text('{"prompt": "a cat"}\n')
    assert read_prompts(tmp_path / "A.JSONL") == ["a cat"]


def test_hidden_files_are_no_styles(tmp_path):
    (tmp_path / "anime.json").write_text('["a cat"]')
    (tmp_path / "._anime.json").write_text("\x00")
    assert read_prompts(tmp_path) == ["a cat"]


@given(st.text(min_size=1))
def test_both_unicode_forms_of_a_sentence_are_on_one_side(prompt):
    forms = {unicodedata.normalize(form, prompt) for form in ("NFC", "NFD")} | {prompt}
    assert len({identity(form) for form in forms}) == 1
    assert len(split(sorted(forms), "tune")) in (0, len(forms))


# -- what is written reads back -------------------------------------------------------------------

SENTENCES = st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=6)
LOOKING_LIKE_TABLES = st.lists(
    st.text('ab"\t\n\r, \u2028', min_size=1).filter(str.strip), min_size=1, max_size=6
)


def json_lines(said):
    return "".join(json.dumps({"prompt": s}, ensure_ascii=False) + "\n" for s in said)


def table(delimiter, heading, quoting):
    def write(said):
        out = io.StringIO(newline="")
        writer = csv.writer(out, delimiter=delimiter, quoting=quoting)
        writer.writerows([heading, *([s, *["x"] * (len(heading) - 1)] for s in said)])
        return out.getvalue()

    return write


def raw_tsv(said):
    return PARTI + "".join(f"{s}\tx\t\t\n" for s in said)


NARROW, WIDE = ["Prompt"], ["Prompt", "Category"]
FORMATS = {
    "a.jsonl": json_lines,
    "b.json": lambda said: json.dumps(said, ensure_ascii=False),
    "c.csv": table(",", ["Prompts", "Category"], csv.QUOTE_MINIMAL),
    "d.csv": table(",", ["Prompts"], csv.QUOTE_ALL),
    "e.tsv": raw_tsv,
    "f.tsv": table("\t", WIDE, csv.QUOTE_MINIMAL),
    "g.tsv": table("\t", NARROW, csv.QUOTE_MINIMAL),
    "h.tsv": table("\t", WIDE, csv.QUOTE_ALL),
}


@pytest.mark.parametrize("name", FORMATS)
@given(said=SENTENCES | LOOKING_LIKE_TABLES)
@settings(max_examples=150, deadline=None)
def test_written_sentences_read_back_or_are_refused(name, said, tmp_path_factory):
    path = tmp_path_factory.mktemp("prompts") / name
    path.write_bytes(FORMATS[name](said).encode())
    try:
        assert read_prompts(path) == said
    except UserError:
        # Only the formats that cannot hold every sentence may refuse any.
        assert name.endswith("tsv")


def plain(text):
    return text == text.strip(" \t\r\n\ufeff") and text.strip() and not set("\r\n") & set(text)


@given(said=st.lists(st.text(min_size=1).filter(plain), min_size=1, max_size=6))
@settings(max_examples=200, deadline=None)
def test_lines_of_text_read_back(said, tmp_path_factory):
    path = tmp_path_factory.mktemp("prompts") / "a.txt"
    path.write_bytes("\n".join(said).encode())
    try:
        assert read_prompts(path) == said
    except UserError as error:
        assert "JSON" in str(error)
