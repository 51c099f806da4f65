"""Everything that the author of a method, reward, task or metric imports.

    from bench.api import Method, Samples, param

A plugin is one class behind an entry point; `bench new method NAME` writes a working package.
"""

from bench.core.contracts import (
    Condition,
    FineTuning,
    Fitted,
    Flow,
    FlowMap,
    Measurement,
    MetaFlowMap,
    Method,
    Metric,
    Need,
    Noise,
    Oracle,
    PosteriorSampler,
    ProblemSpec,
    Reference,
    Reward,
    Samples,
    Target,
    Task,
)
from bench.core.interpolant import Interpolant, Linear, Trigonometric
from bench.core.params import NoParams, UserError, param
from bench.core.problem import FitProblem, Problem
from bench.core.quadratic import Quadratic
from bench.core.work import Budget, Rows, Work, backward, forward

__all__ = [
    "Budget",
    "Condition",
    "FineTuning",
    "FitProblem",
    "Fitted",
    "Flow",
    "FlowMap",
    "Interpolant",
    "Linear",
    "Measurement",
    "MetaFlowMap",
    "Method",
    "Metric",
    "Need",
    "NoParams",
    "Noise",
    "Oracle",
    "PosteriorSampler",
    "Problem",
    "ProblemSpec",
    "Quadratic",
    "Reference",
    "Reward",
    "Rows",
    "Samples",
    "Target",
    "Task",
    "Trigonometric",
    "UserError",
    "Work",
    "backward",
    "forward",
    "param",
]
