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
    Measures,
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
    Standing,
    Target,
    Task,
)
from bench.core.estimators import denoiser_shift, log_mean_exp, value_gradient
from bench.core.integrate import filled, integrate, ode_step, uniform_grid
from bench.core.noise import uniform
from bench.core.params import NoParams, UserError, param
from bench.core.paths import Interpolant, Linear, Trigonometric, expand
from bench.core.posterior import Gaussian, Glass, Remembered, SDERollout, Tweedie
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
    "Gaussian",
    "Glass",
    "Interpolant",
    "Linear",
    "Measurement",
    "Measures",
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
    "Remembered",
    "Reward",
    "Rows",
    "SDERollout",
    "Samples",
    "Standing",
    "Target",
    "Task",
    "Trigonometric",
    "Tweedie",
    "UserError",
    "Work",
    "backward",
    "denoiser_shift",
    "expand",
    "filled",
    "forward",
    "integrate",
    "log_mean_exp",
    "ode_step",
    "param",
    "uniform",
    "uniform_grid",
    "value_gradient",
]
