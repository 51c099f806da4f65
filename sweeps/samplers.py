"""Samplers by name, every argument explicit: `tpe`, `gp:startup=10`, `grid:levels=20`.

Optuna changes defaults between releases, so that none is left to it.  A sampler is made anew for
every proposal, from a seed of its own: one that was merely re-created would repeat itself.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import asdict, dataclass
from typing import Any

from bench.core.params import UserError, build, nearest, param, parse_name
from sweeps.space import Space


@dataclass(frozen=True)
class TPE:
    """Tree-structured Parzen estimator."""

    startup: int = param(10, low=1, help="random trials first")
    candidates: int = param(24, low=1, help="candidates per proposal")
    multivariate: bool = param(True, help="one joint density instead of one per parameter")
    liar: bool = param(True, help="take running trials for bad ones")


@dataclass(frozen=True)
class GP:
    """Gaussian process with log expected improvement."""

    startup: int = param(10, low=1, help="random trials first")


@dataclass(frozen=True)
class NSGA2:
    """Non-dominated sorting genetic algorithm, for several objectives."""

    population: int = param(20, low=2, help="trials per generation")
    crossover: float = param(0.9, low=0.0, high=1.0, help="probability of crossing parents")
    swapping: float = param(0.5, low=0.0, high=1.0, help="probability of swapping a parameter")


@dataclass(frozen=True)
class Random:
    """Uniform on every axis's scale."""


@dataclass(frozen=True)
class Grid:
    """Every point of a grid, in random order."""

    levels: int = param(5, low=2, help="values per numeric axis")


SAMPLERS: dict[str, type[Any]] = {
    "tpe": TPE,
    "gp": GP,
    "nsga2": NSGA2,
    "random": Random,
    "grid": Grid,
}


@dataclass(frozen=True)
class Sampler:
    """A sampler's name and settings."""

    name: str
    settings: Any

    def describe(self) -> dict[str, Any]:
        """Plain data, for the record and the hash."""
        return {"name": self.name, **asdict(self.settings)}

    def grid(self, space: Space) -> dict[str, list[Any]]:
        """The values of a grid; nothing for other samplers."""
        if self.name != "grid":
            return {}
        return {axis.name: axis.grid(self.settings.levels) for axis in space.axes}

    def limit(self, space: Space) -> int | None:
        """How many proposals there are in all; None for no end."""
        return space.grid_size(self.settings.levels) if self.name == "grid" else None

    def seed(self, sweep_seed: int, study: str, number: int) -> int:
        """The seed for one proposal; a grid keeps its own, since it is dealt in one order."""
        own = 0 if self.name == "grid" else number
        text = f"{sweep_seed}/{study}/{own}".encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big") % 2**31

    def make(self, space: Space, seed: int) -> Any:
        """The Optuna sampler."""
        import optuna.samplers as o

        own = self.settings
        if self.name == "random":
            return o.RandomSampler(seed=seed)
        if self.name == "grid":
            return o.GridSampler(self.grid(space), seed=seed)
        if self.name == "gp":
            return o.GPSampler(
                seed=seed,
                independent_sampler=o.RandomSampler(seed=seed),
                n_startup_trials=own.startup,
                deterministic_objective=False,
                constraints_func=None,
                warn_independent_sampling=False,
            )
        if self.name == "nsga2":
            return o.NSGAIISampler(
                population_size=own.population,
                mutation=None,
                mutation_prob=None,
                crossover=o.nsgaii.UniformCrossover(own.swapping),
                crossover_prob=own.crossover,
                swapping_prob=own.swapping,
                seed=seed,
                constraints_func=None,
                elite_population_selection_strategy=None,
                child_generation_strategy=None,
                after_trial_strategy=None,
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `group` is called experimental
            return o.TPESampler(
                n_startup_trials=own.startup,
                n_ei_candidates=own.candidates,
                multivariate=own.multivariate or space.conditional,
                group=space.conditional,
                constant_liar=own.liar,
                constraints_func=None,
                seed=seed,
            )


def make_sampler(text: str) -> Sampler:
    """A sampler from `name:key=value`."""
    name, values = parse_name(text)
    if name not in SAMPLERS:
        raise UserError(f"unknown sampler '{name}': {nearest(name, SAMPLERS)}")
    return Sampler(name, build(SAMPLERS[name], values, name))
