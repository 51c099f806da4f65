"""The Ray side of a cell: a reusable Trainable, a mailbox, and the driver's courier."""

from __future__ import annotations

from typing import Any

from ray import tune

from bench.runner.execute import Payload


class Mailbox:
    """An actor that holds payloads until the driver takes them; results stay small that way."""

    def __init__(self) -> None:
        self._letters: dict[str, Payload] = {}

    def put(self, cell: str, payload: Payload) -> None:
        """Leave a payload."""
        self._letters[cell] = payload

    def take(self, cell: str) -> Payload | None:
        """Take a payload, once."""
        return self._letters.pop(cell, None)


class CellTrainable(tune.Trainable):  # type: ignore[misc]  # ray is untyped
    """One trial = one cell; the actor is reused and forgets everything between cells."""

    def setup(self, config: dict[str, Any], jobs: Any = None, mailbox: Any = None) -> None:
        """Remember the jobs and the cell of this trial."""
        self.jobs, self.mailbox, self.cell = jobs, mailbox, config["cell"]

    def step(self) -> dict[str, Any]:
        """Run the cell and post its payload."""
        import ray

        payload = self.jobs[self.cell].run()
        ray.get(self.mailbox.put.remote(self.cell, payload))
        return {"cell": self.cell, "status": payload.status, "done": True}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next cell; a cell seeds all its randomness, so nothing else needs a reset."""
        self.cell = new_config["cell"]
        return True


class Courier(tune.Callback):  # type: ignore[misc]  # ray is untyped
    """Carries payloads from the mailbox to the sink, in the driver's process."""

    def __init__(self, ray: Any, mailbox: Any, sink: Any) -> None:
        self._ray, self._mailbox, self._sink = ray, mailbox, sink
        self.delivered: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its callbacks for a restore that never happens here; the sink stays."""
        return {}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Called by Tune for every result."""
        payload = self._ray.get(self._mailbox.take.remote(result["cell"]))
        if payload is not None:
            self.delivered.add(result["cell"])
            self._sink(payload)
