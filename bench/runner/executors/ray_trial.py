"""The Ray side of a cell: a reusable Trainable, a mailbox, and the driver's courier."""

from __future__ import annotations

import faulthandler
import math
import platform
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ray import tune

from bench.core import plugins
from bench.core.params import UserError
from bench.record.attempt import Attempt
from bench.runner.cell import Job
from bench.runner.limits import bounded, ended, hard_limit
from bench.runner.nodes import Machine, differences, lacking


class Mailbox:
    """An actor that holds attempts until the driver takes them; results stay small that way."""

    def __init__(self) -> None:
        self._letters: dict[str, Attempt] = {}
        self._begun: dict[str, int] = {}
        self._open: dict[str, tuple[float, float, Attempt]] = {}

    def begin(self, cell: str, limit: float, ended: Attempt) -> Attempt | None:
        """A worker begins a cell, and ends after `limit` seconds, which is then its attempt.

        Returns the attempt that the worker before this one has left, or was ended with.
        """
        before = self.take(cell) or self.overdue(cell)
        self._begun[cell] = self._begun.get(cell, 0) + 1
        self._open[cell] = time.monotonic(), limit, ended
        return before

    def overdue(self, cell: str) -> Attempt | None:
        """The attempt of a worker that has died, if it was ended at its limit."""
        started, limit, ended = self._open.pop(cell, (0.0, math.inf, None))
        return ended if time.monotonic() - started >= limit else None

    def begun(self) -> dict[str, int]:
        """How often cells were begun."""
        return self._begun

    def put(self, cell: str, attempt: Attempt) -> None:
        """Leave an attempt."""
        self._letters[cell] = attempt

    def take(self, cell: str) -> Attempt | None:
        """Take an attempt, once."""
        return self._letters.pop(cell, None)


def beside_the_driver(ray: Any, mailbox: type[Mailbox]) -> Any:
    """A mailbox on the driver's own node: on another one it would be lost with that node.

    One that Ray ends for want of memory comes back empty; what it held is computed again.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    again = {"max_restarts": -1, "max_task_retries": -1}
    return ray.remote(mailbox).options(num_cpus=0, scheduling_strategy=here, **again).remote()


class CellTrainable(tune.Trainable):  # type: ignore[misc]  # ray is untyped
    """One trial = one cell; the actor is reused and forgets everything between cells."""

    def setup(
        self,
        config: dict[str, Any],
        jobs: Any = None,
        mailbox: Any = None,
        driver: Machine | None = None,
    ) -> None:
        """Remember the jobs and the cell of this trial; compare this machine with the driver's."""
        self.jobs, self.mailbox, self.cell = jobs, mailbox, config["cell"]
        self.objections = [] if driver is None else differences(driver, Machine.here())

    def step(self) -> dict[str, Any]:
        """Run the cell and post its attempt; a machine unlike the driver's runs nothing."""
        import ray

        job: Job = self.jobs[self.cell]
        plugins.add(*job.local)
        if objections := [*self.objections, *lacking(job.cell)]:
            return {"cell": self.cell, "refused": _refusal(ray, objections[0]), "done": True}
        limit = hard_limit(job.cell) or math.inf
        begin = self.mailbox.begin.remote(self.cell, limit, ended(job.cell, str(job.budget or "")))
        with bounded(job.cell, str(job.budget or ""), self._post):
            attempt = ray.get(begin) or within(limit, job)
        self._post(attempt)
        return {"cell": self.cell, "status": attempt.status, "done": True}

    def _post(self, attempt: Attempt) -> None:
        """Leave an attempt in the mailbox, and wait until it is there."""
        import ray

        ray.get(self.mailbox.put.remote(attempt.cell, attempt))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next cell; a cell seeds all its randomness, so nothing else needs a reset."""
        self.cell = new_config["cell"]
        return True


def within(limit: float, job: Job) -> Attempt:
    """Run a job in a worker that is ended after `limit` seconds.

    The watchdog is a thread of the interpreter's own, which needs nothing of what may hang.
    """
    if limit == math.inf:
        return job.run()
    faulthandler.dump_traceback_later(limit, exit=True)
    try:
        return job.run()
    finally:
        faulthandler.cancel_dump_traceback_later()


def _refusal(ray: Any, why: str) -> str:
    """Why a node that joined later computes nothing."""
    address = ray.util.get_node_ip_address()
    return f"the node {address} ({platform.node()}) cannot take part: {why}, or take the node out"


@dataclass(frozen=True)
class Jobs:
    """Jobs by cell, the weights of their fits once each and by reference.

    A worker fetches the weights of the cell that it runs, and no others.
    """

    jobs: Mapping[str, Job]
    fits: Mapping[str, Any]

    def __getitem__(self, cell: str) -> Job:
        import ray

        job = self.jobs[cell]
        fit = self.fits.get(job.cell.fit)
        return job if fit is None else replace(job, fitted=ray.get(fit))


def by_reference(ray: Any, jobs: Iterable[Job]) -> Jobs:
    """The jobs as workers get them; the weights stay in the object store of the driver's node."""
    fits: dict[str, Any] = {}
    bare: dict[str, Job] = {}
    for job in jobs:
        if job.fitted is not None and job.cell.fit not in fits:
            fits[job.cell.fit] = ray.put(job.fitted)
        bare[job.id] = replace(job, fitted=None)
    return Jobs(bare, fits)


