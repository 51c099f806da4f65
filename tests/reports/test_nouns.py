"""What a sample is called is the task's word: a mixture has points and no images."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from bench.core import plugins
from reports.data.marks import summary_of
from reports.data.run import load_run
from reports.html import write_page
from tests.worlds.made_run import make_run

DRAWN = ("digits", "shapes", "imagenet256", "text-to-image")


def words(folder: Path) -> str:
    """What a reader sees, without scripts and styles."""
    text = write_page(folder).read_text(encoding="utf-8")
    text = re.sub(r"<(script|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    return re.sub(r"<[^>]+>", " ", text)


@pytest.mark.parametrize(("task", "noun", "other"), [
    ("gmm-paper", "point", "image"), ("digits", "image", "point"),
])  # fmt: skip
def test_a_page_has_the_word_of_its_task(tmp_path: Path, task: str, noun: str, other: str) -> None:
    folder = make_run(tmp_path / "run", tasks=(task,), troubles=False)
    text = words(folder)
    assert f"per {noun}" in text and f"In all, n {noun}s cost" in re.sub(r"\s+", " ", text)
    assert not re.findall(rf"\bper {other}\b|\b{other}s on\b|\bover {other}s\b", text)


def test_several_tasks_have_samples_in_common(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", troubles=False)
    summary = summary_of(load_run(folder))
    assert summary.noun() == "sample"
    assert {p.task: summary.noun(p) for p in summary.problems} == {
        "gmm-paper": "point",
        "digits": "image",
    }
    text = re.sub(r"\s+", " ", words(folder))
    assert "In all, n samples cost" in text and "per image" in text and "per point" in text


def test_a_run_from_before_has_samples(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", tasks=("digits",), troubles=False)
    cells = pd.read_parquet(folder / "cells.parquet").drop(columns="task_noun")
    cells.to_parquet(folder / "cells.parquet")
    assert "per sample" in words(folder) and "per image" not in words(folder)


@pytest.mark.parametrize("name", plugins.points("tasks"))
def test_tasks_that_draw_pictures_say_so(name: str) -> None:
    noun = plugins.load("tasks", name).noun
    assert (noun == "image") is (name in DRAWN), noun
