"""One training loop: EMA, warm-up, cosine decay, clipping, bf16, accumulation, exact resume.

The randomness of step k is a function of (seed, k) alone, so a run that was killed and resumed
ends, on a CPU with one thread, in the same bits as one that was not.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

Losses = Callable[[nn.Module, nn.Module, torch.Generator], Mapping[str, Tensor]]
"""(model, its moving average, generator) -> named losses, which are summed."""

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


def step_generator(seed: int, step: int) -> torch.Generator:
    """The generator of one optimisation step."""
    return torch.Generator().manual_seed((seed << 32) + step)


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then a cosine to zero."""
    warm = min(1.0, (step + 1) / max(1, config.warmup))
    return config.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / config.steps))


class Trainer:
    """Trains `model` in place; `average` is its exponential moving average.

    Args:
        model: the network.
        losses: see `Losses`.
        config: see `TrainConfig`.
        folder: where checkpoints go; an existing one is resumed.
        report: progress callback.
    """

    def __init__(
        self,
        model: nn.Module,
        losses: Losses,
        config: TrainConfig,
        folder: Path,
        report: Report | None = None,
    ) -> None:
        self.model, self.losses, self.config, self.folder = model, losses, config, folder
        self.average = copy.deepcopy(model).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=0.0
        )
        self.report: Report = report or (lambda *_: None)
        self.step = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._resume()

    def run(self) -> nn.Module:
        """Train to `config.steps` and return the moving average."""
        window: dict[str, float] = {}
        while self.step < self.config.steps:
            for name, value in self._update().items():
                window[name] = window.get(name, 0.0) + value / self.config.report_every
            self.step += 1
            if self.step % self.config.report_every == 0:
                self.report(self.step, window)
                window = {}
            if self.step % self.config.checkpoint_every == 0 or self.step == self.config.steps:
                self._save()
        return self.average

    def _update(self) -> dict[str, float]:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.step)
        self.optimizer.zero_grad(set_to_none=True)
        generator = step_generator(self.config.seed, self.step)
        seen: dict[str, float] = {}
        for _ in range(self.config.accumulate):
            with torch.autocast("cpu", torch.bfloat16, enabled=self.config.bf16):
                losses = self.losses(self.model, self.average, generator)
            total = torch.stack(list(losses.values())).sum() / self.config.accumulate
            total.backward()  # type: ignore[no-untyped-call]
            for name, loss in losses.items():
                seen[name] = seen.get(name, 0.0) + float(loss.detach()) / self.config.accumulate
        if not all(math.isfinite(value) for value in seen.values()):
            raise FloatingPointError(f"the loss is not finite at step {self.step}: {seen}")
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimizer.step()
        self._average()
        return seen

    @torch.no_grad()
    def _average(self) -> None:
        # Early on the average would remember the initial weights, hence the ramp.
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        for mean, value in zip(self.average.parameters(), self.model.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)

    def _save(self) -> None:
        path = self.folder / f"step-{self.step:08d}.pt"
        state = {
            "step": self.step,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(path)
        for old in sorted(self.folder.glob("step-*.pt"))[: -self.config.keep]:
            old.unlink()

    def _resume(self) -> None:
        checkpoints = sorted(self.folder.glob("step-*.pt"))
        if not checkpoints:
            return
        state = torch.load(checkpoints[-1], weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = int(state["step"])
