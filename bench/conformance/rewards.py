"""What every reward must keep."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from bench.conformance.findings import (
    CHECK_ROWS,
    CHECK_TOLERANCE,
    Broken,
    Check,
    Skipped,
    apart,
    check_params,
    check_tensor,
    expect,
    globals_kept,
)
from bench.core.conditions import RowConditions
from bench.core.noise import NoiseSource
from bench.core.params import NoParams
from bench.core.paths import expand
from bench.core.tasks import Reward, Task

EXTREME = 1e3
DIRECTIONS = 4
SENTENCES = (
    "a small red circle on a white background",
    "two green squares",
    "a photograph of a blue triangle, high quality",
)
"""Prompts that any scorer tells from one another, if it reads them."""
STENCIL = ((-2.0, 1 / 12), (-1.0, -8 / 12), (1.0, 8 / 12), (2.0, -1 / 12))
"""Fourth-order central difference: offsets in units of the step, and weights."""


class Foreign(Task[NoParams]):
    """A task whose samples have a shape that no built-in task has."""

    event_shape = (3, 5, 7)


@dataclass
class RewardSubject:
    """A reward, bound to a task that it says it can score."""

    reward: Reward[Any]
    task: Task[Any]

    def __post_init__(self) -> None:
        self.reward.bind(self.task)
        self.condition = self.task.sentence(self.task.conditions("report")[0])

    def __call__(self, x: Tensor) -> Tensor:
        return self.reward(x, self.condition)

    @property
    def unbound(self) -> Reward[Any]:
        """The reward as the planner asks it, before `bind`."""
        fresh: Reward[Any] = type(self.reward)(self.reward.params)
        return fresh

    def normal(self, name: str, rows: int = CHECK_ROWS) -> Tensor:
        """Standard normals (rows, *data_shape)."""
        source = NoiseSource(0, "conformance")
        return source.normal(name, 0, tuple(self.task.data_shape), range(rows))

    @cached_property
    def points(self) -> dict[str, Tensor]:
        """Where the reward is evaluated: random, real, zero and extreme points."""
        x = self.normal("points")
        found = {"random points": x, "zeros": torch.zeros_like(x)}
        found |= {"extreme points": EXTREME * x.sign(), "tiny points": 1e-6 * x}
        data = self.task.data("report")
        return found if data is None else found | {"real data": data[:CHECK_ROWS].clone()}


def score(s: RewardSubject) -> None:
    """Scores are finite float32 of shape (batch,), at ordinary and extreme points."""
    for name, x in s.points.items():
        given = x.clone()
        check_tensor(f"the score of {name}", s(x), (len(x),))
        expect(torch.equal(given, x), "it changes the samples that it scores: work on a copy")
    expect(s.reward.wants in ("data", "latent", "pixels"), f"wants is '{s.reward.wants}'")


def parameters(s: RewardSubject) -> None:
    """Params is a frozen dataclass with valid defaults."""
    check_params(type(s.reward), search_ranges=False)


def repeatable(s: RewardSubject) -> None:
    """The same samples get the same scores, and no global state changes."""
    x = s.points["random points"]
    with globals_kept():
        first = s(x)
    expect(torch.equal(first, s(x)), "the same samples got different scores the second time")


def batch_size(s: RewardSubject) -> None:
    """A sample's score does not depend on the samples that are scored with it."""
    x = s.points["random points"]
    alone = torch.cat([s(row[None]) for row in x])
    gap = apart(s(x), alone)
    expect(
        gap <= CHECK_TOLERANCE,
        f"scores of single samples differ from those of a batch by {gap:.1e}",
    )


def argument_order(s: RewardSubject) -> None:
    """Each picture of a batch is scored against its own prompt, and both of them matter."""
    score_pairs = getattr(s.reward, "score_pairs", None)
    if score_pairs is None:
        raise Skipped("the reward scores all pictures against one prompt")
    x = s.points.get("real data", s.points["random points"])[: len(SENTENCES)]
    rows = range(len(x))
    table = torch.stack(
        [torch.stack([score_pairs(x[i : i + 1], [t])[0] for t in SENTENCES]) for i in rows]
    )
    if float(table.max() - table.min()) == 0:
        raise Skipped("all pictures and prompts score alike, so none can be told from another")
    expect(
        not bool((table == table[:1]).all()),
        "the score does not depend on the picture: are its arguments swapped?",
    )
    if getattr(s.reward, "reads_prompts", False):
        expect(
            not bool((table == table[:, :1]).all()),
            "the score does not depend on the prompt: are its arguments swapped?",
        )
    for shift in rows:
        chosen = [(i + shift) % len(SENTENCES) for i in rows]
        own = torch.stack([table[i, j] for i, j in zip(rows, chosen, strict=True)])
        gap = apart(score_pairs(x, [SENTENCES[j] for j in chosen]), own)
        expect(
            gap <= CHECK_TOLERANCE,
            "pictures and prompts of a batch are not paired in their order: scores differ by "
            f"{gap:.1e} from those of each picture alone with its prompt",
        )


