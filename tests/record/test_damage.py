"""Damaged and stale files: found when they are read, set aside, and made again; never believed."""

import json
import random
import shutil

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load
from typer.testing import CliRunner

from bench.cli.main import app
from bench.core.params import UserError
from bench.record import layout
from bench.record.seals import Damage, Damaged, left_out, sealed, unsealed
from bench.record.store import Store
from bench.runner.run import remeasure
from reports.data.run import load_run
from reports.html import write_page
from tests.worlds.cheap_run import assert_same, run, tables


def emptied(data: bytes, _rng) -> bytes:
    return b""


def truncated(data: bytes, rng) -> bytes:
    return data[: rng.randrange(1, len(data))]


def flipped(data: bytes, rng) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]


def replaced(data: bytes, _rng) -> bytes:
    return b'{"a": [1, 2]}'


DAMAGES = (emptied, truncated, flipped, replaced)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing happened to, copied by each test."""
    root = tmp_path_factory.mktemp("whole")
    store, _ = run(root)
    return root, tables(store)


@pytest.fixture
def copied(whole, tmp_path):
    root, before = whole
    shutil.copytree(root / "cheap", tmp_path / "cheap")
    return tmp_path, before


def files_of(root, name):
    return sorted((root / "cheap").rglob(name))


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    "name", [layout.RESULT, layout.SCORES, "metrics.json", "cells.parquet", "projections.json"]
)
def test_what_is_damaged_is_set_aside_and_made_again(copied, name, damage):
    root, before = copied
    file = files_of(root, name)[0]
    file.write_bytes(damage(file.read_bytes(), random.Random(name)))
    # Tables hide what they were made from until they are made again.
    (root / "cheap" / "results.parquet").unlink()
    store, outcome = run(root)
    assert_same(before, tables(store))
    record = name in (layout.RESULT, layout.SCORES, "metrics.json")
    assert [d.file for d in outcome.damaged] == record * [str(file.relative_to(root / "cheap"))]
    assert file.with_name(f"{name}.damaged").exists() == record
    _, again = run(root)
    assert (again.executed, again.remeasured, again.projected, again.damaged) == (0, 0, False, [])


@pytest.mark.parametrize("name", [layout.RESULT, layout.SCORES, "metrics.json"])
def test_what_is_missing_is_made_again(copied, name):
    root, before = copied
    files_of(root, name)[0].unlink()
    (root / "cheap" / "results.parquet").unlink()
    store, _ = run(root)
    assert_same(before, tables(store))


def test_samples_are_verified_before_they_are_measured_again(copied, monkeypatch):
    """One flipped bit in the last digits of a sample is no other value of a metric."""
    from bench.metrics.reward import MeanReward

    root, before = copied
    file = files_of(root, layout.SAMPLES)[0]
    data = file.read_bytes()
    file.write_bytes(data[:-4] + bytes([data[-4] ^ 1]) + data[-3:])
    monkeypatch.setattr(MeanReward, "version", "2")
    store, outcome = run(root)
    assert (outcome.executed, outcome.remeasured) == (1, 1) and len(outcome.damaged) == 1
    keys = ["cell", "metric"]
    found = tables(store)["metrics"].drop_duplicates(keys, keep="last").sort_values(keys)
    assert (found[found.metric == "reward"].version == "2").all()
    assert np.array_equal(found.value, before["metrics"].sort_values(keys).value, equal_nan=True)


def test_records_without_checksums_are_read_and_said_to_be_unverified(copied):
    root, before = copied
    for file in files_of(root, layout.RESULT):
        content = json.loads(file.read_text())
        del content["sha256"], content["files"]
        file.write_text(json.dumps(content))
    for file in files_of(root, "metrics.json"):
        content = json.loads(file.read_text())
        del content["sha256"]
        file.write_text(json.dumps(content))
    store, outcome = run(root)
    assert (outcome.executed, outcome.damaged, outcome.unverified) == (0, [], 2)
    assert_same(before, tables(store))


def test_samples_without_a_checksum_that_nothing_can_read_are_made_again(copied, monkeypatch):
    root, _ = copied
    for file in files_of(root, layout.RESULT):
        content = json.loads(file.read_text())
        del content["sha256"], content["files"]
        file.write_text(json.dumps({**content, "measured": []}))
    files_of(root, layout.SAMPLES)[0].write_bytes(b"no samples")
    _, outcome = run(root)
    assert (outcome.executed, outcome.remeasured) == (1, 1)
    assert [damage.file.endswith(layout.SAMPLES) for damage in outcome.damaged] == [True]


def test_tables_of_an_earlier_state_are_stale(tmp_path):
    """Killed after its last result and before its tables, a run makes them when repeated."""
    early, _ = run(tmp_path, seeds=1)
    kept = {p: p.read_bytes() for p in (tmp_path / "cheap").glob("*.parquet")}
    noted = (tmp_path / "cheap" / layout.PROJECTIONS).read_bytes()
    store, _ = run(tmp_path, seeds=3)
    after = tables(store)
    for path, data in kept.items():
        path.write_bytes(data)
    (tmp_path / "cheap" / layout.PROJECTIONS).write_bytes(noted)
    store, outcome = run(tmp_path, seeds=3)
    assert (outcome.executed, outcome.cached, outcome.projected) == (0, 3, True)
    assert_same(after, tables(store))
    assert len(early.table("cells")) == 3


def test_the_page_is_made_again_when_it_is_stale_or_damaged(copied):
    root, _ = copied
    command = ["run", "-t", "gmm-paper", "-r", "linear", "-m", "prior:steps=2", "-b", "none"]
    command += ["--seeds", "2", "--set", "n=4", "--name", "cheap", "--no-baselines"]
    command += ["--root", str(root), "--executor", "inline", "--no-track"]
    assert CliRunner().invoke(app, command).exit_code == 0
    page = root / "cheap" / layout.REPORT
    text = page.read_bytes()
    page.write_bytes(text[:1000])
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0 and "Nothing to do" in done.output
    assert page.read_bytes() == text


@pytest.mark.parametrize("damage", DAMAGES)
def test_commands_that_read_a_damaged_run_end_without_a_traceback(copied, damage):
    """`plan`, `report` and `audit` count what is damaged as not stored; tables are refused."""
    root, _ = copied
    for name in (layout.RESULT, layout.SCORES, "metrics.json", "cells.parquet", layout.SAMPLES):
        file = files_of(root, name)[-1]
        file.write_bytes(damage(file.read_bytes(), random.Random(1)))
    folder = str(root / "cheap")
    for command in (["audit", folder], ["report", folder], ["audit", folder]):
        done = CliRunner().invoke(app, command)
        assert done.exception is None or isinstance(done.exception, SystemExit | UserError)


@pytest.mark.parametrize("name", ["cells", "metrics", "results"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_no_number_of_a_damaged_table_is_believed(copied, name, damage):
    """Whoever reads a table, and wherever in it a bit was flipped."""
    root, before = copied
    file = root / "cheap" / layout.table(name)
    file.write_bytes(damage(file.read_bytes(), random.Random(7)))
    store = Store(str(root), "cheap")
    with pytest.raises(UserError, match="make it again"):
        store.table(name)
    if name != "results":
        with pytest.raises(UserError, match=rf"{name}\.parquet .* does not match its checksum"):
            load_run(root / "cheap")
    assert CliRunner().invoke(app, ["report", str(root / "cheap")]).exit_code == 0
    assert_same(before, tables(Store(str(root), "cheap")))


def test_words_of_a_table_that_nobody_vouches_for_are_words(copied):
    """pyarrow reads bytes that are no UTF-8 and fails where they are used."""
    root, _ = copied
    (root / "cheap" / layout.PROJECTIONS).unlink()
    file = root / "cheap" / "cells.parquet"
    file.write_bytes(file.read_bytes().replace(b"gmm-paper", b"gmm-p\xffper"))
    with pytest.raises(UserError, match=r"cells\.parquet .* is damaged"):
        Store(str(root), "cheap").table("cells")


@pytest.mark.parametrize("damage", [*DAMAGES, None])
def test_a_page_says_what_nothing_was_drawn_from(copied, damage):
    """Samples are pictures on a page and nothing else: the page does without them and says so."""
    root, before = copied
    file = files_of(root, layout.SAMPLES)[0]
    file.unlink() if damage is None else file.write_bytes(
        damage(file.read_bytes(), random.Random(2))
    )
    done = CliRunner().invoke(app, ["report", str(root / "cheap")])
    assert done.exit_code == 0
    what = "is missing" if damage is None else "does not match its checksum"
    name, folder = (p.relative_to(root / "cheap").as_posix() for p in (file, file.parent))
    assert f"warning: Damaged: {name} {what}. What is damaged is left out" in done.stderr
    page = (root / "cheap" / layout.REPORT).read_text(encoding="utf-8")
    assert f"Damaged: {name} {what}. What is damaged is left out" in page
    store, outcome = run(root)
    assert outcome.executed == 0
    shutil.rmtree(root / "cheap" / folder)  # what the sentence says to do
    store, outcome = run(root)
    assert outcome.executed == 1
    assert_same(before, tables(store))
    done = CliRunner().invoke(app, ["report", str(root / "cheap")])
    assert "Damaged" not in done.stderr + (root / "cheap" / layout.REPORT).read_text("utf-8")


def test_a_file_that_was_asked_for_twice_is_one_file():
    one, other = Damage("cells/a/attempts/1/curve.parquet", "is missing"), Damage("b", "is missing")
    assert left_out([]) == "" and "more" not in left_out([one, one])
    assert "is missing, and so is one more file." in left_out([one, other, one])
    assert "are 2 more files" in left_out([one, other, Damage("c", "")])


def test_a_file_that_nobody_vouches_for_and_nobody_can_read_is_damaged(copied):
    """In a record from before there were checksums only reading shows it."""
    root, _ = copied
    index = Store(str(root), "cheap").index
    result = files_of(root, layout.RESULT)[0]
    cell = result.parts[-4]
    told = json.loads(result.read_text())
    del told["sha256"], told["files"]
    result.write_text(json.dumps(told))
    for name in (layout.SAMPLES, layout.CURVE):
        result.with_name(name).write_bytes(b"something else")
    assert index.read_beside(cell, 1, layout.SAMPLES, load) is None
    assert index.curve(cell, 1) is None
    pd.DataFrame({"other": [1.0]}).to_parquet(result.with_name(layout.CURVE))
    assert index.curve(cell, 1) is None
    said = [str(one).partition(" ")[2] for one in index.damaged]
    assert [one.startswith("cannot be read (") for one in said] == [True] * 3
    assert said[2] == "cannot be read (it has no steps)"


NO_SUITES = (
    *(b"- a", b"a: [", b"{" * 3000, b"blocks: 5", b"blocks: gmm", b"blocks: [gmm-paper]"),
    *(b"blocks: [{tasks: 5}]", b"blocks: [{}]", b"name: [1]", b"day: 2001-99-99"),
    b"blocks: [{tasks: [gmm-paper], judges: {tuning: 3}}]",
)
"""The second half is well-formed YAML."""


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", *NO_SUITES])
def test_a_damaged_suite_is_one_sentence(copied, text):
    root, _ = copied
    (root / "cheap" / layout.SUITE).write_bytes(text)
    with pytest.raises(UserError, match="is damaged: repeat the `bench run`"):
        Store(str(root), "cheap").suite()


@pytest.mark.parametrize("text", NO_SUITES)
def test_the_page_of_a_damaged_suite_does_without_it_and_says_so(copied, text):
    root, _ = copied
    (root / "cheap" / layout.SUITE).write_bytes(text)
    page = write_page(root / "cheap").read_text(encoding="utf-8")
    assert "Damaged: suite.yaml is no suite." in page


def test_matches_of_pilots_carry_a_checksum(tmp_path):
    store = Store(str(tmp_path), "cheap")
    store.open()
    store.save_pilots(b'{"key": {"values": {"steps": 7}}}')
    assert json.loads(store.pilots()) == {"key": {"values": {"steps": 7}}}
    data = store.read(layout.PILOTS)
    store.write(layout.PILOTS, data.replace(b"7", b"8", 1) if b"7}" in data else data[:-9])
    assert store.pilots() is None and [d.file for d in store.index.damaged] == [layout.PILOTS]


def test_no_flipped_bit_of_a_record_goes_unnoticed():
    """Every bit of a record in turn: it reads as it was written, or it is damaged."""
    content = {"cell": "ab", "status": "ok", "files": {"a": "b"}, "seconds": 0.25, "n": [1, None]}
    data = sealed(content)
    for at in range(8 * len(data)):
        bad = bytearray(data)
        bad[at // 8] ^= 1 << at % 8
        try:
            read, seal = unsealed(bytes(bad))
        except Damaged:
            continue
        assert read == content or seal is None  # a record whose key `sha256` is broken has no seal


def test_remeasuring_nothing_reads_nothing(copied):
    root, _ = copied
    assert remeasure(Store(str(root), "cheap").index, []) == 0
