"""What is exported: readable by who reads such files, the same every time, and harmless."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pandas as pd
import pytest

from reports.export import as_csv, escaped, export
from tests.reports.test_conditions_and_training import fitted
from tests.worlds.made_run import make_run
from tests.worlds.value_study import studied


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    run = make_run(folder / "run", rewards=("class-mixture", "inverse"))
    written = export(run, folder / "out")
    assert {p.name for p in (folder / "out").iterdir()} == {p.name for p in written}
    again = export(run, folder / "again")
    assert [p.read_bytes() for p in written] == [p.read_bytes() for p in again]
    return folder / "out"


def test_figures_are_drawings_that_other_programs_read(files: Path) -> None:
    drawings, papers = sorted(files.glob("*.svg")), sorted(files.glob("*.pdf"))
    # Two curves over all problems and a judge; of two problems the first screen and the fronts.
    assert len(papers) == 3 and len(drawings) == 3 + 2 * 2
    for path in drawings:
        assert ET.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert all(path.read_bytes().startswith(b"%PDF") for path in papers)


def test_the_csv_has_the_numbers_of_the_run(files: Path) -> None:
    table = pd.read_csv(files / "headline.csv")
    assert len(table) == 2 * 9 * 2 and {"frechet_mean", "frechet_half"} <= set(table)
    pairs = pd.read_csv(files / "pairs.csv")
    assert {"difference", "half", "adjusted", "repetitions"} <= set(pairs)
    assert (pairs["adjusted"].dropna() >= pairs.loc[pairs["adjusted"].notna(), "p"]).all()
    assert set(pairs["metric"]) == {"frechet", "sliced-w2", "reward"}


def test_latex_has_as_many_cells_in_every_line(files: Path) -> None:
    text = (files / "headline-digits-class-mixture.tex").read_text(encoding="utf-8")
    lines = [s for s in text.splitlines() if s.endswith(r"\\") and "multicolumn" not in s]
    counts = {len(re.findall(r"(?<!\\)&", line)) for line in lines}
    assert len(lines) == 1 + 18 and len(counts) == 1
    assert r"\textbf{" in text and "booktabs" in text
    assert r"rollout (incomplete)" in text


def test_markdown_says_what_its_intervals_are(files: Path) -> None:
    text = (files / "tables.md").read_text(encoding="utf-8")
    assert "±: 95 % interval (t) over 2 to 3 repetitions" in text
    assert "| `dps` (maximises) |" in text and "- Maximises: a mean reward" in text


@pytest.mark.parametrize("text", ["=1+1", "+x", "-x", "@cmd"])
def test_no_text_is_a_formula(text: str) -> None:
    assert as_csv(pd.DataFrame({"a": [text], "b": [-1.5]})) == f"a,b\n'{text},-1.5\n"


def test_latex_signs_are_text() -> None:
    assert escaped("a_b % {x} \\ ± −1") == r"a\_b \% \{x\} \textbackslash{} $\pm$ $-$1"


def test_what_a_run_has_more_is_exported_too(tmp_path: Path) -> None:
    made = make_run(tmp_path / "run", tasks=("digits",), rewards=("class-mixture",))
    names = {path.name for path in export(studied(fitted(made)), tmp_path / "out")}
    assert {"training-digits-class-mixture.svg", "value-digits-class-mixture.svg"} <= names
    for name in names:
        if name.endswith(".svg"):
            assert ET.parse(tmp_path / "out" / name).getroot().tag.endswith("svg")
