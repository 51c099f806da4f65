"""How the map of `gmm-paper` is trained, what measures it, and how good it is."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch

from bench.core.quadratic import Quadratic
from bench.metrics.validation import LAW_ROWS, LAW_SEED, Networks, ReferenceLaw, Value
from bench.metrics.world_quality import Quality, posterior_w2
from bench.models.digits import UnconditionalMap
from bench.models.meta_flow_map import MetaFlowMapNet
from bench.models.mixture import paper_mixture
from bench.models.mixture_roles import MixtureFlow, MixturePosterior
from bench.training.maps import train_map
from bench.training.recipes import Recipe
from bench.training.sources import unlabelled
from bench.worlds import Stage, World

RECIPE = Recipe(flow_steps=0, map_steps=12000, batch=1024, map_width=128)


def train(recipe: Recipe, folder: Path, stage: Stage) -> Networks:
    """A meta flow map of the paper's mixture, distilled from its exact velocity."""
    mixture = paper_mixture(torch.float32)
    statistics = mixture.sample(20_000, torch.Generator().manual_seed(0))
    source = unlabelled(mixture.sample, statistics)
    report = stage("map", recipe.map_steps)
    net = train_map(source, lambda _: mixture.velocity, recipe, recipe.seed + 1, folder, report)
    return {"map": net}


def law(_: Networks) -> ReferenceLaw:
    """The paper's mixture: posterior and value are exact."""
    mixture = paper_mixture(torch.float32)
    data = mixture.sample(LAW_ROWS, torch.Generator().manual_seed(LAW_SEED))

    def value(reward: Quadratic) -> Value:
        return lambda x, t: mixture.value(x, t, reward)

    return ReferenceLaw(data, MixtureFlow(mixture), MixturePosterior(mixture), value)


@torch.no_grad()
def quality(networks: Networks, share: float) -> Quality:
    """Sliced W2 of 1,024 draws to exact posterior draws, mean over 64 states, with its floor."""
    mixture = paper_mixture(torch.float32)
    flow_map = UnconditionalMap(cast(MetaFlowMapNet, networks["map"]).eval())
    return {str(t): posterior_w2(mixture, flow_map, t, share) for t in (0.1, 0.3, 0.6, 0.9)}


WORLD = World(RECIPE, train, law, quality)
