"""Mean rewards: the target that was optimised, and the judge that was not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bench.core.credibility import Credibility
from bench.core.metrics import RowMetric
from bench.core.tasks import Task
from bench.core.values import Measurement, Samples


def weighted_mean(values: Tensor, samples: Samples) -> Measurement:
    """Mean and standard error; dependent rows (same group) count as one observation."""
    weight = (
        torch.full_like(values, 1 / len(values))
        if samples.log_weight is None
        else samples.log_weight.softmax(0).to(values)
    )
    mean = (weight * values).sum()
    influence = weight * (values - mean)
    if samples.group is not None:
        ids = torch.unique(samples.group, return_inverse=True)[1]
        influence = values.new_zeros(int(ids.max()) + 1).index_add(0, ids, influence)
    units = len(influence)
    if units < 2:
        return Measurement(float(mean), None, len(values), "one group: no standard error", values)
    error = float((influence.square().sum() * units / (units - 1)).sqrt())
    return Measurement(float(mean), error, len(values), per_sample=values)


class MeanReward(RowMetric):
    """Mean raw reward of the samples, before the strength: what was asked for."""

    summary = "mean raw reward of the samples: what the methods were asked for"
    rank = 10
    measures = "target"

    direction = "higher"

    @torch.no_grad()
    def each(self, x: Tensor, task: Task[Any]) -> Tensor:
        return self.target.scores(x)

    def of(self, values: Tensor | None, samples: Samples, task: Task[Any]) -> Measurement:
        assert values is not None
        found = weighted_mean(values, samples)
        scale = getattr(self.target.reward, "scale", "")
        unit = f"the reward is in {scale}" if scale else ""
        doubt = getattr(self.target.reward, "doubt", str)()
        said = (found.note, unit, doubt, task.doubt(self.target.condition), self._unread())
        return replace(found, note="; ".join(filter(None, said)))

    def _unread(self) -> str:
        """How much of its sentence the reward does not read."""
        count = getattr(self.target.reward, "tokens_cut", None)
        cut = 0 if count is None else count(self.target.sentence)
        return f"the reward does not read the last {cut} tokens of its prompt" if cut else ""

    def credibility(self) -> Credibility:
        return self.target.reward.credibility()


class JudgeReward(RowMetric):
    """Mean score of the reward's held-out judge, which no method optimises."""

    summary = "a held-out score of the same wish that no method optimises"
    rank = 20
    measures = "judge"

    direction = "higher"

    @torch.no_grad()
    def each(self, x: Tensor, task: Task[Any]) -> Tensor | None:
        return self.target.judged(x)

    def of(self, values: Tensor | None, samples: Samples, task: Task[Any]) -> Measurement:
        if values is None:
            return Measurement(None, note="this reward has no judge")
        return weighted_mean(values, samples)

    def credibility(self) -> Credibility:
        return self.target.reward.judge_credibility()
