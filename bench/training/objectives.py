"""Named objectives of a meta flow map: a diagonal, a consistency, and how each is weighted.

L = L_diagonal + L_consistency (arXiv 2601.14430, Eq. 33 and Table 1).  A recipe names the two;
`bench.training.losses` holds their formulas.  What a term costs stands here once, so that the
training cost in a recipe follows from its names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from bench.core.integrate import Velocity
from bench.core.params import UserError, nearest
from bench.core.work import Rows, Work, backward, forward
from bench.training import losses, weighting
from bench.training.draws import Draw
from bench.training.losses import MapModel, Objective

POWER = 0.5
"""Exponent of the adaptive weights; 1/2 makes a squared error nearly a distance."""


@dataclass(frozen=True)
class LossTerm:
    """One term of the loss.

    make: the objective, given the teacher's velocity.  work: rows of map and teacher per datum
    and step.  variance: (model, draw) -> that of a random target, up to a factor, by which its
    squared error is divided; None for a target that is not random, which has adaptive weights.
    """

    make: Callable[[Velocity], Objective]
    work: Work
    variance: Callable[[MapModel, Draw], Tensor] | None = None

    @property
    def needs_teacher(self) -> bool:
        """Whether the teacher is ever asked."""
        return self.work.flow.forward > 0

    @property
    def is_from_data(self) -> bool:
        """Whether its target is a random velocity of the data, which guidance has to move."""
        return self.variance is not None

    def loss(self, teacher: Velocity, power: float) -> Callable[[MapModel, MapModel, Draw], Tensor]:
        """(model, target model, draw) -> the weighted mean loss; power: of adaptive weights."""
        objective = self.make(teacher)

        def value(model: MapModel, target: MapModel, draw: Draw) -> Tensor:
            prediction, goal = objective(model, target, draw)
            if self.variance is None:
                return weighting.adaptively_weighted(prediction, goal, power)
            return weighting.standardised(prediction, goal, self.variance(model, draw))

        return value


_PLAIN = forward("map") + backward("map")
_JVP = Work(map=Rows(jvp=1))

DIAGONALS: dict[str, LossTerm] = {
    "distilled": LossTerm(losses.diagonal_distilled, _PLAIN + forward("flow")),
    "data": LossTerm(lambda _: losses.diagonal_from_data, _PLAIN, weighting.data_variance),
}
"""v_{s,s}: from a teacher's closed form, or from pairs of data and noise."""

# A detached derivative leaves the primal of a JVP to differentiate, a kept one its tangent too.
_DETACHED, _KEPT = _JVP + backward("map"), _JVP + backward("map", 2)

CONSISTENCIES: dict[str, LossTerm] = {
    "semigroup": LossTerm(lambda _: losses.semigroup, _PLAIN + forward("map", 2)),
    "eulerian-self": LossTerm(
        lambda _: losses.eulerian(losses.self_velocity), _DETACHED + forward("map")
    ),
    "eulerian-teacher": LossTerm(
        lambda b: losses.eulerian(losses.teacher_velocity(b)), _DETACHED + forward("flow")
    ),
    "eulerian-residual": LossTerm(
        lambda b: losses.eulerian_residual(losses.teacher_velocity(b)), _KEPT + forward("flow")
    ),
    "mean-flow": LossTerm(
        lambda _: losses.eulerian(losses.data_velocity),
        _DETACHED + _JVP,
        weighting.mean_flow_variance,
    ),
    "lagrangian-self": LossTerm(
        lambda _: losses.lagrangian(losses.self_velocity), _KEPT + forward("map")
    ),
    "lagrangian-teacher": LossTerm(
        lambda b: losses.lagrangian(losses.teacher_velocity(b)), _KEPT + forward("flow")
    ),
}
"""v_{s,u} off the diagonal, from one of the equations that a flow map obeys."""


@dataclass(frozen=True)
class MapObjective:
    """A diagonal and a consistency by name, and the powers of their adaptive weights."""

    diagonal: str = "distilled"
    consistency: str = "semigroup"
    diagonal_power: float = POWER
    consistency_power: float = POWER

    def __post_init__(self) -> None:
        for kind, name, known in (
            ("diagonal", self.diagonal, DIAGONALS),
            ("consistency", self.consistency, CONSISTENCIES),
        ):
            if name not in known:
                raise UserError(f"unknown {kind} objective '{name}': {nearest(name, known)}")

    @property
    def terms(self) -> tuple[LossTerm, LossTerm]:
        """The two terms."""
        return DIAGONALS[self.diagonal], CONSISTENCIES[self.consistency]

    @property
    def work(self) -> Work:
        """Rows per datum and optimisation step; the teacher's are in `flow`."""
        first, second = self.terms
        return first.work + second.work

    @property
    def is_from_data(self) -> bool:
        """Whether a target is a random velocity of the data."""
        return any(term.is_from_data for term in self.terms)

    @property
    def needs_teacher(self) -> bool:
        """Whether a trained velocity is needed at all."""
        return any(term.needs_teacher for term in self.terms)

    def build(
        self, teacher: Velocity
    ) -> Callable[[MapModel, MapModel, Draw, Draw | None], Mapping[str, Tensor]]:
        """(model, target model, diagonal draw, off-diagonal draw) -> the two losses by name.

        Without an off-diagonal draw, the diagonal alone.
        """
        powers = self.diagonal_power, self.consistency_power
        on, off = (term.loss(teacher, p) for term, p in zip(self.terms, powers, strict=True))

        def both(
            model: MapModel, target: MapModel, diagonal: Draw, pair: Draw | None
        ) -> Mapping[str, Tensor]:
            first = {"diagonal": on(model, target, diagonal)}
            return first if pair is None else first | {self.consistency: off(model, target, pair)}

        return both
