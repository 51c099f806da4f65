"""A run for W&B: what its users expect, in a folder, and nothing sent to anybody."""

from __future__ import annotations

import json
import os
import socketserver
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from bench.cli.main import app
from bench.core.params import UserError
from bench.record.store import Store
from bench.record.tables import write_tables
from bench.tracking.rows import MOST_STEPS, history, picture_of, read_rows
from tests.worlds.tracked_run import attempt_of, failure, planned

PLAN = [
    planned("prior", steps=10),
    planned("prior", seed=1, steps=10),
    planned("dps", steps=5, scale="exact"),
    planned("dps", seed=1, steps=5, scale="exact"),
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two methods, two seeds; `dps` failed at seed 1, and waits for nothing."""
    made = Store(str(tmp_path / "runs"), "small")
    made.save_suite({"name": "small"})
    for row in PLAN[:3]:
        made.index.save(row.cell, attempt_of(row))
    made.index.save(PLAN[3].cell, failure(PLAN[3]))
    write_tables(made, PLAN)
    return made


# -- what there is to say ----------------------------------------------------------------------


def test_a_row_is_a_method_with_the_means_of_its_seeds(store: Store) -> None:
    prior, dps = read_rows(store)
    assert (prior.name, dps.name) == ("prior", "dps")
    assert prior.group == dps.group == "toy/flat x2/paper-nfe=20"
    assert prior.tags == ["small", "toy", "flat", "prior", "paper-nfe=20"]
    assert dps.tags[-1] == "failed cells" and dps.ok
    assert prior.config["method.steps"] == 10 and dps.config["method.scale"] == "exact"
    assert prior.config["seeds"] == "0, 1" and prior.config["headline"] == "reward"
    # Rewards 1.25 and 2.25; the seed that failed counts as failed and in no mean.
    assert prior.summary["reward"] == prior.summary["headline"] == 1.75
    assert prior.summary["deviation/reward"] == pytest.approx(0.5**0.5)
    assert dps.summary["reward"] == 1.25 and "deviation/reward" not in dps.summary
    assert (dps.summary["cells"], dps.summary["cells_failed"]) == (2, 1)
    assert prior.summary["work/paper-nfe"] > 0


def test_its_history_is_the_mean_by_step_and_its_picture_is_of_samples(store: Store) -> None:
    prior, dps = read_rows(store)
    assert history(store, prior) == [(k, {"curve/ess": 4.0 - k}) for k in range(3)]
    data = picture_of(store, dps)
    assert data is not None and data.startswith(b"\x89PNG")


def test_a_long_history_is_bounded_and_ends_where_it_ended(store: Store) -> None:
    row = planned("long", steps=3)
    points = [{"step": k, "ess": float(k)} for k in range(3 * MOST_STEPS + 1)]
    store.index.save(row.cell, attempt_of(row, curve=points))
    write_tables(store, [row])
    found = history(store, read_rows(store)[0])
    assert len(found) <= MOST_STEPS and found[-1] == (3 * MOST_STEPS, {"curve/ess": 3000.0})


def test_the_same_row_keeps_its_id_and_another_has_another(store: Store) -> None:
    prior, dps = read_rows(store)
    assert prior.id == read_rows(store)[0].id != dps.id
    assert prior.id.isalnum() and len(prior.id) == 16


# -- how its client is called ------------------------------------------------------------------


class Spoken(SimpleNamespace):
    """In the place of W&B's package: keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(runs=[], environment={}, Settings=dict)
        self.Image = lambda image, caption: (image.size, caption)

    def init(self, **said: Any) -> Any:
        self.environment = {k: v for k, v in os.environ.items() if k.startswith("WANDB_")}
        run = SimpleNamespace(said=said, logged=[], summary={}, exit_code=None)
        run.log = lambda values, step: run.logged.append((step, values))
        run.finish = lambda exit_code: setattr(run, "exit_code", exit_code)
        self.runs.append(run)
        return run


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Spoken:
    spoken = Spoken()
    spoken.__spec__ = SimpleNamespace(name="wandb")
    monkeypatch.setitem(sys.modules, "wandb", spoken)
    return spoken


def exported(store: Store, *more: str) -> str:
    command = ["track", "export", store.path, *more]
    return CliRunner().invoke(app, command, catch_exceptions=False).stdout


def test_nobody_goes_online_whatever_the_environment_says(
    store: Store, client: Spoken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_RUN_ID", "mine")
    said = exported(store, "--to", "wandb", "--dir", str(tmp_path / "out"))
    assert "2 rows for W&B" in said and "wandb sync" in said
    assert {run.said["settings"]["mode"] for run in client.runs} == {"offline"}
    assert not {"WANDB_MODE", "WANDB_RUN_ID"} & set(client.environment)
    assert os.environ["WANDB_MODE"] == "online", "and it is theirs again"
    assert "WANDB_CONFIG_DIR" not in os.environ
    assert [run.said["project"] for run in client.runs] == ["tiltbench"] * 2
    assert all(run.logged[-1][1]["samples"] for run in client.runs)
    assert [run.exit_code for run in client.runs] == [0, 0]


def test_without_it_or_with_another_name_there_is_one_sentence(
    store: Store, client: Spoken, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="is no tracker that a run can be exported to: wandb"):
        exported(store, "--to", "comet")
    with pytest.raises(UserError, match="no name of a W&B project"):
        exported(store, "--project", "a/b")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"needs wandb.*pip install 'tiltbench\[wandb\]'"):
        exported(store)


# -- what is in the folder ---------------------------------------------------------------------


@contextmanager
def listening() -> Iterator[tuple[str, list[bytes]]]:
    """An address that a client could be sent to, and what it was sent."""
    heard: list[bytes] = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            heard.append(self.request.recv(100))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", heard
        server.shutdown()


def chunks(data: bytes) -> Iterator[bytes]:
    """Records of a log of LevelDB, whose file begins with seven bytes of W&B's own.

    Blocks of 32 KiB hold pieces with a header of checksum, length and kind (1: whole, 2: first,
    3: middle, 4: last), and no header is cut by the end of a block.
    """
    block, place, parts = 2**15, 7, b""
    while place + 7 <= len(data):
        if block - place % block < 7:
            place += block - place % block
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        piece = data[place + 7 : place + 7 + length]
        place += 7 + length
        parts = piece if kind in (1, 2) else parts + piece
        if kind in (1, 4):
            yield parts


def read_back(file: Path) -> dict[str, Any]:
    """Run, config, summary and history of an offline file, in W&B's own messages."""
    from wandb.proto.wandb_internal_pb2 import Record

    found: dict[str, Any] = {"config": {}, "summary": {}, "history": []}
    for data in chunks(file.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        if record.HasField("run"):
            run = record.run
            found |= {"project": run.project, "group": run.run_group, "name": run.display_name}
            found |= {"tags": list(run.tags), "id": run.run_id}
            found["config"] |= values_of(run.config.update)
        found["config"] |= values_of(record.config.update)
        found["summary"] |= values_of(record.summary.update)
        if record.HasField("history"):
            found["history"].append(values_of(record.history.item))
        if record.HasField("exit"):
            found["exit"] = record.exit.exit_code
    return found


def values_of(items: Any) -> dict[str, Any]:
    return {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items}


@pytest.mark.slow
def test_w_and_b_reads_back_what_the_run_holds_and_nobody_was_asked(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening() as (address, heard):
        monkeypatch.setenv("WANDB_MODE", "online")
        monkeypatch.setenv("WANDB_BASE_URL", address)
        monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
        out = tmp_path / "out"
        exported(store, "--dir", str(out), "--project", "mine")
        exported(store, "--dir", str(out), "--project", "mine")
    assert heard == []
    files = sorted(out.glob("wandb/offline-run-*/run-*.wandb"))
    assert len(files) == 2, "a second export replaces the first"
    found = {read["name"]: read for read in map(read_back, files)}
    prior = found["prior"]
    assert (prior["project"], prior["group"]) == ("mine", "toy/flat x2/paper-nfe=20")
    assert prior["tags"] == ["small", "toy", "flat", "prior", "paper-nfe=20"]
    assert prior["config"]["method.steps"] == 10
    assert prior["summary"]["reward"] == prior["summary"]["headline"] == 1.75
    assert found["dps"]["summary"]["cells_failed"] == 1
    ess = [item["curve/ess"] for item in prior["history"] if "curve/ess" in item]
    assert ess == [4.0, 3.0, 2.0]
    assert any(name.startswith("samples") for item in prior["history"] for name in item)
    assert prior["exit"] == 0
    pictures = list(out.glob("wandb/offline-run-*/files/media/images/*.png"))
    assert len(pictures) == 2 and all(p.read_bytes().startswith(b"\x89PNG") for p in pictures)
    rows = {row.name: row.id for row in read_rows(store)}
    assert {name: read["id"] for name, read in found.items()} == rows
