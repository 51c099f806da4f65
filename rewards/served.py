"""A reward that another process computes: any scorer behind `rewards.scorer_server`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from bench.api import Accuracy, Condition, RowConditions, Task, param
from rewards.pictures import PromptedParams, PromptedReward
from rewards.scorer_client import Patience, ScorerClient, ScorerError, checked_url
from rewards.scorer_server import HOST, PORT, Health


@dataclass(frozen=True)
class ServedParams(PromptedParams):
    """Where the server is, which one it must be, and how long it is waited for."""

    name: str = param("", tunable=False, help="the scorer's name, which the server must give")
    url: str = param(
        f"http://{HOST}:{PORT}", tunable=False, decides=False, help="address of the server"
    )
    remote: bool = param(
        False, tunable=False, decides=False, help="allow a server that is not on this machine"
    )
    timeout: float = param(
        120.0, low=0.01, high=3600, tunable=False, decides=False, help="seconds for one answer"
    )
    retries: int = param(
        4, low=0, high=20, tunable=False, decides=False, help="tries after the first"
    )
    pause: float = param(
        0.5,
        low=0.0,
        high=60,
        tunable=False,
        decides=False,
        help="seconds before the second try; then it doubles",
    )
    batch: int = param(
        16, low=1, high=1024, tunable=False, decides=False, help="pictures in one request"
    )

    def __post_init__(self) -> None:
        checked_url(self.url, self.remote)


class Served(PromptedReward[ServedParams]):
    """A scorer in a process and an environment of its own, asked over HTTP.

    r(x) is what the server's `score` returns for the 8-bit picture and the prompt, on its own
    scale.  Its version is part of the cell id, and one that changes is refused.  Not
    differentiable; pictures are clipped to [0, 1] and rounded to 8 bits.
    """

    Params = ServedParams
    differentiable = False
    learned = True

    @cached_property
    def client(self) -> ScorerClient:
        """How the server is asked."""
        p = self.params
        return ScorerClient(p.url, p.name, Patience(p.timeout, p.retries, p.pause))

    @cached_property
    def health(self) -> Health:
        """What the server said of its scorer when it was first asked."""
        return self.client.health()

    @property
    def scale(self) -> str:
        """In the scorer's own words."""
        return self.health.scale

    @property
    def limits(self) -> tuple[float, float] | None:
        """Between which numbers all scores lie, as the server declares."""
        return (
            None if self.health.limits is None else (self.health.limits[0], self.health.limits[1])
        )

    def labelled(self) -> dict[str, Any]:
        """The scorer, wherever it runs."""
        return {"name": self.health.name}

    def accuracies(self) -> tuple[Accuracy, ...]:
        return tuple(Accuracy(*one) for one in self.health.accuracy)

    def weights(self) -> dict[str, str]:
        return {f"scorer {self.health.name}": self.health.version}

    @property
    def reads_prompts(self) -> bool:
        """Whether the score depends on the prompt, as the server declares."""
        return self.health.prompts

    def compatible(self, task: Task[Any]) -> str | None:
        # Whether prompts are needed, the server says.
        reason = super(PromptedReward, self).compatible(task)
        if reason is not None or self.params.prompt:
            return reason
        prompted = all(isinstance(task.sentence(c), str) for c in task.conditions("report"))
        lacking = not prompted and self.health.prompts
        return "the scorer reads prompts: give one with prompt=..." if lacking else None

    def prompt(self, condition: Condition) -> str:
        said = self.params.prompt or condition
        return super().prompt(condition) if self.health.prompts else str(said or "")

    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        return self.score_pairs(x, [self.prompt(condition)] * len(x))

    def score_rows(self, x: Tensor, conditions: RowConditions) -> Tensor:
        return self.score_pairs(x, conditions.each_row(self.prompt))

    @torch.no_grad()
    def score_pairs(self, x: Tensor, prompts: Sequence[str]) -> Tensor:
        """Scores (n,) of pictures (n, 1 or 3, height, width), each with its own prompt."""
        unit = self.unit(x)
        finite = unit.flatten(1).isfinite().all(1)
        shown = unit.nan_to_num().mul(255).round().clamp(0, 255).to(torch.uint8)
        pictures, size = list(shown.permute(0, 2, 3, 1)), self.params.batch
        scores: list[float] = []
        for start in range(0, len(pictures), size):
            part = slice(start, start + size)
            found, version = self.client.scores(pictures[part], prompts[part])
            self._same(version)
            scores += found
        made = torch.tensor(scores, dtype=torch.float32, device=x.device)
        # A picture that is not finite has no score; the caller turns this into an error.
        return made.masked_fill(~finite, torch.nan)

    def _same(self, version: str) -> None:
        if version != self.health.version:
            raise ScorerError(
                f"{self.client} answers as version {version} and was {self.health.version} before: "
                "scores of two versions are never mixed, start the first one again or begin anew"
            )
