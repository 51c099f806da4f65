"""Fine-tuning: fit the flow to the tilted law once, then sample it like any other flow.

    for k in range(iterations):
        theta -= Adam(grad of losses(model, k))         # a method's own
    return the moving average of theta

What all methods share: the parameters, the loop (`bench.training.trainer`), the ledger of a fit
and the sampler of the fitted flow.  A method says what one step costs and what its losses are.

Workers that share a fit compute their own rows of every batch (`FitProblem.rows_of`), with the
noise that those rows have anyway, so that the fit is that of one worker up to rounding.

A fit for many conditions takes them in turn: all rows of a step, and of the steps that belong
together, are under one, as rewards relative to a group need it.  One flow learns all of them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bench.api import (
    KINDS,
    ROLES,
    SOLVERS,
    FineTuning,
    FitProblem,
    Fitted,
    Meter,
    Problem,
    ProblemSpec,
    Samples,
    UserError,
    Work,
    WorkerGroup,
    named_param,
    param,
    trained_state,
)
from bench.training.trainer import Setting, TrainConfig, Trainer
from methods.reference import Prior, PriorParams

Losses = Callable[[Any, int], Mapping[str, Tensor]]
"""(network, step) -> named losses, which are summed; the noise of a step is a function of `step`.

The network is what `FineTuned.network` made: the trainable flow, unless a method says otherwise.
"""


@dataclass(frozen=True)
class FitParams:
    """What every fine-tuning method has; `steps` and `solver` sample and leave the fit alone."""

    iterations: int = param(1000, low=1, high=1_000_000, log=True, help="optimiser steps")
    batch: int = param(256, low=1, high=65536, log=True, help="rows per optimiser step")
    learning_rate: float = param(1e-3, low=1e-6, high=0.1, log=True, help="peak, Adam")
    ema: float = param(0.99, low=0.0, high=0.99999, help="decay of the weights' moving average")
    clip: float = param(10.0, low=1e-3, high=1e9, log=True, help="largest norm of the gradient")
    rank: int = param(0, low=0, high=1024, tunable=False, help="rank of a LoRA; 0 fits all weights")
    fit_seed: int = param(0, low=0, tunable=False, help="seed of the fit")
    steps: int = param(20, low=1, high=2000, log=True, help="time steps K of the sampler")
    solver: str = named_param("euler", SOLVERS)


class FineTuned(FineTuning[Any]):
    """A fine-tuning method: subclasses give the ledger of a step, and its losses.

    Cost per sample: K flow rows (2 K with Heun), as for the base model.
    """

    Params: ClassVar[type[Any]] = FitParams
    effort: ClassVar[tuple[str, ...]] = ("steps",)
    sampling: ClassVar[tuple[str, ...]] = ("steps", "solver")
    many_conditions: ClassVar[bool] = True

    @property
    def cycle(self) -> int:
        """Optimiser steps that belong together: checkpoints fall between such groups."""
        return 1

    @property
    def shared_rows(self) -> int:
        return int(self.params.batch)

    def network(self, problem: FitProblem) -> nn.Module:
        """What is trained: the flow; a method may train another network beside it."""
        return problem.trainable_flow(self.params.rank)

    def flow_of(self, network: nn.Module) -> nn.Module:
        """The flow in what is trained, or in its moving average."""
        return network

    def losses(self, problem: FitProblem) -> Losses:
        """Prepare a fit under one condition; what this computes itself is `setup_work`."""
        raise NotImplementedError

    def steps_work(self, spec: ProblemSpec, iterations: int) -> Work:
        """Rows of the first `iterations` optimiser steps."""
        raise NotImplementedError

    def setup_work(self, spec: ProblemSpec) -> Work:
        """Rows that are computed before the first step, under one condition."""
        return Work()

    def work(self, spec: ProblemSpec) -> Work:
        return self._sampler.work(spec)

    def sample(self, problem: Problem, n: int) -> Samples:
        return self._sampler.sample(problem, n)

    @property
    def _sampler(self) -> Prior:
        return Prior(PriorParams(self.params.steps, self.params.solver))

    def fit_work(self, spec: ProblemSpec) -> Work:
        setup = self.setup_work(spec) * float(spec.conditions)
        return setup + self.steps_work(spec, self.params.iterations)

    def fit(self, problem: FitProblem) -> Fitted:
        """Train, or go on training where a killed fit with the same `workdir` stopped."""
        network = self.network(problem)
        turns = range(len(problem.each))
        losses = [self.losses(problem.take_turn(k)) for k in turns]
        last: dict[str, float] = {}

        def report(step: int, scalars: Mapping[str, float]) -> None:
            last.update(scalars)
            problem.log(step, **scalars)

        def objective(model: nn.Module, _: nn.Module, __: torch.Generator) -> Mapping[str, Tensor]:
            k = trainer.step // self.cycle % len(turns)
            problem.take_turn(k)
            return losses[k](model, trainer.step)

        ledger = _StepLedger(problem.problem.meter, problem.group)
        setting = Setting(report, device=problem.problem.device, group=problem.group, ledger=ledger)
        with _folder(problem.problem) as folder:
            trainer = Trainer(network, objective, self._config(), folder, setting)
            ledger.charge()
            trainer.train()
        flow, rank = self.flow_of(trainer.average), self.params.rank
        trained = sum(p.numel() for p in self.flow_of(network).parameters() if p.requires_grad)
        return Fitted(trained_state(flow, rank), {"trained_parameters": float(trained), **last})

    def _config(self) -> TrainConfig:
        p = self.params
        return TrainConfig(
            p.iterations,
            p.learning_rate,
            warmup=min(50, p.iterations // 10),
            ema=p.ema,
            clip=p.clip,
            seed=p.fit_seed,
            checkpoint_every=self.cycle * max(1, min(500, p.iterations // 4) // self.cycle),
        )


@contextmanager
def _folder(problem: Problem) -> Iterator[Path]:
    """Where checkpoints go: to stay, if the problem has a folder."""
    if problem.workdir is not None:
        yield problem.workdir / "fit"
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


class _StepLedger:
    """Work of the optimiser's steps, which a checkpoint keeps: an interrupted fit owes it."""

    def __init__(self, meter: Meter, group: WorkerGroup) -> None:
        self.meter, self.group = meter, group
        self.before, self.owed = self._counted(), dict[str, list[float]]()

    def _counted(self) -> dict[str, list[float]]:
        """Rows and FLOPs so far, by role and kind."""
        work, flops = self.meter.work(), self.meter.flops()
        return {
            f"{role} {kind}": [getattr(work.rows(role), kind), flops.get((role, kind), 0.0)]
            for role in ROLES
            for kind in KINDS
        }

    def state_dict(self) -> dict[str, Any]:
        """Rows and FLOPs of all steps and workers so far, by role and kind."""
        now, before = self._counted(), self.before
        own = {k: [n - b for n, b in zip(now[k], before[k], strict=True)] for k in now}
        every = self.group.gather(own)
        return {k: [sum(each) for each in zip(*(e[k] for e in every), strict=True)] for k in own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What the steps of an interrupted fit spent."""
        if not all(isinstance(each, list) for each in state_dict.values()):
            raise UserError("an older version began this fit: remove its folder to fit again")
        self.owed = dict(state_dict)

    def charge(self) -> None:
        """Charge this worker's part of the steps that were made before, by however many workers;
        it is on no other ledger.
        """
        rank, size = self.group.rank, self.group.size
        for role in ROLES:
            for kind in KINDS:
                rows, flops = self.owed.get(f"{role} {kind}", (0, 0.0))
                own = int(rows) * (rank + 1) // size - int(rows) * rank // size
                if own:
                    self.meter.charge(role, kind, own, flops / size)
