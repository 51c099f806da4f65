"""A run on S3 (moto on loopback): run, kill, resume, report, compare, audit, one driver."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import fsspec
import pytest
from typer.testing import CliRunner

from bench.cli.main import app
from bench.core.params import UserError
from bench.record import lease
from bench.record.files import RunFiles
from bench.record.lease import Holder, leased
from bench.record.store import Store, open_run
from tests.runner.test_resume import assert_same_tables

SUITE = {
    "name": "small",
    "tasks": ["gmm-paper"],
    "rewards": ["inverse"],
    "methods": ["prior", "exact", "dps", "best-of-n-fewstep"],
    "budgets": ["paper-nfe=60"],
    "seeds": 2,
    "n": 96,
    "batch": 32,
}
"""Eight cells, each in three shards."""


@pytest.fixture(scope="module")
def server():
    from moto.server import ThreadedMotoServer

    with pytest.MonkeyPatch.context() as patch:
        served = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        served.start()
        host, port = served.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "something")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield
        served.stop()


@pytest.fixture
def bucket(server, request):
    """The root of runs of one test: s3://BUCKET/runs."""
    fs = fsspec.filesystem("s3", skip_instance_cache=False)
    name = "b" + str(abs(hash(request.node.name)))
    fs.makedirs(name)
    return f"s3://{name}/runs"


def bench(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)


def run(root, *extra, suite):
    return bench("run", suite, "--root", root, "--no-track", "--executor", "inline", *extra)


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    path = tmp_path_factory.mktemp("suite") / "suite.yaml"
    path.write_text(json.dumps(SUITE))
    return path


@pytest.fixture(scope="module")
def finished(server, suite):
    """The URL of a finished run."""
    fsspec.filesystem("s3").makedirs("finished")
    assert run("s3://finished/runs", suite=suite).exit_code == 0
    return "s3://finished/runs/small"


def results_in(root):
    fs, base = fsspec.core.url_to_fs(root)
    fs.invalidate_cache()
    return [path for path in fs.find(base) if path.endswith("result.json")]


