"""What a run was made with stands on its page, and what differs between two in a comparison."""

from __future__ import annotations

import json
import platform
import re
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from bench.core import provenance as core
from reports.data.run import load_run, weights_of
from reports.data.two_runs import provenance
from reports.html import write_page
from reports.text.overview import reproduction
from tests.worlds.cheap_run import run
from tests.worlds.made_run import make_run


def test_a_run_says_the_commit_processor_and_weights_it_was_made_with(tmp_path: Path) -> None:
    store, _ = run(tmp_path)
    facts = dict(reproduction(load_run(store.folder)))
    assert facts["processor"] == core.processor() != ""
    assert facts.get("commit", "") == core.commit()
    cell = json.loads(next(store.folder.glob("cells/*/cell.json")).read_text())
    ((name, sha),) = cell["weights"].items()
    assert facts["weights (SHA-256)"] == f"`{name}` {sha[:16]}"
    assert facts["python"] == platform.python_version()
    assert sha[:16] in write_page(store.folder).read_text(encoding="utf-8")


def test_the_commit_is_that_of_the_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    said = core.commit()
    if (core.ROOT / ".git").exists():
        head = ["git", "-C", str(core.ROOT), "rev-parse", "HEAD"]
        whole = subprocess.run(head, capture_output=True, text=True, check=True).stdout
        assert re.fullmatch(r"[0-9a-f]{12}(-dirty)?", said) and whole.startswith(said[:12])
    monkeypatch.setattr(core, "ROOT", tmp_path)
    core.commit.cache_clear()
    assert core.commit() == "", "an installed package has none"
    core.commit.cache_clear()


def test_a_comparison_names_what_differs_in_the_making(tmp_path: Path) -> None:
    first, second = (make_run(tmp_path / name, tasks=("gmm-paper",)) for name in "ab")
    assert provenance(first, second) == []
    cells = pd.read_parquet(second / "cells.parquet")
    cells.assign(commit="abc", processor="another", python="3.12.1").to_parquet(
        second / "cells.parquet"
    )
    place = second / "cells" / cells["cell"].iloc[0]
    place.mkdir(parents=True, exist_ok=True)
    (place / "cell.json").write_text(json.dumps({"weights": {"map": "f" * 64}}))
    assert {term: b for term, _, b in provenance(first, second)} == {
        "commit": "abc", "processor": "another", "python": "3.12.1", "weights": f"map@{'f' * 12}",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weights": 3}'])
def test_a_cell_that_cannot_be_read_has_no_weights(tmp_path: Path, text: str) -> None:
    folder = make_run(tmp_path / "run", tasks=("gmm-paper",))
    cell = load_run(folder).cells["cell"].iloc[0]
    place = folder / "cells" / cell / "cell.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    run = load_run(folder)
    assert weights_of(run) == {} and [damage.file for damage in run.damaged] == [
        f"cells/{cell}/cell.json"
    ]
