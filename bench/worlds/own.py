"""How networks are trained on somebody's own data: the flow, then its meta flow map.

The recipe's steps of the flow are passed over where a teacher gives the velocity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from bench.core import plugins
from bench.core.integrate import Step, euler, integrate, uniform_grid
from bench.core.noise import NoiseSource
from bench.core.params import UserError, parse_name
from bench.core.paths import Linear
from bench.core.protocols import Flow
from bench.core.tasks import Task
from bench.metrics.two_sample import sliced_w2
from bench.metrics.validation import Networks, ReferenceLaw, Validator
from bench.metrics.world_quality import MEMORISED, Quality, memorisation, part
from bench.models.conditional import ConditionalFlow
from bench.models.data_set import DataSet
from bench.models.meta_flow_map import BaseVelocity, FlowNet, Known, MetaFlowMapNet
from bench.models.nets import GUIDED_SCALE
from bench.training import guidance
from bench.training.maps import Teacher, taught_by, train_flow, train_map
from bench.training.recipes import Recipe
from bench.training.sources import DataSource, from_data_set
from bench.worlds import Stage, World


@dataclass(frozen=True)
class OwnRecipe(Recipe):
    """A recipe for data with or without labels.

    label_dropout: share of rows without a label.  guided_share: share of the labelled rows that
    model guidance trains at scale `GUIDED_SCALE`, whose velocity is that of no law.  teacher: a
    task whose flow gives the velocity, as on the command line; "": a flow is trained first.
    teacher_guidance: the scale of model guidance that the teacher's labelled velocities have
    whatever it is told; they are taken apart, and put together again at the scale asked for.
    """

    label_dropout: float = 0.15
    guided_share: float = 0.0
    teacher: str = ""
    teacher_guidance: float = 1.0

    def training(self) -> dict[str, float]:
        """Paper-nfe of flow and map: as everywhere, and what guided rows are asked besides.

        Two forwards for each of them in a term whose target is a velocity of the data.
        """
        plain, extra = super().training(), 2 * (1 - self.label_dropout) * self.guided_share
        rows = float(self.batch) * extra
        diagonal, consistency = (term.is_from_data for term in self.objective.terms)
        alone = min(self.diagonal_only, self.map_steps)
        asked = diagonal * self.map_steps + consistency * (self.map_steps - alone)
        return {"flow": plain["flow"] + rows * self.flow_steps, "map": plain["map"] + rows * asked}


POINTS = OwnRecipe(6000, 3000, 512, 128, flow_width=128, start="flow")
SMALL_PICTURES = OwnRecipe(6000, 18000, 256, 384, context_power=1.3)
PICTURES = OwnRecipe(
    20_000, 40_000, 64, 64, flow_width=64, depth=2, learning_rate=3e-4, network="unet"
)
SMALL = 256
"""Numbers in a picture up to which the MLP with its Gaussian model learns it well."""


def recipe_for(data: DataSet) -> OwnRecipe:
    """The default recipe of data of this kind."""
    if not data.pictures:
        return POINTS
    return SMALL_PICTURES if math.prod(data.event_shape) <= SMALL else PICTURES


# -- teachers --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Taught:
    """A flow that exists, as a teacher; `net` where it can be shipped with the map."""

    teacher: Teacher
    digest: str
    net: FlowNet | None = None


def teacher_of(name: str, data: DataSet) -> Taught:
    """The flow of a task, `trained:path=DIR` or `imagenet256:...,classes=281`, as a teacher.

    A trained folder with the same classes teaches them all; any other flow teaches the one
    condition of its task, and its data have no labels.  Raises UserError where it does not fit.
    """
    task: Task[Any] = _task(name)
    flow = task.flow
    if tuple(task.event_shape) != data.event_shape:
        raise UserError(
            f"the teacher {name} lives in {tuple(task.event_shape)}, and the data are "
            f"{data.event_shape}: give data in the teacher's own space (latents, for a latent flow)"
        )
    if not isinstance(getattr(flow, "interpolant", None), Linear):
        raise UserError(
            f"the teacher {name} runs on a path of its own, and maps are distilled on the linear "
            "one: take a flow-matching model"
        )
    digest = str(sorted(task.weights().items()))
    net = flow.net if isinstance(flow, ConditionalFlow) else None
    if isinstance(net, FlowNet) and tuple(getattr(task, "classes", ())) == data.classes:
        return Taught(taught_by(net), digest, net)
    if data.classes:
        raise UserError(
            f"the teacher {name} does not know the classes {', '.join(data.classes[:5])}: train "
            "without --labels, or give a teacher trained:path=... with these classes"
        )
    return Taught(_of_one_condition(name, task, flow), digest)


def _task(name: str) -> Task[Any]:
    known, values = parse_name(name)
    cls = plugins.load("tasks", known)
    found: Task[Any] = cls.create(**values)
    return found


def _of_one_condition(name: str, task: Task[Any], flow: Flow) -> Teacher:
    conditions = task.conditions("report")
    if len(conditions) != 1:
        raise UserError(
            f"the teacher {name} has {len(conditions)} conditions, and a map is taught under one: "
            "choose one with its parameters"
        )
    return lambda _: lambda x, t: flow.velocity(x, t, conditions[0])


# -- the world -------------------------------------------------------------------------------------


def world_of(data: DataSet, recipe: OwnRecipe, taught: Taught | None = None) -> World:
    """The training of a data set, what measures it, and how good it is."""
    learned, held_out = data.split()

    def train(recipe: Recipe, folder: Path, stage: Stage) -> Networks:
        assert isinstance(recipe, OwnRecipe)
        source, seed = source_of(learned, recipe), recipe.seed
        networks: Networks = {}
        if taught is None:
            report = stage("flow", recipe.flow_steps)
            flow: FlowNet | None = train_flow(source, recipe, seed, folder, report)
            assert flow is not None
            teacher = taught_by(flow)
        else:
            flow, teacher = taught.net, taught.teacher
        networks |= {} if flow is None else {"flow": flow}
        if recipe.teacher_guidance != 1:
            teacher = guidance.recombined(teacher, len(data.classes), recipe.teacher_guidance)
        report = stage("map", recipe.map_steps)
        networks["map"] = train_map(source, teacher, recipe, seed + 1, folder, report, flow)
        return networks

    def law(_: Networks) -> ReferenceLaw | None:
        # without covariances there is no validation on the way
        return ReferenceLaw(held_out.x) if learned.x[0].numel() <= LARGE else None

    def quality(networks: Networks, share: float) -> Quality:
        return own_quality(networks, learned, held_out, share)

    return World(recipe, train, law, quality)


def source_of(data: DataSet, recipe: OwnRecipe) -> DataSource:
    """Rows with their labels, some of them dropped, and guidance scales."""
    how = len(data.classes), recipe.label_dropout, GUIDED_SCALE, recipe.guided_share
    return from_data_set(data, lambda label, generator: guidance.told(label, *how, generator))


# -- quality ---------------------------------------------------------------------------------------

ROWS, FEW_ROWS = 2_000, 200
"""Draws of a distance in floors; the second of data that are `LARGE`."""


LARGE = 1024
"""Numbers in a row above which draws take long: few are made, and covariances are left out."""


@torch.no_grad()
def own_quality(
    networks: Networks, learned: DataSet, held_out: DataSet, share: float = 1.0
) -> Quality:
    """Draws against the data, in floors; what validation measures; memorisation of the rows."""
    net = cast(MetaFlowMapNet, networks["map"]).eval()
    trained = networks.get("flow")
    flow = trained.eval() if isinstance(trained, FlowNet) else BaseVelocity(net)
    samples = samples_in_floors(learned, flow, net, share)
    if learned.x[0].numel() > LARGE:
        return {"samples": samples}
    measure = Validator(lambda _: ReferenceLaw(held_out.x))
    measure.learn("flow", flow)
    figures = {name: round(value, 4) for name, value in measure(net).items()}
    return {
        "samples": samples,
        "validation": figures,
        "memorisation_ratio": memorisation(
            flow, learned.x, held_out.x, part(MEMORISED, share, FEW_ROWS)
        ),
    }


def samples_in_floors(
    data: DataSet, flow: FlowNet | BaseVelocity, net: MetaFlowMapNet, share: float = 1.0
) -> Quality:
    """Sliced W2 of draws to one half of the data, over that of the halves to each other.

    map-K: K jumps; flow-K: K Euler steps.  1 is as near as fresh data are.  Where there are labels,
    draws are given those of the other half, so that their law is that of the data.
    """
    most = part(ROWS, share, FEW_ROWS) if data.x[0].numel() <= LARGE else FEW_ROWS
    order = torch.randperm(len(data.x), generator=torch.Generator().manual_seed(2))[: 2 * most]
    one, other = (data.rows(index) for index in order.chunk(2))
    told = Known(other.label)
    floor = sliced_w2(other.x.flatten(1), one.x.flatten(1))
    x0 = NoiseSource(0, "own-quality").normal("x0", 0, data.event_shape, range(len(other.x)))

    def jump(x: Tensor, s: Tensor, u: Tensor) -> Tensor:
        return net.given(told).jump(x, s, u, torch.zeros_like(x), torch.zeros_like(s))

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        return flow.labelled(x, t, told)

    steps: dict[str, tuple[Step, int]] = {
        **{f"map-{k}": (jump, k) for k in (1, 2, 4)},
        **{f"flow-{k}": (euler(velocity), k) for k in (4, 20, 50)},
    }
    drawn = {name: integrate(step, x0, uniform_grid(k)) for name, (step, k) in steps.items()}
    floors = {name: sliced_w2(x.flatten(1), one.x.flatten(1)) / floor for name, x in drawn.items()}
    return {"floor": round(floor, 5), **{name: round(value, 3) for name, value in floors.items()}}


# -- the data of a task ----------------------------------------------------------------------------

DRAWN = 20_000
"""Rows of a task that has endless data."""


def rows_of_task(name: str, task: Task[Any]) -> DataSet:
    """What a task without a world has to learn from; UserError where there is nothing."""
    data = task.data("train") if task.decode is None else None
    try:
        x = data if data is not None else task.draw_data(DRAWN, torch.Generator().manual_seed(0))
    except UserError as error:
        raise UserError(
            f"the task '{name}' has no networks to train, and no data either ({error})"
        ) from error
    return DataSet(x.float().contiguous(), pictures=task.decode is None and x.dim() == 4)
