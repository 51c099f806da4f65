"""Records and pairs: a picture has the sentence that was written for it, or an error says why."""

import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.core.params import UserError
from bench.reading.records import read_pairs, recorded_prompts, strays, write_pairs

NAMES = ["0.png", "1.png"]


def records(folder, text):
    (folder / "metadata.jsonl").write_bytes(text.encode())
    return recorded_prompts(folder, NAMES)


def lines(*objects):
    return "".join(json.dumps(o, ensure_ascii=False) + "\n" for o in objects)


GOOD = [{"file_name": "1.png", "prompt": "a dog"}, {"file_name": "0.png", "text": "a cat"}]


def test_records_go_by_name(tmp_path):
    assert recorded_prompts(tmp_path, NAMES) is None
    assert records(tmp_path, lines(*GOOD)) == ["a cat", "a dog"]
    assert records(tmp_path, "\ufeff" + lines(*GOOD).replace("\n", "\r\n")) == ["a cat", "a dog"]
    assert records(tmp_path, lines({"file_name": "0.png"}, {"file_name": "1.png"})) is None
    assert records(tmp_path, lines({**GOOD[0], "file_name": "./1.png"}, GOOD[1]))[1] == "a dog"


def test_line_separators_inside_a_sentence_end_no_line(tmp_path):
    odd = "a\u2028cat\u2029 on\x85a\x0bmat\x0c.\x1c"
    assert records(tmp_path, lines(GOOD[0], {"file_name": "0.png", "prompt": odd}))[0] == odd


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (lines(GOOD[0]), "0.png has no prompt"),
        (lines(GOOD[0], {"file_name": "0.png"}), "line 2: 0.png has no prompt"),
        (lines(GOOD[0], {"file_name": "0.png", "prompt": None}), "line 2: the prompt is missing"),
        (lines(GOOD[0], {"file_name": "0.png", "prompt": ["a", "b"]}), "line 2: .* is a list"),
        (lines(GOOD[0], {"file_name": "0.png", "prompt": " "}), "line 2: the prompt is empty"),
        (lines(GOOD[0], {"prompt": "a cat"}), "line 2: there is no file_name"),
        (lines(*GOOD, GOOD[0]), "line 3: 1.png stands twice"),
        (lines(GOOD[0]) + '["0.png", "a cat"]', "line 2 is no JSON object"),
        (lines(GOOD[0]) + "\ufeff" + lines(GOOD[1]), "line 2 begins with a byte order mark"),
        ('{"file_name": "0.png", "prompt": "a", "prompt": "b"}', "'prompt' stands twice"),
        ('{"file_name": "0.png", "prompt": "\\ud800"}', "line 1: .* half a character"),
        (lines(GOOD[0]) + "[" * 100_000, "line 2: this is no JSON"),
    ],
)
def test_records_that_leave_a_picture_without_its_sentence_are_refused(text, reason, tmp_path):
    with pytest.raises(UserError, match=reason) as caught:
        records(tmp_path, text)
    assert "metadata.jsonl" in str(caught.value)


def test_records_of_pictures_that_are_not_there_are_told(tmp_path):
    extra = {"file_name": "7.png", "prompt": "a hen"}
    assert records(tmp_path, lines(*GOOD, extra)) == ["a cat", "a dog"]
    assert strays(tmp_path, NAMES) == ["7.png"]


def test_names_are_the_same_in_both_unicode_forms(tmp_path):
    name = "caf\u00e9.png"
    (tmp_path / "metadata.jsonl").write_text(lines({"file_name": name, "prompt": "a cup"}))
    assert recorded_prompts(tmp_path, [unicodedata.normalize("NFD", name)]) == ["a cup"]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("0.png,a cat\n", "1.png has no prompt"),
        ("0.png,a cat\n1.png,a dog\n2.png,a hen\n", "line 4: there is no picture 2.png"),
        ("0.png,a cat\n1.png,a dog\n1.png,a hen\n", "line 4: 1.png stands twice"),
        ("0.png,a cat, sitting\n1.png,a dog\n", "line 2 has 3 cells"),
        ('0.png,"a cat\n1.png,a dog\n', "line 3: unexpected end"),
    ],
)
def test_pairs_have_one_line_for_each_picture(rows, reason, tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("picture,prompt\n" + rows)
    with pytest.raises(UserError, match=reason):
        read_pairs(path, NAMES)


SENTENCES = st.text(min_size=1).filter(str.strip)
ALL_LETTERS = st.text(st.characters(), min_size=1)  # lone surrogates, too


@given(
    said=st.lists(SENTENCES | ALL_LETTERS, min_size=1, max_size=5),
    ending=st.sampled_from(["csv", "jsonl"]),
)
@settings(max_examples=200, deadline=None)
def test_written_pairs_read_back_or_are_refused(said, ending, tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs") / f"pairs.{ending}"
    names = [f"{k}.png" for k in range(len(said))]
    try:
        write_pairs(path, names, said)
        assert read_pairs(path, names) == said
    except UserError:
        assert any(not s.strip() or not s.isprintable() for s in said)


@given(
    said=st.lists(SENTENCES, min_size=1, max_size=5), ascii_only=st.booleans(), mark=st.booleans()
)
@settings(max_examples=200, deadline=None)
def test_written_records_read_back(said, ascii_only, mark, tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    names = [f"{k}.png" for k in range(len(said))]
    rows = [
        json.dumps({"file_name": name, "prompt": text}, ensure_ascii=ascii_only)
        for name, text in zip(names, said, strict=True)
    ]
    text = "\ufeff" * mark + "\n".join(rows[::-1])
    (folder / "metadata.jsonl").write_bytes(text.encode())
    assert recorded_prompts(folder, names) == said
