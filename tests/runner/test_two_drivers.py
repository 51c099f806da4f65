"""Two drivers on one run, one name for two suites, and a run that cannot be written to."""

import json
import os
import subprocess
import sys

import pytest

from bench.core.params import UserError
from bench.record.files import RunFiles
from bench.record.lease import LEASE, leased
from bench.record.lock import LOCK, OWNER, driving
from tests.worlds.cheap_run import assert_same, run, tables


def test_the_second_driver_is_told_who_holds_the_run(tmp_path):
    said = f"another driver runs 'cheap' .process {os.getpid()}"
    with driving(tmp_path / "cheap"), pytest.raises(UserError, match=said):
        run(tmp_path)
    assert run(tmp_path)[1].executed == 2


def test_the_lock_of_a_killed_driver_is_taken_over(tmp_path):
    code = "import sys, time, pathlib; from bench.record.lock import driving\n"
    code += f"with driving(pathlib.Path({str(tmp_path / 'cheap')!r})): print(1, flush=True); "
    code += "time.sleep(60)"
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert other.stdout.readline() == b"1\n"
    with pytest.raises(UserError, match=f"process {other.pid}"):
        run(tmp_path)
    other.kill()
    other.wait()
    assert run(tmp_path)[1].executed == 2


@pytest.mark.parametrize("content", [b"", b"\xff\x00 no lock", b"{" * 10_000, b"[1]"])
def test_a_damaged_lock_is_a_lock(tmp_path, content):
    """What counts is who holds it; of whoever cannot be read the refusal says as much as it can."""
    folder = tmp_path / "cheap"
    folder.mkdir()
    for name in (LOCK, OWNER):
        (folder / name).write_bytes(content)
    with driving(folder):
        (folder / OWNER).write_bytes(content)
        with pytest.raises(UserError, match=r"another driver runs 'cheap' .it has only just"):
            run(tmp_path)
    assert run(tmp_path)[1].executed == 2


def test_a_lock_that_is_a_folder_is_one_sentence(tmp_path):
    (tmp_path / "cheap" / LOCK).mkdir(parents=True)
    with pytest.raises(UserError, match=r"cannot lock .*run\.lock"):
        run(tmp_path)


def test_a_damaged_lease_is_taken_over(tmp_path):
    files = RunFiles("memory://leases", "cheap")
    files.open()
    for content in (b"", b"\xff", b"[1]", b'{"pid": 1}'):
        files.write(LEASE, content)
        refused = pytest.raises(UserError, match="another driver runs 'cheap'")
        with leased(files), refused, leased(files):
            pass
        assert not files.has(LEASE)


def test_a_name_that_another_suite_has_is_refused(tmp_path):
    store, _ = run(tmp_path)
    before = tables(store)
    with pytest.raises(UserError, match=r"holds 2 cells of another suite .* another --name"):
        run(tmp_path, rewards=["inverse"])
    assert_same(before, tables(store))
    assert run(tmp_path, rewards=["linear", "inverse"])[1].executed == 2


def test_other_versions_of_the_same_suite_go_on(tmp_path, monkeypatch):
    from methods.reference import Prior

    run(tmp_path)
    monkeypatch.setattr(Prior, "version", "other")
    assert run(tmp_path)[1].executed == 2


def test_a_run_that_cannot_be_written_to_and_lacks_nothing(tmp_path, monkeypatch):
    run(tmp_path)

    def refuse(self, name, data):
        raise UserError("cannot write")

    monkeypatch.setattr(RunFiles, "write", refuse)
    _, outcome = run(tmp_path)
    assert (outcome.executed, outcome.cached, outcome.statuses) == (0, 2, {"ok": 2})
    with pytest.raises(UserError, match="cannot write"):
        run(tmp_path, seeds=3)


def test_two_drivers_at_once_run_no_cell_twice(tmp_path):
    """Two processes race; one is refused, or comes later and finds everything done."""
    content = {
        "name": "cheap", "tasks": ["gmm-paper"], "rewards": ["linear"], "seeds": 3, "n": 4,
        "methods": ["prior:steps=2"], "budgets": ["none"],
    }  # fmt: skip
    (tmp_path / "suite.yaml").write_text(json.dumps(content))
    command = [sys.executable, "-m", "bench", "run", str(tmp_path / "suite.yaml")]
    command += ["--root", str(tmp_path), "--executor", "inline", "--no-track"]
    racing = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ends = [(p.communicate()[1], p.returncode) for p in racing]
    assert any(code == 0 for _, code in ends)
    assert all(code == 0 or "another driver runs 'cheap'" in text for text, code in ends)
    assert len(list(tmp_path.glob("cheap/cells/*/attempts/*"))) == 3
