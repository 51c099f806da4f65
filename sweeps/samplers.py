"""Samplers of trials by name, every argument explicit: `tpe`, `gp:startup=10`, `grid:levels=20`.

Optuna changes defaults between releases, so that none is left to it.  A sampler is made anew for
every proposal, from a seed of its own: one that was merely re-created would repeat itself.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from bench.core.params import UserError, build, nearest, param, parse_name
from sweeps.space import Space


class SamplerSettings(Protocol):
    """What a sampler can be told, and how Optuna is told it."""

    def make(self, space: Space, seed: int) -> Any:
        """The Optuna sampler."""


@dataclass(frozen=True)
class TPE:
    """Tree-structured Parzen estimator."""

    startup: int = param(10, low=1, help="random trials first")
    candidates: int = param(24, low=1, help="candidates per proposal")
    multivariate: bool = param(True, help="one joint density instead of one per parameter")
    liar: bool = param(True, help="take running trials for bad ones")

    def make(self, space: Space, seed: int) -> Any:
        """One density for all axes, or one for each group of them where some are conditional."""
        from optuna.samplers import TPESampler

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `group` is called experimental
            return TPESampler(
                n_startup_trials=self.startup,
                n_ei_candidates=self.candidates,
                multivariate=self.multivariate or space.conditional,
                group=space.conditional,
                constant_liar=self.liar,
                constraints_func=None,
                seed=seed,
            )


@dataclass(frozen=True)
class GP:
    """Gaussian process with log expected improvement."""

    startup: int = param(10, low=1, help="random trials first")

    def make(self, space: Space, seed: int) -> Any:
        """Noise is fitted; a conditional axis is drawn at random."""
        from optuna.samplers import GPSampler, RandomSampler

        return GPSampler(
            seed=seed,
            independent_sampler=RandomSampler(seed=seed),
            n_startup_trials=self.startup,
            deterministic_objective=False,
            constraints_func=None,
            warn_independent_sampling=False,
        )


@dataclass(frozen=True)
class NSGA2:
    """Non-dominated sorting genetic algorithm, for several objectives."""

    population: int = param(20, low=2, help="trials per generation")
    crossover: float = param(0.9, low=0.0, high=1.0, help="probability of crossing parents")
    swapping: float = param(0.5, low=0.0, high=1.0, help="probability of swapping a parameter")

    def make(self, space: Space, seed: int) -> Any:
        """Uniform crossover, mutation of one parameter in their number."""
        from optuna.samplers import NSGAIISampler
        from optuna.samplers.nsgaii import UniformCrossover

        return NSGAIISampler(
            population_size=self.population,
            mutation=None,
            mutation_prob=None,
            crossover=UniformCrossover(self.swapping),
            crossover_prob=self.crossover,
            swapping_prob=self.swapping,
            seed=seed,
            constraints_func=None,
            elite_population_selection_strategy=None,
            child_generation_strategy=None,
            after_trial_strategy=None,
        )


@dataclass(frozen=True)
class RandomSearch:
    """Uniform on every axis's scale."""

    def make(self, space: Space, seed: int) -> Any:
        """No settings."""
        from optuna.samplers import RandomSampler

        return RandomSampler(seed=seed)


@dataclass(frozen=True)
class GridSearch:
    """Every point of a grid, in random order."""

    levels: int = param(5, low=2, help="values per numeric axis")

    def make(self, space: Space, seed: int) -> Any:
        """The seed shuffles the points."""
        from optuna.samplers import GridSampler

        return GridSampler(self.points(space), seed=seed)

    def points(self, space: Space) -> dict[str, list[Any]]:
        """The values of every axis."""
        return {axis.name: axis.grid(self.levels) for axis in space.axes}


SAMPLERS: dict[str, type[SamplerSettings]] = {
    "tpe": TPE,
    "gp": GP,
    "nsga2": NSGA2,
    "random": RandomSearch,
    "grid": GridSearch,
}


@dataclass(frozen=True)
class TrialSampler:
    """A sampler's name and settings."""

    name: str
    settings: Any

    def describe(self) -> dict[str, Any]:
        """Plain data, for the record and the hash."""
        return {"name": self.name, **asdict(self.settings)}

    def grid(self, space: Space) -> dict[str, list[Any]]:
        """The values of a grid; nothing for other samplers."""
        return self.settings.points(space) if isinstance(self.settings, GridSearch) else {}

    def limit(self, space: Space) -> int | None:
        """How many proposals there are in all; None for no end."""
        own = self.settings
        return space.grid_size(own.levels) if isinstance(own, GridSearch) else None

    def seed(self, sweep_seed: int, study: str, number: int) -> int:
        """The seed for one proposal; a grid keeps its own, since it is dealt in one order."""
        own = 0 if isinstance(self.settings, GridSearch) else number
        text = f"{sweep_seed}/{study}/{own}".encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big") % 2**31

    def make(self, space: Space, seed: int) -> Any:
        """The Optuna sampler."""
        return self.settings.make(space, seed)


def make_sampler(text: str) -> TrialSampler:
    """A sampler from `name:key=value`."""
    name, values = parse_name(text)
    if name not in SAMPLERS:
        raise UserError(f"unknown sampler '{name}': {nearest(name, SAMPLERS)}")
    return TrialSampler(name, build(SAMPLERS[name], values, name))
