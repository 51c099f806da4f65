"""What people need beside the code says what the code says, and is in the form that is expected."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TEMPLATES = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def test_the_citation_is_of_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "title", "message", "type", "authors"} <= cited.keys()
    assert (cited["title"], cited["version"]) == (PROJECT["name"], PROJECT["version"])
    assert cited["license"] == PROJECT["license"] and cited["keywords"] == PROJECT["keywords"]


def test_templates_are_forms_with_questions_of_their_own():
    assert {path.stem for path in TEMPLATES} == {"bug", "method", "reproduction"}
    for path in TEMPLATES:
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert form["name"] and form["description"]
        ids = [field["id"] for field in form["body"]]
        assert len(ids) == len(set(ids))
        assert any(field.get("validations", {}).get("required") for field in form["body"])


def test_the_package_says_who_what_and_for_whom():
    assert {"description", "readme", "license", "authors", "keywords", "classifiers"} <= set(
        PROJECT
    )
    lowest = re.findall(r"3\.\d+", PROJECT["requires-python"])
    assert f"Programming Language :: Python :: {lowest[0]}" in PROJECT["classifiers"]
    assert importlib.metadata.version(PROJECT["name"]) == PROJECT["version"]
    assert all((ROOT / name).is_file() for name in [PROJECT["readme"], *PROJECT["license-files"]])


def test_contributing_names_the_schema_where_it_is():
    from bench.record.columns import CELLS, SCHEMA_VERSION
    from sweeps.sweep_file import SCHEMA

    told = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for words in ("`SCHEMA_VERSION` in `bench/record/columns.py`", "`SCHEMA` in `sweeps/"):
        assert words in told
    assert "schema" in CELLS and isinstance(SCHEMA_VERSION, int) and isinstance(SCHEMA, int)


def test_the_readme_has_a_row_for_every_suite():
    from bench.plan.suite import shipped

    told = (ROOT / "README.md").read_text(encoding="utf-8").partition("## What is counted")[0]
    rows = " ".join(re.findall(r"^\| (`.*?) \|", told, re.MULTILINE))
    first, *others = re.findall(r"`([^`]+)`", rows)
    named = {first, *others} | {f"paper-imagenet{tail}" for tail in others if tail[0] == "-"}
    assert set(shipped()) <= named