def rows_of_conditions(s: RewardSubject) -> None:
    """Rows under several conditions score what those of each condition do alone."""
    found = [s.task.sentence(c) for c in s.task.conditions("report")]
    told = found[:2] if len(found) > 1 else [s.condition] * 2
    x, half = s.points["random points"], CHECK_ROWS // 2
    scores = s.reward.score_rows(x, RowConditions(tuple(told), (half, CHECK_ROWS - half)))
    gap = apart(scores, torch.cat([s.reward(x[:half], told[0]), s.reward(x[half:], told[1])]))
    expect(gap <= CHECK_TOLERANCE, f"score_rows differs from scores one by one by {gap:.1e}")


def scale(s: RewardSubject) -> None:
    """Scores lie within the limits that the reward declares."""
    limits = getattr(s.reward, "limits", None)
    if limits is None:
        raise Skipped("the reward declares no limits")
    for name, x in s.points.items():
        found = s(x)
        for value in (float(found.min()), float(found.max())):
            expect(
                limits[0] <= value <= limits[1],
                f"{name} score {value:.4g}, and the reward declares {limits[0]:g} to "
                f"{limits[1]:g}: logits for probabilities, or per cent for shares?",
            )


def gradient(s: RewardSubject) -> None:
    """A differentiable reward has finite gradients that equal finite differences."""
    if not s.reward.differentiable:
        raise Skipped("the reward is not differentiable")
    for name, x in s.points.items():
        slope = _gradient(s, x)
        expect(bool(torch.isfinite(slope).all()), f"the gradient at {name} is not finite")
    wide = _scores_float64(s)
    step, tolerance = (1e-3, 1e-5) if wide else (1e-2, 1e-2)
    dtype = torch.float64 if wide else torch.float32
    for name in s.points.keys() & {"random points", "real data"}:
        _check_slope(s, name, s.points[name].to(dtype), step, tolerance)


def _check_slope(s: RewardSubject, name: str, x: Tensor, step: float, tolerance: float) -> None:
    """Directional derivatives; a tenth may disagree, since a reward may have kinks."""
    slope, worst = _gradient(s, x), []
    # The second term allows for the rounding of the score itself.
    scale = slope.flatten(1).norm(dim=1) + 1e-2 * (s(x).detach().abs() + 1)
    for k in range(DIRECTIONS):
        v = s.normal(f"direction-{k}").to(x)
        v = v / expand(v.flatten(1).norm(dim=1), v)
        along = (slope * v).flatten(1).sum(1)
        with torch.no_grad():
            difference = sum(w * s(x + c * step * v) / step for c, w in STENCIL)
        worst.append((along - difference).abs() / scale)
    wrong = torch.cat(worst) > tolerance
    expect(
        float(wrong.float().mean()) <= 0.1,
        f"the gradient at {name} is not the derivative of the score: relative error "
        f"{float(torch.cat(worst).max()):.1e} against finite differences",
    )


def _gradient(s: RewardSubject, x: Tensor) -> Tensor:
    x = x.detach().clone().requires_grad_()
    r = s(x)
    expect(
        r.requires_grad,
        "no gradient passes through the score: set differentiable = False or remove the break",
    )
    slope = torch.autograd.grad(r.sum(), x, allow_unused=True)[0]
    return torch.zeros_like(x) if slope is None else slope


def _scores_float64(s: RewardSubject) -> bool:
    """Whether the reward computes in double precision when it is given such samples."""
    try:
        return s(s.points["random points"].double()).dtype == torch.float64
    except (RuntimeError, TypeError):
        return False


def foreign_shape(s: RewardSubject) -> None:
    """A task that the reward cannot score is refused with a reason, before anything runs."""
    foreign = Foreign(NoParams())
    reason = s.unbound.compatible(foreign)
    if reason is not None:
        expect(bool(str(reason).strip()), "compatible() refuses a foreign shape without a reason")
        return
    x = torch.randn(CHECK_ROWS, *foreign.data_shape, generator=torch.Generator().manual_seed(0))
    try:
        check_tensor("the score", RewardSubject(s.unbound, foreign)(x), (CHECK_ROWS,))
    except Exception as error:
        raise Broken(
            f"compatible() accepts samples of shape {foreign.data_shape}, which it cannot "
            "score: return the reason instead"
        ) from error


def quadratic(s: RewardSubject) -> None:
    """The closed form, if one is given, is the reward itself."""
    form = s.unbound.quadratic(s.task)
    if form is None:
        raise Skipped("the reward gives no closed form")
    x = s.points["random points"]
    gap = apart(s(x), form(x.flatten(1)))
    expect(
        gap <= CHECK_TOLERANCE, f"quadratic() differs from the score by {gap:.1e} on random points"
    )


def judge(s: RewardSubject) -> None:
    """The held-out judge, if there is one, gives a finite float32 score."""
    x = s.points["random points"]
    scores = s.reward.judge(x, s.condition)
    if scores is None:
        raise Skipped("the reward has no judge")
    check_tensor("the judge's score", scores, (len(x),))


CHECKS: tuple[Check[RewardSubject], ...] = (
    score,
    parameters,
    repeatable,
    batch_size,
    argument_order,
    rows_of_conditions,
    scale,
    gradient,
    foreign_shape,
    quadratic,
    judge,
)
