"""Everything that the author of a method, reward, task or metric imports.

    from bench.api import Method, Samples, param

A plugin is one class behind an entry point; `bench new method NAME` writes a working package.  Our
own methods, rewards and tasks import from here as well.  By subject, in the order below:

contracts    Method, FineTuning, Reward, Task, Metric, and the values that pass between them
problem      metered callables, noise by name, and the place where networks run
parameters   `param`, `named_param` (one of the names of a table), errors that users can mend
work         rows, budgets, what a method predicts
time         interpolants, grids, integrators
posteriors   samplers of p(x1 | x_t = x); `SAMPLERS`, in which they have names
values       estimates of the value and of its gradient from draws
steering     `march` and `steer`, the loops; `EstimatedSteering`; scales, steps, estimators by name
particles    the engine, populations, resampling; `ParticleMethod`
search       candidates, their noise, look-aheads
fine-tuning  the trainable flow, and the state that a fit leaves
"""

# contracts
from bench.core.conditions import RowConditions
from bench.core.credibility import Accuracy, Credibility
from bench.core.methods import FineTuning, Growth, Method, Need, Standing
from bench.core.metrics import FewMetric, Measures, Metric, RowMetric, Target
from bench.core.protocols import (
    Condition,
    Flow,
    FlowMap,
    HearsRows,
    MetaFlowMap,
    Noise,
    Oracle,
    PosteriorSampler,
    Rowed,
    Scheduled,
)
from bench.core.tasks import Reward, Task
from bench.core.values import (
    Fitted,
    Measurement,
    OwnSamples,
    ProblemSpec,
    Reference,
    Samples,
    ode_calls,
)

# isort: split
# what a method is handed
from bench.core.devices import following
from bench.core.flops import Unbuilt
from bench.core.metering import Meter
from bench.core.noise import NoiseSource, uniform
from bench.core.place import Place
from bench.core.problem import FitProblem, Problem

# isort: split
# parameters
from bench.core.calling import hears_condition
from bench.core.choices import named_param
from bench.core.local_source import digest_of, names_in
from bench.core.params import NoParams, UserError, nearest, param, parse_name

# isort: split
# work
from bench.core.units import KINDS, ROLES, Role
from bench.core.work import Budget, Rows, Work, backward, forward
from bench.core.workers import WorkerGroup

# isort: split
# time
from bench.core.integrate import (
    SOLVERS,
    STEP_VARIANCES,
    WIDE,
    Step,
    StepVariance,
    ancestral,
    ancestral_moments,
    euler,
    filled,
    integrate,
    ode_step,
    uniform_grid,
)
from bench.core.paths import Interpolant, Linear, Trigonometric, expand, safe
from bench.core.timing import Timing, timing_of

# isort: split
# posterior samplers
from bench.core.map_posterior import Jump, MapPosterior
from bench.core.posterior import Gaussian, Glass, Remembered, SDERollout, Tweedie, draws_of
from bench.core.shifted import FittedTilt, Tilt, fit_tilt
from bench.loops.posteriors import GAUSSIAN_WIDTHS, SAMPLERS, PosteriorChoice, sampler_param

# isort: split
# values and their gradients, from draws
from bench.core.estimators import denoiser_shift, log_mean_exp, value_gradient
from bench.core.quadratic import Quadratic
from bench.loops.scoring import reward_work, rewards_of
from bench.loops.shifted_draws import second_context_work, shifted_pool, slope_of, tilt_work

# isort: split
# steering
from bench.core.scales import (
    DRIFT_SCALES,
    SCALES,
    SteeringTerm,
    limited,
    scale_is_safe,
    scale_of,
    signal_level,
)
from bench.core.steered import INTEGRATORS, steered_step
from bench.core.watch import Scalars
from bench.loops.estimation import (
    ESTIMATORS,
    EstimatedSteering,
    EstimatedSteeringParams,
    Estimator,
    estimated_term,
)
from bench.loops.steering import SteeringParams, march, start_param, steer, steering_ratio

# isort: split
# particles
from bench.loops.moves import Members, Redraw, golden_times
from bench.loops.particle_method import (
    POTENTIALS,
    ParticleMethod,
    ParticleParams,
    resampling_param,
    telescoped_potential,
)
from bench.loops.particles import ParticleDesign, particle_noise, require_finite, uniforms
from bench.loops.populations import (
    OUTPUTS,
    output_param,
    sample_populations,
    whole_populations,
)
from bench.loops.resampling import (
    RESAMPLERS,
    adaptive_resampling,
    at_quantiles,
    single_survivor,
    systematic,
)
from bench.loops.transitions import TRANSITIONS, Transition, transition_param

