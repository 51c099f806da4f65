"""Does a sweep survive kill -9 of its driver, whenever it comes?

    python -m benchmarks.sweep_durability                      # 30 trials, 10 kills, Ray
    python -m benchmarks.sweep_durability --executor inline --trials 20 --kills 5

The sweep is a child process that runs the command line.  It is killed at seeded random moments and
the same command is repeated each time.  In the end every trial must be there once, and be the one
that an undisturbed sweep proposes.  Processes that the dead driver left behind must not outlive it
for long: they are found by a mark in their environment (Linux only).  Exit code 1 if a check fails.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.record.store import Store

ASKED = (
    "sweep dps -t gmm-paper -r inverse -b paper-nfe=60 --n 128 --tuning-seeds 1 --seeds 1 "
    "--sampler tpe:startup=8 --objective sliced-w2 --no-track --name s "
    "--space guidance=0.1..10:log"
)
DELAY = 0.3
"""Seconds after a moment's last cell in which the kill comes."""

MARK = "TILTBENCH_LAUNCH"
WORKER = b"ray::CellTrainable"
BRIEF = 10.0
"""Seconds for which a worker may outlive its driver: long enough to notice, not to do harm."""

LINGER = 90.0
"""Seconds for which idle agents of Ray may."""


def command(given: argparse.Namespace, root: Path, executor: str) -> list[str]:
    """The same command each time."""
    own = ["--trials", str(given.trials), "--executor", executor, "--root", str(root)]
    workers = ["--workers", str(given.workers)] if executor == "ray" else []
    return [sys.executable, "-m", "bench", *ASKED.split(), *own, *workers]


# -- processes ------------------------------------------------------------------------------------


def marked(mark: str) -> list[bytes]:
    """Command lines of the living processes of a launch."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append((folder / "cmdline").read_bytes())
        except OSError:
            continue  # it ended meanwhile
    return found


@dataclass
class Kill:
    """What happened at one kill; the times are seconds after it."""

    planned: int
    cells: int
    age: float
    workers: float | None = None
    everything: float | None = None
    processes: int = 0
    thread: threading.Thread | None = None

    def watch(self, mark: str) -> None:
        """Note when the last worker and the last process of the launch are gone."""
        killed = time.monotonic()
        while (passed := time.monotonic() - killed) < LINGER:
            alive = marked(mark)
            self.processes = max(self.processes, len(alive))
            if self.workers is None and not any(c.startswith(WORKER) for c in alive):
                self.workers = passed
            if not alive:
                self.everything = passed
                return
            time.sleep(0.2)


@dataclass
class Run:
    """The killed sweep: its folder, and what was in it at every kill."""

    given: argparse.Namespace
    root: Path
    launches: int = 0
    startup: float = math.inf
    kills: list[Kill] = field(default_factory=list)
    seen: list[tuple[list[Any], set[str]]] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.root / "s"

    def finished(self) -> set[str]:
        """Finished attempts."""
        return {str(p.parent) for p in self.folder.glob("cells/*/attempts/*/result.json")}

    def proposals(self) -> list[Any]:
        """The trials that are written down."""
        path = self.folder / "sweep.json"
        return json.loads(path.read_text())["studies"][0]["trials"] if path.exists() else []

    def launch(self) -> tuple[subprocess.Popen[bytes], str]:
        """Start the command."""
        self.launches += 1
        mark = f"{os.getpid()}-{self.launches}"
        with (self.root / "log.txt").open("ab") as log:
            process = subprocess.Popen(
                command(self.given, self.root, self.given.executor),
                env=os.environ | {MARK: mark},
                stdout=log,
                stderr=log,
            )
        return process, mark

    def kill(self, moment: int, chance: random.Random) -> bool:
        """Start it and kill it; False if it ended by itself."""
        before, delay = len(self.finished()), chance.uniform(0, DELAY)
        (process, mark), began = self.launch(), time.monotonic()
        if before >= moment:  # it has passed already: one in the start-up makes up for it
            self._wait(process, before + 1, chance.uniform(0, self.startup))
        else:
            self._wait(process, before + 1)
            self.startup = min(self.startup, time.monotonic() - began)
            self._wait(process, moment)
            time.sleep(delay)
        if process.poll() is not None:
            self.check(process)
            return False
        process.kill()
        process.wait()
        self._died(Kill(moment, len(self.finished()), time.monotonic() - began), mark)
        return True

    def _wait(
        self, process: subprocess.Popen[bytes], cells: int, seconds: float = math.inf
    ) -> None:
        """Until so many cells are stored, the time is up or the process has ended."""
        end = time.monotonic() + seconds
        while len(self.finished()) < cells and time.monotonic() < end and process.poll() is None:
            time.sleep(0.01)

    def check(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for a driver that was left in peace; give up if it failed."""
        if process.wait():
            raise SystemExit(f"a driver failed:\n{(self.root / 'log.txt').read_text()}")

    def _died(self, kill: Kill, mark: str) -> None:
        """Note down what is there; the next driver starts while the remains are watched."""
        self.kills.append(kill)
        self.seen.append((self.proposals(), self.finished()))
        if Path("/proc/self/environ").exists():
            kill.thread = threading.Thread(target=kill.watch, args=(mark,), daemon=True)
            kill.thread.start()


