"""A reward that is a function: of a batch, and of the condition if it takes one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bench.api import Condition, NoParams, Reward, Task, UserError, hears_condition

ROWS = 3
"""Of the batch on which a function is tried; no shape of samples hides it."""


class FunctionReward(Reward[NoParams]):
    """Any callable of a batch: r(x) = f(x), or f(x, condition), one score per row.

    x (n, *data_shape) is what the task's samples are, in their own range.  Whether gradients pass
    is found out on a batch of normals while planning: a score that NumPy computes has none.
    """

    summary = "a function of one's own"

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(NoParams())
        self.function = function
        self._hears = hears_condition(function, 1)

    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        return self._scored(x if self.differentiable else x.detach(), condition)

    def compatible(self, task: Task[Any]) -> str | None:
        """None: it is tried, and what is wrong with it is a UserError with its own words."""
        shape, condition = tuple(task.data_shape), task.sentence(task.conditions("report")[0])
        x = torch.randn((ROWS, *shape), generator=torch.Generator().manual_seed(0))
        vars(self)["differentiable"] = self._has_gradient(x, condition)
        try:
            with torch.no_grad():
                self._scored(x, condition)
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"the reward fails on a batch of shape {tuple(x.shape)}: "
                f"{type(error).__name__}: {error}"
            ) from error
        return None

    def _has_gradient(self, x: Tensor, condition: Condition) -> bool:
        try:
            return self._scored(x.clone().requires_grad_(), condition).requires_grad
        except Exception:  # such as of .numpy(), which refuses tensors that want a gradient
            return False

    def _scored(self, x: Tensor, condition: Condition) -> Tensor:
        """Scores (n,), float32."""
        found = self.function(x, condition) if self._hears else self.function(x)
        scores = torch.as_tensor(found, device=x.device)
        if scores.shape != (len(x),):
            raise UserError(
                f"the reward returned shape {tuple(scores.shape)} for {len(x)} samples of shape "
                f"{tuple(x.shape[1:])}: return one score per sample"
            )
        return scores.float()
