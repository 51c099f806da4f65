"""GenEval 2 from local files of its documented form; none of its data is here."""

import json

import pytest

from bench.core.params import UserError
from bench.prompts import read_set
from bench.reading.geneval2 import Question, read_geneval2

RECORD = {
    "prompt": "two green cubes on a “table”",
    "atom_count": 4,
    "vqa_list": [
        ["How many cubes are in the image?", "two"],
        ["Are the cubes green?", "Yes"],
        ["Are there any cubes in the image?", "Yes"],
        ["Are the cubes on the table?", "Yes"],
        ["How many tables are in the image?", "one"],
    ],
    "skills": ["count", "attribute", "object", "position", "count"],
}


def written(tmp_path, **changes):
    path = tmp_path / "geneval2_data.jsonl"
    lines = [RECORD | {"prompt": "a cat", "atom_count": 1}, RECORD | changes]
    path.write_text(
        "\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\n", "utf-8"
    )
    return path


def test_prompts_and_questions_come_back_as_they_stand(tmp_path):
    first, second = read_geneval2(written(tmp_path))
    assert (second.text, second.atoms, len(second.questions)) == (RECORD["prompt"], 4, 5)
    assert second.questions[1] == Question("Are the cubes green?", "Yes", "attribute")
    assert first.text == "a cat"


def test_a_prompt_file_of_this_form_is_known_by_its_keys(tmp_path):
    found = read_set(written(tmp_path))
    assert [(p.text, p.category) for p in found] == [("a cat", "1"), (RECORD["prompt"], "4")]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"atom_count": "4"}, "atom_count is '4'"),
        ({"atom_count": True}, "atom_count is True"),
        ({"atom_count": 0}, "atom_count is 0"),
        ({"skills": ["count"]}, "5 questions and 1 skills"),
        ({"vqa_list": [], "skills": []}, "must be lists"),
        ({"vqa_list": "abc", "skills": [1, 2, 3]}, "must be lists"),
        ({"vqa_list": [["Is it?"]], "skills": ["object"]}, "no question"),
        ({"vqa_list": ["Yes"], "skills": ["object"]}, "no question"),
        ({"vqa_list": [["Is it?", 1]], "skills": ["object"]}, "no question"),
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": ["a"]}, "prompt is a list"),
    ],
)
def test_what_is_no_record_is_refused_by_its_line(tmp_path, changes, said):
    with pytest.raises(UserError, match=f"line 2: .*{said}"):
        read_set(written(tmp_path, **changes))


def test_a_missing_key_is_named(tmp_path):
    path = tmp_path / "geneval2_data.jsonl"
    path.write_text(json.dumps({k: v for k, v in RECORD.items() if k != "skills"}))
    with pytest.raises(UserError, match="line 1: there is no skills"):
        read_set(path)