# isort: split
# search
from bench.loops.blocks import row_blocks, sampled_in_blocks
from bench.loops.candidates import (
    LookAhead,
    LookAheadSearch,
    best_candidate,
    candidate_noise,
    candidates_at,
    look_ahead_param,
    rows_taken,
)

# isort: split
# fine-tuning
from bench.core.adapters import trained_state
from bench.core.trainable import MeteredModule

# isort: split
# modules: other plugins by name, rewards with a closed form
from bench.core import plugins, quadratic

__all__ = [
    "DRIFT_SCALES",
    "ESTIMATORS",
    "GAUSSIAN_WIDTHS",
    "INTEGRATORS",
    "KINDS",
    "OUTPUTS",
    "POTENTIALS",
    "RESAMPLERS",
    "ROLES",
    "SAMPLERS",
    "SCALES",
    "SOLVERS",
    "STEP_VARIANCES",
    "TRANSITIONS",
    "WIDE",
    "Accuracy",
    "Budget",
    "Condition",
    "Credibility",
    "EstimatedSteering",
    "EstimatedSteeringParams",
    "Estimator",
    "FewMetric",
    "FineTuning",
    "FitProblem",
    "Fitted",
    "FittedTilt",
    "Flow",
    "FlowMap",
    "Gaussian",
    "Glass",
    "Growth",
    "HearsRows",
    "Interpolant",
    "Jump",
    "Linear",
    "LookAhead",
    "LookAheadSearch",
    "MapPosterior",
    "Measurement",
    "Measures",
    "Members",
    "MetaFlowMap",
    "Meter",
    "MeteredModule",
    "Method",
    "Metric",
    "Need",
    "NoParams",
    "Noise",
    "NoiseSource",
    "Oracle",
    "OwnSamples",
    "ParticleDesign",
    "ParticleMethod",
    "ParticleParams",
    "Place",
    "PosteriorChoice",
    "PosteriorSampler",
    "Problem",
    "ProblemSpec",
    "Quadratic",
    "Redraw",
    "Reference",
    "Remembered",
    "Reward",
    "Role",
    "RowConditions",
    "RowMetric",
    "Rowed",
    "Rows",
    "SDERollout",
    "Samples",
    "Scalars",
    "Scheduled",
    "Standing",
    "SteeringParams",
    "SteeringTerm",
    "Step",
    "StepVariance",
    "Target",
    "Task",
    "Tilt",
    "Timing",
    "Transition",
    "Trigonometric",
    "Tweedie",
    "Unbuilt",
    "UserError",
    "Work",
    "WorkerGroup",
    "adaptive_resampling",
    "ancestral",
    "ancestral_moments",
    "at_quantiles",
    "backward",
    "best_candidate",
    "candidate_noise",
    "candidates_at",
    "denoiser_shift",
    "digest_of",
    "draws_of",
    "estimated_term",
    "euler",
    "expand",
    "filled",
    "fit_tilt",
    "following",
    "forward",
    "golden_times",
    "hears_condition",
    "integrate",
    "limited",
    "log_mean_exp",
    "look_ahead_param",
    "march",
    "named_param",
    "names_in",
    "nearest",
    "ode_calls",
    "ode_step",
    "output_param",
    "param",
    "parse_name",
    "particle_noise",
    "plugins",
    "quadratic",
    "require_finite",
    "resampling_param",
    "reward_work",
    "rewards_of",
    "row_blocks",
    "rows_taken",
    "safe",
    "sample_populations",
    "sampled_in_blocks",
    "sampler_param",
    "scale_is_safe",
    "scale_of",
    "second_context_work",
    "shifted_pool",
    "signal_level",
    "single_survivor",
    "slope_of",
    "start_param",
    "steer",
    "steered_step",
    "steering_ratio",
    "systematic",
    "telescoped_potential",
    "tilt_work",
    "timing_of",
    "trained_state",
    "transition_param",
    "uniform",
    "uniform_grid",
    "uniforms",
    "value_gradient",
    "whole_populations",
]
