"""Figures that reward governance reads: how strong the tilt is, and whether scorers agree."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from bench.core.metrics import RowMetric
from bench.core.tasks import Task
from bench.core.values import Measurement, Samples
from bench.metrics.reward import weighted_mean


class TiltSize(RowMetric):
    """strength * std(r) over the samples: under the base model, how strong the tilt is.

    Raw scales say nothing across rewards; this is in nats.  Read the row of the method `prior`.
    """

    summary = "strength times the deviation of the reward over the samples, in nats"
    rank = 160
    measures = "tilt"

    smallest_n: ClassVar[int] = 20

    @torch.no_grad()
    def each(self, x: Tensor, task: Task[Any]) -> Tensor:
        return self.target.scores(x)

    def of(self, values: Tensor | None, samples: Samples, task: Task[Any]) -> Measurement:
        assert values is not None
        scores = values.double()
        spread = self.target.strength * float(scores.std())
        centred = scores - scores.mean()
        # Delta method for a standard deviation: var(s) = (m4 - m2^2) / (4 m2 n).
        second = float(centred.square().mean())
        fourth = float(centred.pow(4).mean())
        variance = max(fourth - second**2, 0.0) / (4 * max(second, 1e-300) * len(scores))
        return Measurement(spread, abs(self.target.strength) * variance**0.5, len(scores))


class EnsembleDisagreement(RowMetric):
    """How far the members of a summed reward are apart, in units of their spread on real data.

    Every member's scores are standardised by its mean and deviation over held-out data; the value
    is the mean over samples of the deviation between members.  Hacking one member moves it alone.
    """

    summary = "how far the members of a summed reward are apart, in deviations"
    rank = 170
    measures = "disagreement"

    version = "2"
    smallest_n: ClassVar[int] = 20

    @torch.no_grad()
    def each(self, x: Tensor, task: Task[Any]) -> Tensor | None:
        members = getattr(self.target.reward, "members", None)
        if members is None or task.data("held-out") is None:
            return None
        return cast(Tensor, members(x, self.target.sentence)).T

    @torch.no_grad()
    def of(self, values: Tensor | None, samples: Samples, task: Task[Any]) -> Measurement:
        members = getattr(self.target.reward, "members", None)
        real = task.data("held-out")
        if members is None or real is None or values is None:
            why = "the reward has no members" if members is None else "the task has no real data"
            return Measurement(None, note=why)
        usual = members(real[:1000], self.target.sentence).double()
        scores = values.T.double()
        scale = usual.std(1, keepdim=True)
        if not bool((scale > 0).all()):
            return Measurement(None, note="a member scores all real data alike: it has no unit")
        standard = (scores - usual.mean(1, keepdim=True)) / scale
        return weighted_mean(standard.std(0, unbiased=False), samples)
