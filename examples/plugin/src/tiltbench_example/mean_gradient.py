"""A method in a few lines: the steering loop of `bench.api` with one part replaced."""

from __future__ import annotations

from bench.api import ESTIMATORS, EstimatedSteering, Estimator


class MeanGradient(EstimatedSteering):
    """Steering by the gradient of E[r] over posterior draws, where mfm-g follows log E[e^r].

    A sample that merely may end well pulls less, so that it is biased unless the reward hardly
    varies over the posterior.  One draw is mfm-g.  Cost per sample: K + 4 N K paper-nfe.
    """

    summary = "follows the mean reward of posterior draws, not its log-mean-exp"
    standing = "baseline"

    @property
    def estimator(self) -> Estimator:
        return ESTIMATORS["mean"]
