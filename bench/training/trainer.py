"""One training loop: EMA, warm-up, cosine decay, clipping, bf16, accumulation, exact resume.

A batch is made of shards: `accumulate` of them per worker.  The randomness of shard j of step k is
a function of (seed, j, k) alone, so a run that was killed and resumed ends, on a CPU with one
thread, in the same bits as one that was not, and workers share a batch as accumulation does.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from bench.core.devices import on_device
from bench.core.divided import clip_norm, outline, put_together, whole
from bench.core.params import UserError, nearest
from bench.core.workers import ALONE, WorkerGroup
from bench.training.checkpoints import Checkpoints, Stateful, WholeOptimizer, restore
from bench.training.validation import Validation

Losses = Callable[[nn.Module, nn.Module, torch.Generator], Mapping[str, Tensor]]
"""(model, its moving average, generator) -> named losses, which are summed."""


@runtime_checkable
class Phased(Protocol):
    """Losses that change while a training goes on."""

    def at(self, step: int) -> Losses:
        """What step number `step`, counted from 0, is trained on."""


Report = Callable[[int, Mapping[str, float]], None]
"""Called with (step, mean losses since the last report)."""


@dataclass(frozen=True)
class TrainConfig:
    """How to optimise; what to optimise is the loss function's business."""

    steps: int
    learning_rate: float = 1e-3
    warmup: int = 200
    ema: float = 0.999
    clip: float = 1.5
    accumulate: int = 1
    bf16: bool = False
    seed: int = 0
    checkpoint_every: int = 500
    keep: int = 2
    report_every: int = 50
    optimizer: str = "adamw"
    schedule: str = "cosine"

    def __post_init__(self) -> None:
        named = (("optimiser", self.optimizer, OPTIMIZERS), ("schedule", self.schedule, SCHEDULES))
        for kind, name, known in named:
            if name not in known:
                raise UserError(f"unknown {kind} '{name}': {nearest(name, known)}")


Optimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
OPTIMIZERS: Mapping[str, Optimizer] = {
    "adamw": partial(torch.optim.AdamW, lr=1.0, betas=(0.9, 0.99), weight_decay=0.0),
    "adam": partial(torch.optim.Adam, lr=1.0, betas=(0.9, 0.999)),
    "radam": partial(torch.optim.RAdam, lr=1.0, betas=(0.9, 0.999), weight_decay=0.0),
}
"""By name, at a rate of 1 that the schedule multiplies; RAdam is what the paper's maps had."""

SCHEDULES: Mapping[str, Callable[[float], float]] = {
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "linear": lambda done: 1 - done,
    "constant": lambda _: 1.0,
}
"""Factor of the learning rate after a share `done` of the steps."""


def _nothing(*_: object) -> None:
    """Nobody is told."""


@dataclass(frozen=True)
class Setting:
    """Where a training runs, among whom and under whose eyes; not what it learns.

    It is itself a `Report`, so that a recipe hands it to its trainer without knowing of it.

    report: see `Report`.  device: of the network; data and generators stay on the CPU.  group: the
    workers that share each batch.  validation: what to measure on the way.  begin: told the step
    from which the training goes on.  finish: handed the moving average at the end.  ledger: kept in
    checkpoints beside the weights, and told on resuming what it held; asked by every worker.
    """

    report: Report = _nothing
    device: str = "cpu"
    group: WorkerGroup = ALONE
    validation: Validation | None = None
    begin: Callable[[int], None] = _nothing
    finish: Callable[[nn.Module], None] = _nothing
    ledger: Stateful | None = None

    def __call__(self, step: int, losses: Mapping[str, float]) -> None:
        self.report(step, losses)