def test_killed_and_continued_it_is_the_run_of_a_folder(bucket, suite, tmp_path):
    command = [sys.executable, "-m", "bench", "run", str(suite), "--root", bucket, "--no-track"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([*command, "--executor", "inline"], **quiet)
    while len(results_in(bucket)) < 2:
        assert process.poll() is None, "finished before it could be killed"
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(1.0)  # what the server had received when its sender died is still written
    done = results_in(bucket)
    assert 2 <= len(done) < 8
    continued = run(bucket, "--json", suite=suite)
    assert continued.exit_code == 0, continued.output
    said = json.loads(continued.stdout)
    assert said["executed"] == 8 - len(done) and said["run"] == f"{bucket}/small"
    assert "Nothing to do" in run(bucket, suite=suite).output
    here = tmp_path / "here"
    assert run(here, suite=suite).exit_code == 0
    remote, local = open_run(f"{bucket}/small"), Store(str(here), "small")
    assert_same_tables(remote, local)
    for cell in remote.table("cells").cell:
        assert remote.index.samples(cell) == local.index.samples(cell)
    left = {path.split("/small/")[1].split("/")[0] for path in remote.fs.find(remote.path)}
    assert not left & {"work", "driver.lease", "driver.clock", "probe"}


def test_report_compare_audit_and_markdown_read_it(finished, suite, tmp_path):
    here = tmp_path / "here"
    assert run(here, suite=suite).exit_code == 0
    url, files = finished, RunFiles("s3://finished/runs", "small")
    files.remove("report.html")
    reported = bench("report", url, "--markdown", tmp_path / "tables.md")
    assert reported.exit_code == 0 and f"Report: {url}/report.html" in reported.output
    assert b"<html" in files.read("report.html") and "dps" in (tmp_path / "tables.md").read_text()
    # The page holds galleries: samples were fetched for it too.
    plain = (here / "small" / "report.html").read_text()
    assert files.read("report.html").decode().count("<svg") == plain.count("<svg")
    compared = json.loads(bench("compare", url, here / "small", "--json").stdout)
    assert compared and all(row["same_cells"] for row in compared)
    audited = bench("audit", url, "--json")
    assert audited.exit_code == 0
    assert all(row["ok"] for row in json.loads(audited.stdout)["findings"])


@pytest.mark.slow
def test_ray_workers_leave_their_shards_there(bucket, suite):
    """Nothing but the address of the bucket reaches a worker."""
    done = bench("run", suite, "--root", bucket, "--no-track", "--workers", 2, "--seeds", 1)
    assert done.exit_code == 0, done.output
    store = open_run(f"{bucket}/small")
    assert (store.table("cells").status == "ok").all()
    assert not store.names("work")


@pytest.mark.slow
def test_a_sweep_and_a_plan_there(bucket, suite):
    asked = ["-t", "gmm-paper", "-r", "inverse", "-b", "paper-nfe=60", "--n", 256]
    few = ["--trials", 2, "--tuning-seeds", 1, "--seeds", 1, "--executor", "inline", "--no-track"]
    few += ["--name", "swept"]
    first = bench("sweep", "dps", *asked, *few, "--root", bucket, "--json")
    assert first.exit_code == 0 and json.loads(first.stdout)["run"] == f"{bucket}/swept"
    again = bench("sweep", "dps", *asked, *few, "--root", bucket, "--json")
    assert json.loads(again.stdout)["executed"] == 0
    store = open_run(f"{bucket}/swept")
    assert len(store.table("tuning")) == 1 and not store.has(lease.LEASE)
    run(bucket, suite=suite)
    planned = bench("plan", suite, "--root", bucket)
    assert planned.exit_code == 0, planned.output


def test_a_second_driver_is_refused_by_name(bucket):
    first, second = RunFiles(bucket, "small"), RunFiles(bucket, "small")
    refused = pytest.raises(UserError, match=f"process {os.getpid()} on .* wait for it")
    with leased(first), refused, leased(second):
        raise AssertionError("two drivers")
    with leased(second):
        assert second.has(lease.LEASE)
    assert not second.has(lease.LEASE)


@pytest.mark.parametrize("case", ["elsewhere", "expired", "unreadable"])
def test_what_a_killed_driver_left_is_taken_over(bucket, monkeypatch, case):
    files = RunFiles(bucket, "small")
    monkeypatch.setattr(lease, "SETTLE", 0.0)
    files.write(lease.LEASE, Holder("t", 1, "elsewhere").data())
    if case == "elsewhere":
        with pytest.raises(UserError, match="process 1 on elsewhere"), leased(files):
            raise AssertionError("it may be alive")
        return
    if case == "expired":
        monkeypatch.setattr(lease, "EXPIRES", 0.0)
        monkeypatch.setattr(lease, "RENEW", 0.05)
    else:
        files.write(lease.LEASE, b"{")
    with leased(files):
        assert json.loads(files.read(lease.LEASE))["pid"] == os.getpid()


def test_a_lease_is_renewed_while_it_is_held_and_left_to_who_took_it(bucket, monkeypatch):
    monkeypatch.setattr(lease, "RENEW", 0.05)
    files = RunFiles(bucket, "small")
    with leased(files):
        before = files.modified(lease.LEASE)
        time.sleep(2.2)  # S3 tells whole seconds
        assert files.modified(lease.LEASE) > before
        monkeypatch.setattr(lease, "RENEW", 3600.0)
        time.sleep(0.3)
        files.write(lease.LEASE, Holder("t", 1, "elsewhere").data())
        time.sleep(0.2)
    assert json.loads(files.read(lease.LEASE))["host"] == "elsewhere"


def test_a_bucket_that_is_not_there_is_one_sentence_and_is_not_made(server, suite):
    with pytest.raises(UserError, match="specified bucket does not exist"):
        run("s3://no-such-bucket/runs", suite=suite)
    assert not fsspec.filesystem("s3").exists("no-such-bucket")
    with pytest.raises(UserError, match="is not a run"):
        bench("report", "s3://no-such-bucket/runs/small")


def test_other_verbs_say_that_they_need_this_machine(bucket, finished):
    with pytest.raises(UserError, match="give --root a folder"):
        bench("study", "value", "-t", "gmm-paper", "-r", "inverse", "--root", bucket)
    with pytest.raises(UserError, match="set MLFLOW_TRACKING_URI"):
        bench("track", "sync", finished)


def test_a_protocol_without_its_package_is_one_sentence():
    with pytest.raises(UserError, match="cannot open nothing://x"):
        RunFiles("nothing://x/runs", "small")
