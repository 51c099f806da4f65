"""How the networks of `shapes` are trained, and what they are measured against.

An autoencoder; flow matching on its latents with class dropout and model guidance; a meta flow map
distilled from the flow; and a small CLIP on pictures and sentences, which neither of them ever
sees.
"""

from __future__ import annotations

from pathlib import Path

import torch

from bench.core.noise import NoiseSource
from bench.metrics.validation import LAW_ROWS, LAW_SEED, Networks, ReferenceLaw
from bench.models.autoencoder import Autoencoder
from bench.models.shapes_render import pictures
from bench.training.maps import taught_by, train_flow, train_map
from bench.training.recipes import Recipe
from bench.worlds import Stage, World
from bench.worlds.shapes.clip import train_clip
from bench.worlds.shapes.latents import labelled, make_pool, train_autoencoder
from bench.worlds.shapes.polish import polish_map
from bench.worlds.shapes.quality import shapes_quality
from bench.worlds.shapes.recipe import RECIPE, ShapesRecipe


def train(recipe: Recipe, folder: Path, stage: Stage) -> Networks:
    """Autoencoder, flow, meta flow map and CLIP of the shapes; half precision makes them small."""
    assert isinstance(recipe, ShapesRecipe)
    code = train_autoencoder(recipe, folder, stage("code", recipe.code_steps))
    source, seed = labelled(make_pool(code, recipe.pool, recipe.seed + 1), recipe), recipe.seed
    flow = train_flow(source, recipe, seed + 1, folder, stage("flow", recipe.flow_steps))
    report = stage("map", recipe.map_steps)
    net = train_map(source, taught_by(flow), recipe, seed + 2, folder, report, flow)
    net = polish_map(net, flow, source, recipe, folder, stage("polish", recipe.polish_steps))
    clip = train_clip(recipe, folder, stage("clip", recipe.clip_steps))
    return {"code": code.half(), "flow": flow.half(), "map": net.half(), "clip": clip.half()}


@torch.no_grad()
def law(finished: Networks) -> ReferenceLaw | None:
    """Codes of fresh renders, as soon as there is a code; networks are asked without a label."""
    code = finished.get("code")
    if not isinstance(code, Autoencoder):
        return None
    found = code.encode(pictures(LAW_ROWS, LAW_SEED)[0])
    noise = NoiseSource(LAW_SEED, "validation").normal(
        "code", 0, found.mean.shape[1:], range(len(found.mean))
    )
    return ReferenceLaw(found.draw(noise))


WORLD = World(RECIPE, train, law, shapes_quality)
