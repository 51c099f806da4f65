"""How the networks of `digits` are trained, what measures them, and how good they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from bench.metrics.validation import Networks, ReferenceLaw
from bench.metrics.world_quality import (
    MEMORISED,
    QUALITY_TIMES,
    Quality,
    memorisation,
    part,
    posterior_quality,
)
from bench.models.digits import CLASSIFIER_FEATURES, FEATURES, UnconditionalMap
from bench.models.digits_data import FOLDS, Labelled, fold, real_digits
from bench.models.meta_flow_map import FlowNet, MetaFlowMapNet
from bench.models.nets import DigitClassifier
from bench.training.maps import taught_by, train_flow, train_map
from bench.training.recipes import Recipe
from bench.training.sources import from_data
from bench.training.trainer import Report, TrainConfig, Trainer
from bench.worlds import Stage, World

RECIPE = Recipe(flow_steps=6000, map_steps=18000, batch=256, map_width=384, context_power=1.3)


def train(recipe: Recipe, folder: Path, stage: Stage) -> Networks:
    """Flow, meta flow map and three classifiers on disjoint folds of the training digits."""
    source, seed = from_data(real_digits("train").x), recipe.seed
    flow = train_flow(source, recipe, seed, folder, stage("flow", recipe.flow_steps))
    report = stage("map", recipe.map_steps)
    networks: Networks = {"flow": flow}
    networks["map"] = train_map(source, taught_by(flow), recipe, seed + 1, folder, report, flow)
    for k, name in enumerate(FOLDS):
        width = FEATURES if name == "features" else CLASSIFIER_FEATURES
        own = 100 + k + 10 * seed
        report = stage(name, recipe.classifier_steps)
        networks[name] = train_classifier(fold(name), width, recipe, own, folder / name, report)
    return networks


def train_classifier(
    data: Labelled, features: int, recipe: Recipe, seed: int, folder: Path, report: Report
) -> DigitClassifier:
    """Cross-entropy with shifts of up to one pixel, noise and label smoothing."""
    torch.manual_seed(seed)
    net = DigitClassifier(features)

    def objective(
        model: nn.Module, _: nn.Module, generator: torch.Generator
    ) -> Mapping[str, Tensor]:
        pick = torch.randint(len(data.x), (64,), generator=generator)
        shift = torch.randint(-1, 2, (2,), generator=generator).tolist()
        x = torch.roll(data.x[pick], shift, dims=(2, 3))
        x = x + 0.1 * torch.randn(x.shape, generator=generator)
        loss = nn.functional.cross_entropy(model(x), data.y[pick], label_smoothing=0.02)
        return {"cross_entropy": loss}

    config = TrainConfig(recipe.classifier_steps, seed=seed, ema=0.99)
    trained = Trainer(net, objective, config, folder, report).run()
    assert isinstance(trained, DigitClassifier)
    return trained


def law(_: Networks) -> ReferenceLaw:
    """The 1,797 digits; the posterior is that of the trained flow, by GLASS in small steps."""
    return ReferenceLaw(real_digits("all").x)


@torch.no_grad()
def quality(networks: Networks, share: float) -> Quality:
    """Posterior quality at three times, accuracies on the held-out digits, memorisation."""
    flow = cast(FlowNet, networks["flow"]).eval()
    flow_map = UnconditionalMap(cast(MetaFlowMapNet, networks["map"]).eval())
    data, train, held_out = (real_digits(split).x for split in ("all", "train", "held-out"))
    posteriors = {str(t): posterior_quality(data, flow, flow_map, t, share) for t in QUALITY_TIMES}
    return {
        "posterior": posteriors,
        "accuracy": {name: _accuracy(cast(DigitClassifier, networks[name])) for name in FOLDS},
        "memorisation_ratio": memorisation(flow, train, held_out, part(MEMORISED, share)),
    }


def _accuracy(net: DigitClassifier) -> float:
    held_out = real_digits("held-out")
    hits = net(held_out.x).argmax(-1) == held_out.y
    return round(float(hits.float().mean()), 4)


WORLD = World(RECIPE, train, law, quality)
