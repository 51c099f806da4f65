"""Training of whole worlds: every network that a task ships, by prefix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.models.digits import CLASSIFIER_FEATURES, FEATURES
from bench.models.digits_data import FOLDS, fold, load
from bench.models.mixture import paper_mixture
from bench.training import recipes, shapes
from bench.training.recipes import Recipe
from bench.training.trainer import Report

Stage = Callable[[str, int], Report]
"""(stage name, its number of steps) -> the report function of that stage."""

Networks = dict[str, nn.Module]


def train_digits(recipe: Recipe, folder: Path, stage: Stage) -> Networks:
    """Flow, meta flow map and three classifiers on disjoint folds of the training digits."""
    data = load("train").x
    flow = recipes.train_flow(data, recipe, folder, stage("flow", recipe.flow_steps))
    net = recipes.train_map(
        recipes.from_data(data),
        data,
        flow.velocity,
        recipe,
        folder,
        stage("map", recipe.map_steps),
    )
    networks: Networks = {"flow": flow, "map": net}
    for k, name in enumerate(FOLDS):
        width = FEATURES if name == "features" else CLASSIFIER_FEATURES
        seed = 100 + k + 10 * recipe.seed
        report = stage(name, recipe.classifier_steps)
        networks[name] = recipes.train_classifier(
            fold(name), width, recipe, seed, folder / name, report
        )
    return networks


def train_gmm_paper(recipe: Recipe, folder: Path, stage: Stage) -> Networks:
    """A meta flow map of the paper's mixture, distilled from its exact velocity."""
    mixture = paper_mixture(torch.float32)

    def pick(n: int, generator: torch.Generator) -> Tensor:
        return mixture.sample(n, generator)

    statistics = mixture.sample(20_000, torch.Generator().manual_seed(0))
    report = stage("map", recipe.map_steps)
    return {"map": recipes.train_map(pick, statistics, mixture.velocity, recipe, folder, report)}


def train_shapes(recipe: Recipe, folder: Path, stage: Stage) -> Networks:
    """Autoencoder, flow, meta flow map and CLIP of the shapes; half precision makes them small."""
    assert isinstance(recipe, shapes.ShapesRecipe)
    code = shapes.train_autoencoder(recipe, folder, stage("code", recipe.code_steps))
    pool = shapes.make_pool(code, recipe.pool, recipe.seed + 1)
    flow = shapes.train_flow(pool, recipe, folder, stage("flow", recipe.flow_steps))
    net = shapes.train_map(flow, pool, recipe, folder, stage("map", recipe.map_steps))
    net = shapes.polish_map(net, flow, pool, recipe, folder, stage("polish", recipe.polish_steps))
    clip = shapes.train_clip(recipe, folder, stage("clip", recipe.clip_steps))
    return {"code": code.half(), "flow": flow.half(), "map": net.half(), "clip": clip.half()}


WORLDS: dict[str, tuple[Recipe, Callable[[Recipe, Path, Stage], Networks]]] = {
    "digits": (recipes.DIGITS, train_digits),
    "gmm-paper": (recipes.GMM_PAPER, train_gmm_paper),
    "shapes": (shapes.SHAPES_RECIPE, train_shapes),
}


def tensors(networks: Networks) -> dict[str, Tensor]:
    """All weights under `prefix.name`, ready for safetensors."""
    return {
        f"{prefix}.{name}": value.contiguous()
        for prefix, net in networks.items()
        for name, value in net.state_dict().items()
    }
