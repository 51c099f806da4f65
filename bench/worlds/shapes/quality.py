"""The measured quality of the `shapes` networks: labels, posterior draws, reading."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bench.core.integrate import Step, euler, integrate, uniform_grid
from bench.core.map_posterior import MapPosterior
from bench.core.noise import NoiseSource
from bench.core.posterior import Glass
from bench.metrics.posterior_quality import Contexts, draws_at, energy_distance
from bench.metrics.validation import Networks
from bench.metrics.world_quality import LONG_GLASS, QUALITY_TIMES, Quality, part
from bench.models.autoencoder import Autoencoder
from bench.models.clip_small import SmallCLIP, tokens
from bench.models.meta_flow_map import FlowNet, MetaFlowMapNet
from bench.models.shapes import LATENT_SHAPE, PromptedFlow, PromptedMap
from bench.models.shapes_judge import Attributes, measure
from bench.models.shapes_prompts import WORDS, sentence, wishes
from bench.models.shapes_render import SHAPES, pictures

QUALITY_ROWS = 1000
CONTEXTS, DRAWS = 16, 64
RETRIEVAL_ROWS = 64
FEWEST = 100
QUALITY_SEED = 1_000


@torch.no_grad()
def shapes_quality(networks: Networks, share: float) -> Quality:
    """Agreement with the label, posterior draws against GLASS, and retrieval by the CLIP."""
    rows, contexts = part(QUALITY_ROWS, share, FEWEST), part(CONTEXTS, share)
    names = ("code", "flow", "map", "clip")
    code, flow, net, clip = (networks[name].float().eval() for name in names)
    assert isinstance(code, Autoencoder) and isinstance(clip, SmallCLIP)
    assert isinstance(flow, FlowNet) and isinstance(net, MetaFlowMapNet)
    prompted, maps = PromptedFlow(flow), PromptedMap(net)
    samplers: dict[str, tuple[Any, int]] = {
        **{f"flow-{k}": (prompted.velocity, k) for k in (20, 50)},
        **{f"map-{k}": (maps.jump, k) for k in (1, 2, 4)},
    }
    return {
        "autoencoder": reconstruction(code, rows),
        "samples": {name: label_figures(code, *s, rows) for name, s in samplers.items()},
        "energy_to_glass_100": {
            str(t): energies(code, prompted, maps, t, contexts) for t in QUALITY_TIMES
        },
        "clip": {"logit_scale": round(clip.logit_scale, 2), **retrieval(clip)},
    }


def reconstruction(code: Autoencoder, rows: int) -> Quality:
    """Share of renders whose attributes a random code keeps, and nats per code."""
    x, scenes = pictures(rows, QUALITY_SEED)
    found = code.encode(x)
    noise = NoiseSource(0, "shapes-quality").normal("code", 0, found.mean.shape[1:], range(rows))
    shown, truth = measure(code.decode(found.draw(noise))), wishes(scenes)
    kept = {name: [wish[name] for wish in truth] for name in WORDS}
    share = {name: (getattr(shown, name) == torch.tensor(kept[name])).float() for name in kept}
    return {
        **{name: round(float(hits.mean()), 4) for name, hits in share.items()},
        "nats": round(float(found.divergence().mean()), 2),
    }


def drawn(call: Any, steps: int, label: int, n: int) -> Tensor:
    """n latents of one class: Euler steps of a velocity, or jumps of a map."""
    x0 = NoiseSource(0, "shapes-quality").normal("x0", 0, LATENT_SHAPE, range(n))
    jumps = call.__name__ == "jump"

    def move(x: Tensor, s: Tensor, u: Tensor) -> Tensor:
        out: Tensor = call(x, s, u, label)
        return out

    step: Step = move if jumps else euler(lambda x, t: call(x, t, label))
    return integrate(step, x0, uniform_grid(steps))


def label_figures(code: Autoencoder, call: Any, steps: int, rows: int) -> Quality:
    """Of so many samples: share with the label's shape, and share with a word for everything."""
    own = rows // len(SHAPES)
    latents = (drawn(call, steps, label, own) for label in range(len(SHAPES)))
    found = [measure(code.decode(z)) for z in latents]
    agree = [(m.shape == label).float().mean() for label, m in enumerate(found)]
    return {
        "class_agreement": round(float(torch.stack(agree).mean()), 4),
        "all_attributes_clear": round(sum(map(_clear, found)) / len(found), 4),
    }


def _clear(found: Attributes) -> float:
    named = torch.stack([getattr(found, name) >= 0 for name in WORDS])
    return float(named.all(0).float().mean())


def energies(
    code: Autoencoder, flow: PromptedFlow, maps: PromptedMap, t: float, contexts: int
) -> Quality:
    """Energy distance of posterior latents to 100-step GLASS, no label, 64 draws per context.

    The floor is GLASS against itself; the shuffled map is handed the context of another picture.
    """
    latents = code.encode(pictures(contexts, QUALITY_SEED)[0]).mean
    x = next(iter(Contexts(latents, t)))[0]
    reference = draws_at(Glass(flow, LONG_GLASS), x, t, DRAWS, "reference")

    def energy(sampler: Any, given: Tensor = x) -> float:
        draws = draws_at(sampler, given, t, DRAWS, "draws")
        return round(float(energy_distance(draws, reference).mean()), 4)

    return {
        "floor": energy(Glass(flow, LONG_GLASS)),
        **{f"map-{k}": energy(MapPosterior(maps, k)) for k in (1, 2, 4)},
        **{f"glass-{k}": energy(Glass(flow, k)) for k in (1, 4, 20)},
        "map-1-shuffled": energy(MapPosterior(maps, 1), x.roll(1, 0)),
    }


def retrieval(clip: SmallCLIP) -> Quality:
    """Share of pictures whose own full sentence has the largest cosine among 64, and the reverse.

    Sentences that two of the 64 pictures share count as right for both.
    """
    x, scenes = pictures(RETRIEVAL_ROWS, QUALITY_SEED + 1)
    said = [sentence(wish) for wish in wishes(scenes)]
    same = torch.tensor([[a == b for b in said] for a in said])
    logits = clip(x, tokens(said))
    rows = torch.arange(len(said))
    right = [same[rows, scores.argmax(1)].float().mean() for scores in (logits, logits.T)]
    return {
        "picture_to_sentence": round(float(right[0]), 4),
        "sentence_to_picture": round(float(right[1]), 4),
    }
