"""The networks of a step, one by one: what they take and how fast they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bench.core.flops import Price, price_unbuilt
from bench.core.place import Place
from bench.core.rounded import part_at
from bench.models.dit import unbuilt
from bench.models.latent_decoder import LatentDecoder
from benchmarks.gpu_bench import seconds
from benchmarks.gpu_networks import Sizes, Tower, World, autoencoder


@dataclass(frozen=True)
class Part:
    """One network: rows (x,) -> output, what it takes, and its price per row."""

    run: Callable[[Tensor], Tensor]
    shape: tuple[int, ...]
    price: Price

    def input(self, rows: int, device: str) -> Tensor:
        return torch.randn(rows, *self.shape, device=device)

    def forward(self, x: Tensor) -> object:
        with torch.no_grad():
            return self.run(x)

    def both(self, x: Tensor) -> object:
        """Forward and backward to the input."""
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(self.run(leaf).sum(), leaf)


def parts_of(world: World, sizes: Sizes, dtype: str) -> dict[str, Part]:
    """Flow, map, decoder and reward as the runner runs them."""
    place, task = Place(world.device, dtype), world.task
    place.check()
    velocity, average = (
        place.network(part_at(task, name, place).velocity) for name in ("flow", "flow_map")
    )

    def flow(x: Tensor) -> Tensor:
        out: Tensor = velocity(x, x.new_full((len(x),), 0.5))
        return out

    def drawn(x: Tensor) -> Tensor:
        s, u = x.new_zeros(len(x)), x.new_ones(len(x))
        out: Tensor = average(x.detach(), s, u, x, 0.5 * u)
        return out

    pictures = (3, *(side * 2 ** (len(sizes.widths) - 1) for side in sizes.net.event_shape[1:]))
    latent, prices = sizes.net.event_shape, prices_of(sizes, pictures)
    decoder, reward = (place.network(fn) for fn in (task.decode, world.reward.tower))
    runs = {"flow": (flow, latent), "map": (drawn, latent)}
    runs |= {"decoder": (decoder, latent), "reward": (reward, pictures)}
    return {role: Part(run, shape, prices[role]) for role, (run, shape) in runs.items()}


def prices_of(sizes: Sizes, pictures: tuple[int, ...]) -> dict[str, Price]:
    """FLOPs per row of every role, counted without weights."""
    latent = sizes.net.event_shape

    def decoder() -> tuple[Callable[..., Tensor], tuple[Any, ...]]:
        vae = autoencoder(sizes.widths, sizes.groups)[0].requires_grad_(False)
        return LatentDecoder(vae, 1.0, rows=64).forward, (torch.zeros(2, *latent),)

    def reward() -> tuple[Callable[..., Tensor], tuple[Any, ...]]:
        return Tower(sizes.tower).requires_grad_(False).forward, (torch.zeros(2, *pictures),)

    network = price_unbuilt(unbuilt(sizes.net))
    return {
        "flow": network,
        "map": network,
        "decoder": price_unbuilt(decoder),
        "reward": price_unbuilt(reward),
    }


def rates_of(parts: dict[str, Part], rows: int, device: str, repeat: int) -> dict[str, Any]:
    """FLOPs per second of every role, forward, backward and as a Jacobian-vector product."""
    found = {}
    for role, part in parts.items():
        x = part.input(rows, device)
        once = seconds(lambda part=part, x=x: part.forward(x), repeat)  # type: ignore[misc]
        both = seconds(lambda part=part, x=x: part.both(x), repeat)  # type: ignore[misc]
        ahead, back = part.price.forward(rows), part.price.backward(rows)
        # Timed apart from the forward; where noise is larger than that, with it.
        backward = back / (both - once) if both > 1.2 * once else (ahead + back) / both
        found[role] = {"forward": ahead / once, "backward": backward, "jvp": ahead / once}
    return found
