"""The recipe of `shapes`: labels only, on endless renders."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

from bench.training.recipes import Recipe


@dataclass(frozen=True)
class ShapesRecipe(Recipe):
    """A recipe with latents and labels.

    latents, code_width, pixel_noise: of the autoencoder.  A smaller noise keeps what pictures show
    further apart in the latents, and a flow that lands between two of them is rarer: 92 % of
    50-step samples showed their label at 0.7, 96 % at 0.35 with a fifth of the training.
    pool: pictures that are encoded once and for all; every visit draws another latent of one.
    polish_steps: a second training of the map, from its average, in which `pairs` solved
    trajectories of the flow, in `pair_steps` steps of Heun, teach it the whole jump from noise too.
    label_dropout: share of rows without a label.  guided_share: share of the labelled rows that
    model guidance trains at scale `GUIDED_SCALE`.
    """

    latents: int = 16
    code_width: int = 512
    code_steps: int = 3000
    code_batch: int = 128
    pixel_noise: float = 0.3
    pool: int = 60_000
    polish_steps: int = 12_000
    polish_learning_rate: float = 7e-4
    pairs: int = 400_000
    pair_steps: int = 8
    label_dropout: float = 0.15
    guided_share: float = 0.25
    clip_steps: int = 2500
    clip_batch: int = 128

    def training(self) -> dict[str, float]:
        """Paper-nfe of flow and map: as everywhere, and two forwards more for a guided row.

        Of a solved pair: its trajectory, and a forward and a backward whenever it is drawn.
        """
        plain, guided = super().training(), (1 - self.label_dropout) * self.guided_share
        extra = 2 * guided * self.batch * self.flow_steps
        share = 1 + self.polish_steps / self.map_steps
        solved = 2 * self.batch * self.polish_steps + 2 * self.pair_steps * self.pairs
        return {"flow": plain["flow"] + extra, "map": plain["map"] * share + solved}

    def shortened(self, factor: float) -> Self:
        """The same recipe with its training lengths multiplied."""
        own = ("code_steps", "polish_steps", "clip_steps", "pairs")
        lengths: dict[str, Any] = {k: max(1, int(getattr(self, k) * factor)) for k in own}
        return replace(super().shortened(factor), **lengths)


RECIPE = ShapesRecipe(
    flow_steps=12_000,
    map_steps=14_000,
    batch=256,
    map_width=384,
    flow_width=384,
    depth=3,
    context_power=1.3,
)