def step_generator(seed: int, step: int, shard: int = 0) -> torch.Generator:
    """The generator of one shard of one optimisation step.

    torch keeps only the lowest 32 bits of a CPU generator's seed.  Consecutive ones from a hashed
    start never repeat within a shard; two shards of n steps overlap with probability n / 2^31.
    """
    start = hashlib.blake2b(f"{seed} {shard}".encode(), digest_size=4).digest()
    return torch.Generator().manual_seed((int.from_bytes(start, "big") + step) % 2**32)


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then the schedule; by default a cosine to zero."""
    warm = min(1.0, (step + 1) / max(1, config.warmup))
    return config.learning_rate * warm * SCHEDULES[config.schedule](step / max(1, config.steps))


def ramped_average(
    ema: float, means: Sequence[Tensor], values: Sequence[Tensor], n: Tensor
) -> None:
    """mean <- mean + (1 - d) (value - mean), in place, with d = min(ema, n / (n + 9)).

    n counts the weights behind the means.  Early on these would remember the initial ones, hence
    the ramp.
    """
    decay = min(ema, int(n) / (int(n) + 9))
    for mean, value in zip(means, values, strict=True):
        mean.lerp_(value, 1 - decay)


def _mean(window: list[dict[str, float]]) -> dict[str, float]:
    return {name: sum(seen[name] for seen in window) / len(window) for name in window[0]}


class Trainer:
    """Trains `model` in place; `average` is its exponential moving average.

    Args:
        model: the network.
        losses: see `Losses`, a mean over its rows, so that shards of equal size average; or
            `Phased` ones.
        config: see `TrainConfig`.
        folder: where rank 0 keeps checkpoints; an existing one is resumed.
        report: progress callback, or a whole `Setting`.
    """

    def __init__(
        self,
        model: nn.Module,
        losses: Losses | Phased,
        config: TrainConfig,
        folder: Path,
        report: Report | None = None,
    ) -> None:
        self.setting = report if isinstance(report, Setting) else Setting(report or _nothing)
        self.model = model.to(self.setting.group.home(self.setting.device))
        self.losses, self.config = losses, config
        self.checkpoints = Checkpoints(folder, config.keep)
        average = partial(ramped_average, config.ema)
        self.averaged = AveragedModel(model, multi_avg_fn=average).requires_grad_(False)
        self.averaged.n_averaged += 1  # the initial weights; else the first update replaces them
        state = self._last()
        weights: dict[str, Stateful] = {"model": self.model, "average": self.averaged}
        restore(weights, state)  # what is whole, before it is divided
        self._outline = outline(self.average)
        for network in (self.model, self.average):
            self.setting.group.divide(network)
        # The schedule multiplies a rate of 1: its products are then rounded in one way only.
        self.optimizer = OPTIMIZERS[config.optimizer](model.parameters())
        self.schedule = LambdaLR(self.optimizer, partial(learning_rate, config))
        progress = self._progress()
        restore(progress, state)
        self.parts, self.step = {**weights, **progress}, int(state.get("step", 0))
        if self.setting.validation is not None and self.setting.group.rank == 0:
            self.setting.validation.resume(self.step)

    @property
    def average(self) -> nn.Module:
        """The moving average of the model, under the model's own names."""
        return self.averaged.module

    def run(self) -> nn.Module:
        """Train to `config.steps` and return the moving average, whole and where it was trained.

        Raises FloatingPointError when a loss is not finite, on every worker alike.
        """
        self.train()
        trained = put_together(self.average, self._outline).to(self.setting.device)
        self.setting.finish(trained)
        return trained

    def train(self) -> None:
        """Train to `config.steps`; `average` is then as every worker holds it."""
        self.setting.begin(self.step)
        self._validate()  # what was killed while it measured still owes these figures
        window: list[dict[str, float]] = []
        while self.step < self.config.steps:
            window.append(self._update())
            self.step += 1
            if self.step % self.config.report_every == 0 or self.step == self.config.steps:
                self.setting(self.step, _mean(window))
                window = []
            if self.step % self.config.checkpoint_every == 0 or self.step == self.config.steps:
                self._save()
            self._validate()

    def _update(self) -> dict[str, float]:
        self.optimizer.zero_grad(set_to_none=True)
        seen = self._gradients()
        if not all(math.isfinite(value) for value in seen.values()):
            raise FloatingPointError(f"the loss is not finite at step {self.step}: {seen}")
        clip_norm(list(self.model.parameters()), self.config.clip)
        self.optimizer.step()
        self.schedule.step()
        self.averaged.update_parameters(self.model)
        return seen

    def _gradients(self) -> dict[str, float]:
        """Gradients and losses, averaged over the shards of all workers."""
        shards, group = self.config.accumulate, self.setting.group
        sums: dict[str, Tensor] = {}
        for shard in range(group.rank * shards, (group.rank + 1) * shards):
            losses = self._losses(step_generator(self.config.seed, self.step, shard))
            (torch.stack(list(losses.values())).sum() / shards).backward()  # type: ignore[no-untyped-call]
            for name, loss in losses.items():
                sums[name] = sums.get(name, torch.zeros_like(loss)) + loss.detach() / shards
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        group.average([*gradients, *sums.values()])
        return {name: float(value) for name, value in sums.items()}

    def _losses(self, generator: torch.Generator) -> Mapping[str, Tensor]:
        device = self.setting.device
        bf16 = torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=self.config.bf16)
        losses = self.losses.at(self.step) if isinstance(self.losses, Phased) else self.losses
        with on_device(device), bf16:
            return losses(self.model, self.average, generator)

    def _validate(self) -> None:
        validation = self.setting.validation
        if validation is None or not validation.planned(self.step, self.config.steps):
            return
        measures = self.setting.group.rank == 0
        average = put_together(self.average, self._outline, kept=measures)
        if measures and not validation.has(self.step):
            validation(self.step, average)

    def _progress(self) -> dict[str, Stateful]:
        """What has a state of its own, besides the weights and the number of the step."""
        optimizer, ledger = WholeOptimizer(self.optimizer), self.setting.ledger
        found: dict[str, Stateful] = {"optimizer": optimizer, "schedule": self.schedule}
        return found if ledger is None else {**found, "ledger": ledger}

    def _save(self) -> None:
        # by all: ledgers and divided weights are put together from every worker's part
        kept = self.setting.group.rank == 0
        states = {name: whole(part.state_dict(), kept) for name, part in self.parts.items()}
        if kept:
            self.checkpoints.save(self.step, {"step": self.step, **states})

    def _last(self) -> dict[str, Any]:
        """Rank 0's last checkpoint, whether or not the others see its folder; empty without one.

        Raises UserError if it is one of another version.
        """
        group = self.setting.group
        state: dict[str, Any] = group.share(self.checkpoints.last() if group.rank == 0 else None)
        names = {"step", "model", "average", "optimizer", "schedule"}
        names |= {"ledger"} if self.setting.ledger is not None else set()
        if state is not None and state.keys() != names:
            raise UserError(
                f"the checkpoints in {self.checkpoints.folder} are of another version of "
                "tiltbench: delete them, and the training starts anew"
            )
        return state or {}
