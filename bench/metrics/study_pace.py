"""How long a study of value estimates takes on this machine, from one batch of every sampler."""

from __future__ import annotations

from time import perf_counter

from bench.core.posterior import SDERollout
from bench.core.protocols import PosteriorSampler
from bench.metrics import value_estimation as ve
from bench.metrics.value_estimation import ValueQuestion
from bench.metrics.value_study import GRADIENT_DRAWS

FEW = 4
"""Steps of a rollout that is timed in place of a long one."""

BACK = 3
"""A draw that is differentiated takes so many times longer."""


def seconds_of_draws(question: ValueQuestion, draws: int) -> float:
    """Of all samplers' draws at one time; statistics and their bootstrap come on top."""
    samplers = [sampler for sampler, _ in ve.samplers(question.task).values()]
    once = min(draws, max(1, ve.DRAWN_ROWS // len(question.x)))
    _seconds(question, samplers[0], once)  # the first call of everything takes longer
    plain = sum(_seconds(question, sampler, once) for sampler in samplers)
    rounds = (draws + (BACK - 1) * min(draws, GRADIENT_DRAWS)) / once
    return plain * rounds


def seconds_of_rollouts(question: ValueQuestion) -> float:
    """Of the long rollouts that stand for the truth at one time."""
    once = max(1, ve.DRAWN_ROWS // len(question.x))
    short = _seconds(question, SDERollout(question.task.flow, FEW), once)
    return short * ve.REFERENCE_STEPS / FEW * ve.REFERENCE_PARTICLES / once


def _seconds(question: ValueQuestion, sampler: PosteriorSampler, draws: int) -> float:
    began = perf_counter()
    ve.draw(question, sampler, draws)
    return perf_counter() - began