def disturbed(given: argparse.Namespace, root: Path) -> Run:
    """Kill the sweep at random moments, then let it end."""
    chance, run = random.Random(given.seed), Run(given, root)
    root.mkdir(parents=True)
    for moment in sorted(chance.choices(range(1, given.trials), k=given.kills)):
        if not run.kill(moment, chance):
            print(f"the sweep ended before its moment of {moment} cells", flush=True)
            continue
        kill = run.kills[-1]
        print(
            f"kill {len(run.kills)}: {kill.age:5.1f} s after its start, {kill.cells} cells and "
            f"{len(run.seen[-1][0])} proposals stored",
            flush=True,
        )
    process, _ = run.launch()
    run.check(process)
    for kill in run.kills:
        if kill.thread is not None:
            kill.thread.join()
    return run


def undisturbed(given: argparse.Namespace, root: Path) -> Store:
    """The same sweep in one go; one worker needs no Ray for that."""
    executor = "inline" if given.workers == 1 else given.executor
    done = subprocess.run(command(given, root, executor), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the undisturbed sweep failed:\n{done.stderr}")
    return Store(str(root), "s")


# -- checks ---------------------------------------------------------------------------------------


def checks(given: argparse.Namespace, run: Run, whole: Store) -> Iterator[tuple[bool, str]]:
    """Whether each promise was kept, and what it is."""
    store = Store(str(run.root), "s")
    trials, expected = store.table("trials"), whole.table("trials")
    final, attempts = run.proposals(), run.finished()
    cells = [str(Path(path).parents[1]) for path in attempts]
    numbers = list(trials["trial"])
    yield len(run.kills) == given.kills, f"{len(run.kills)} drivers were killed"
    yield len(trials) == given.trials, f"{len(trials)} trials in the end"
    yield numbers == list(range(given.trials)), "trials are numbered without gap or repetition"
    yield len(set(cells)) == len(cells), f"no cell was stored twice ({len(cells)} cells)"
    yield (
        trials["label"].is_unique and expected["label"].is_unique,
        "no configuration was tried twice",
    )
    kept = all(final[: len(p)] == p and a <= attempts for p, a in run.seen)
    yield kept, "no proposal and no result that was stored at a kill was lost or changed"
    yield set(trials["state"]) <= {"complete", "pruned", "fail"}, "no trial is left running"
    columns = ["trial", "label", "params"]
    same = trials[columns].equals(expected[columns])
    yield same, f"the suggestions of an undisturbed sweep with {given.workers} worker(s), in order"
    yield trials.equals(expected), "the same outcomes and the same tuning work"
    mine, theirs = (s.table("tuning").drop(columns="sweep") for s in (store, whole))
    yield mine.equals(theirs), "the same selection and the same scores on reporting seeds"
    yield from remains([kill for kill in run.kills if kill.thread is not None])


def remains(kills: list[Kill]) -> Iterator[tuple[bool, str]]:
    """What the dead drivers left behind."""
    if not kills:
        return
    workers = max(LINGER if k.workers is None else k.workers for k in kills)
    everything = max(LINGER if k.everything is None else k.everything for k in kills)
    most = max(kill.processes for kill in kills)
    yield workers < BRIEF, f"no worker outlived its driver for more than {workers:.1f} s"
    yield (
        everything < LINGER,
        f"all of up to {most} processes that a driver left were gone after {everything:.1f} s",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--executor", choices=("ray", "inline"), default="ray")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--keep", action="store_true", help="leave the folders for inspection")
    given = parser.parse_args()
    if given.executor == "inline" and given.workers > 1:
        parser.error("--executor inline has one worker")
    root, began = Path(tempfile.mkdtemp(prefix="sweep-durability-")), time.monotonic()
    run = disturbed(given, root / "killed")
    found = list(checks(given, run, undisturbed(given, root / "whole")))
    for ok, text in found:
        print("ok    " if ok else "FAILED", text)
    print(f"{time.monotonic() - began:.0f} s, {given.executor}, {given.workers} worker(s)")
    if given.keep:
        print(root)
    else:
        shutil.rmtree(root)
    sys.exit(not all(ok for ok, _ in found))


if __name__ == "__main__":
    main()