class Courier(tune.Callback):  # type: ignore[misc]  # ray is untyped
    """Carries attempts from the mailbox to the sink, in the driver's process."""

    def __init__(self, ray: Any, mailbox: Any, sink: Any) -> None:
        self._ray, self._mailbox, self._sink = ray, mailbox, sink
        self.delivered: set[str] = set()
        self.why = ""
        self.error: Exception | None = None

    def understands(self, told: str) -> bool:
        """Whether Ray has said of what a worker died, so that a user can mend it; kept in `why`."""
        found = [said for known, said in CAUSES.items() if known in told]
        self.why = found[0] if found else self.why
        return bool(found)

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its callbacks for a restore that never happens here; the sink stays."""
        return {}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Called by Tune for every result."""
        if result.get("refused"):
            self.error = self.error or UserError(result["refused"])
            return
        self._deliver(self._ray.get(self._mailbox.take.remote(result["cell"])))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Called by Tune for a worker that died for good; it may have been ended at a limit."""
        cell = trial.config["cell"]
        self.understands(str(trial.get_error() or ""))
        left = self._ray.get(self._mailbox.take.remote(cell))
        self._deliver(left or self._ray.get(self._mailbox.overdue.remote(cell)))

    def _deliver(self, attempt: Attempt | None) -> None:
        if attempt is None or self.error is not None:
            return
        self.delivered.add(attempt.cell)
        try:
            self._sink(attempt)
        except Exception as error:  # raised again by the driver once Tune has wound down
            self.error = error


CAUSES = {
    "low on memory": "a worker died for want of memory on its node, where Ray ends workers before "
    "the system does: run fewer cells at once (--workers, or `resources: {memory: 4GiB}` in the "
    "suite), or lower `batch`",
}
"""What is said of a worker's death for what Ray says of it."""


def quiet_run(name: str, scratch: str, courier: Courier, retries: int = 2) -> tune.RunConfig:
    """One Tune run whose record is our store: nothing printed, kept or restored."""
    return tune.RunConfig(
        name=name,
        storage_path=scratch,
        callbacks=[courier],
        stop=StopOnError(courier),
        verbose=0,
        failure_config=tune.FailureConfig(max_failures=retries),
        checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
    )


class StopOnError(tune.Stopper):  # type: ignore[misc]  # ray is untyped
    """Ends the whole run when the courier could not deliver (a full disk, for example)."""

    def __init__(self, courier: Courier) -> None:
        self._courier = courier

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No single trial is stopped."""
        return False

    def stop_all(self) -> bool:
        """Whether delivery failed."""
        return self._courier.error is not None
