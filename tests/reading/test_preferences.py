"""People's choices from files: read as they stand, or refused by line."""

import json

import pytest

from bench.core.params import UserError
from bench.reading.preferences import Preference, read_preferences

NAMES = ["a.png", "b.png", "sub/é.png"]
GOOD = [
    {"prompt": 'a "red", fox', "first": "a.png", "second": "b.png", "preferred": "first"},
    {"prompt": "b", "first": "sub/e\u0301.png", "second": "./a.png", "preferred": "tie"},
]


def written(folder, rows, ending):
    import csv

    path = folder / f"preferences.{ending}"
    if ending == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows))
    else:
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, ["preferred", "second", "prompt", "first"])
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_choices_come_back_as_they_stand(tmp_path, ending):
    assert read_preferences(written(tmp_path, GOOD, ending), NAMES) == [
        Preference('a "red", fox', "a.png", "b.png", "first"),
        Preference("b", "sub/é.png", "a.png", "tie"),
    ]


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"preferred": "a.png"}, "preferred is 'a.png'"),
        ({"preferred": "First"}, "preferred is 'First'"),
        ({"second": "a.png"}, "the same picture"),
        ({"second": "c.png"}, "second: there is no picture 'c.png'"),
        ({"first": ""}, "first: there is no picture ''"),
        ({"prompt": " "}, "prompt is empty"),
    ],
)
def test_what_is_no_choice_is_refused_by_its_line(tmp_path, ending, changes, said):
    line = 3 if ending == "csv" else 2
    path = written(tmp_path, [GOOD[0], GOOD[0] | changes], ending)
    with pytest.raises(UserError, match=f"{path.name}.*line {line}: .*{said}"):
        read_preferences(path, NAMES)


def test_files_that_are_none_are_refused(tmp_path):
    for name, said in (("p.txt", "csv or .jsonl"), ("p.csv", "cannot be read")):
        with pytest.raises(UserError, match=said):
            read_preferences(tmp_path / name, NAMES)
    (tmp_path / "p.jsonl").write_text("\n")
    with pytest.raises(UserError, match="holds no preferences"):
        read_preferences(tmp_path / "p.jsonl", NAMES)
