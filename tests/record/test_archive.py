"""A run as one file: whole, equal and harmless; what is left over is found, and nothing else."""

import gzip
import io
import tarfile
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest

from bench.cli import archive as verbs
from bench.core.params import UserError
from bench.plan.suite import build_suite
from bench.record.archive import leftovers, unpacked
from bench.record.store import Store, open_run
from bench.runner.executors.inline import Inline
from bench.runner.run import run_suite
from tests.worlds.silent import Silent

CONTENT = {
    "name": "small", "tasks": ["gmm:dimension=2"], "rewards": ["linear"], "budgets": ["none"],
    "methods": ["prior:steps=2", "best-of-n:steps=2"], "seeds": 1, "n": 16,
}  # fmt: skip


def run(folder, **changes):
    store = Store(str(folder / "runs"), "small")
    run_suite(build_suite(CONTENT | changes), store, Inline, Silent())
    return store


def contents(folder):
    skip = ("report.html", "probe", "run.lock", "projections.json")
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.name not in skip
    }


def test_a_run_comes_out_as_it_went_in_and_computes_nothing_again(tmp_path, monkeypatch):
    store = run(tmp_path)
    (store.folder / "work").mkdir()
    (store.folder / "work" / "half.pt").write_bytes(b"half")
    monkeypatch.chdir(tmp_path)
    verbs.export(store.folder)
    verbs.import_run(tmp_path / "small.tar.gz", None, str(tmp_path / "there"))
    before, after = contents(store.folder), contents(tmp_path / "there" / "small")
    assert before.pop("work/half.pt") and before == after
    assert (tmp_path / "there" / "small" / "report.html").is_file()
    there = Store(str(tmp_path / "there"), "small")
    assert run_suite(build_suite(CONTENT), there, Inline, Silent()).executed == 0
    with pytest.raises(UserError, match="is there already: give another name with --name"):
        unpacked(tmp_path / "small.tar.gz", tmp_path / "there")


def archived(tmp_path, *members):
    """An archive of members (name, bytes) or TarInfo."""
    path = tmp_path / "bad.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for member in (("x/suite.yaml", b"name: x"), *members):
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            archive.addfile(info, io.BytesIO(member[1]))
    return path


def link(name, kind, target):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    "member",
    [
        ("../outside.json", b""),
        ("/etc/outside", b""),
        ("x/../../outside", b""),
        ("x//suite.yaml", b""),
        ("x/cells/../suite.yaml", b""),
        ("x/report.html", b"<script>"),
        ("x/cells/ab/attempts/1/model.pt", b"pickle"),
        ("x/work/ab/checkpoint.pt", b""),
        ("y/suite.yaml", b""),
        ("./suite.yaml", b""),
        link("x/cells.parquet", tarfile.SYMTYPE, "/etc/passwd"),
        link("x/cells.parquet", tarfile.LNKTYPE, "/etc/passwd"),
        link("x/cells.parquet", tarfile.FIFOTYPE, ""),
    ],
)
def test_an_archive_with_anything_else_is_refused_whole(tmp_path, member):
    root = tmp_path / "runs"
    with pytest.raises(UserError, match="is no archive of a run"):
        unpacked(archived(tmp_path, member), root)
    assert not root.exists() or not list(root.iterdir())


def test_what_is_no_archive_is_one_sentence(tmp_path):
    (tmp_path / "text.tar.gz").write_text("hello")
    cut = archived(tmp_path, ("x/cells.parquet", bytes(range(256)) * 400))
    cut.write_bytes(cut.read_bytes()[:200])
    for path in (tmp_path / "text.tar.gz", tmp_path / "nowhere.tar.gz", cut):
        with pytest.raises(UserError, match="cannot be read as an archive") as said:
            unpacked(path, tmp_path / "runs")
        assert "\n" not in str(said.value)
    assert not (tmp_path / "runs" / "x").exists()


@pytest.mark.parametrize("spoil", range(40, 4000, 333))
def test_a_flipped_byte_is_one_sentence_or_no_matter(tmp_path, spoil):
    """Also below the compression, whose own errors are of other kinds."""
    noise = np.random.default_rng(0).bytes(4000)
    path = archived(tmp_path, ("x/cells.parquet", noise))
    data = bytearray(path.read_bytes())
    data[spoil] ^= 0x10
    path.write_bytes(data)
    with suppress(UserError):
        unpacked(path, tmp_path / "runs")


@pytest.mark.parametrize(
    "name", ["../out", "/tmp/tiltbench-out", "..", "a/b", "a\x1b[2J", "presets"]
)
def test_a_run_is_imported_as_one_folder_below_the_root(tmp_path, name):
    """Whether the name is given or the archive's own."""
    given = archived(tmp_path)
    with pytest.raises(UserError, match="with --name"):
        unpacked(given, tmp_path / "runs", name)
    if "/" not in name:
        with tarfile.open(tmp_path / "own.tar", "w") as own:
            own.addfile(tarfile.TarInfo(f"{name}/suite.yaml"))
        with pytest.raises(UserError):
            unpacked(tmp_path / "own.tar", tmp_path / "runs")
    assert {p.name for p in tmp_path.iterdir()} <= {"bad.tar.gz", "own.tar"}


@pytest.mark.parametrize("size", [10**9, 10**15])
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, size):
    """By the size that a file says it has: nothing of it is there."""
    info = tarfile.TarInfo("x/cells.parquet")
    info.size = size
    suite = tarfile.TarInfo("x/suite.yaml").tobuf()
    path = tmp_path / "bomb.tar.gz"
    path.write_bytes(gzip.compress(suite + info.tobuf(tarfile.GNU_FORMAT) + bytes(10**6)))
    with pytest.raises(UserError, match=r"it has 0\.0 MB and unpacks to more than 0\.3 GB"):
        unpacked(path, tmp_path / "runs")


def test_leftovers_are_what_no_row_needs(tmp_path, capsys):
    store = run(tmp_path)
    assert list(leftovers(store)) == []
    run(tmp_path, methods=["prior:steps=3", "best-of-n:steps=2"])
    store = open_run(str(store.folder))
    found = list(leftovers(store))
    assert [why for _, why in found] == ["no row of the last plan"]
    verbs.clean(store.folder)
    assert found[0][0].is_dir() and "would be deleted" in capsys.readouterr().out
    kept = pd.read_parquet(store.folder / "cells.parquet").cell
    verbs.clean(store.folder, yes=True)
    assert {p.name for p in (store.folder / "cells").iterdir()} == set(kept)
    verbs.clean(store.folder)
    assert "Nothing to clean" in capsys.readouterr().out
