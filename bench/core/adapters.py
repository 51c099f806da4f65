"""The weights that a fit trains: all of a flow's, or a LoRA of its linear layers; and back again.

A fit and the sampling that follows it meet only in `Fitted.state`:

    rank = 0    every parameter and buffer of the flow, as `state_dict()` names them
    rank > 0    the adapters' tensors and nothing else; the base weights are the task's own

`trained_state` writes it, `restore` reads it, strictly: a missing, foreign or misshapen tensor is a
UserError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from bench.core.divided import whole
from bench.core.params import UserError

SEED = 0
"""Of the random half of a LoRA, so that two adaptations of the same flow are the same."""


def adapt(module: nn.Module, rank: int) -> nn.Module:
    """`module` made trainable, in place, without a change of its values.

    rank 0 thaws all of it.  rank r > 0 freezes it and adds W + B A to every linear layer, A (r, in)
    random and B (out, r) zero (LoRA, arXiv 2106.09685, with alpha = r).  Raises UserError without
    `peft`, or where there is no linear layer.
    """
    if rank == 0:
        return module.requires_grad_(True)
    layers = [name for name, part in module.named_modules() if isinstance(part, nn.Linear)]
    if not layers:
        raise UserError(f"{type(module).__name__} has no linear layers for a LoRA: use rank=0")
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise UserError(
            "a LoRA needs peft: pip install 'tiltbench[lora]', or use rank=0"
        ) from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        adapted: nn.Module = inject_adapter_in_model(
            LoraConfig(r=rank, lora_alpha=rank, target_modules=layers), module
        )
    return adapted


def trained_state(module: nn.Module, rank: int) -> dict[str, Tensor]:
    """The state to keep of an adapted module, or of its metered shell: detached copies, whole."""
    state = module.state_dict()
    if rank:
        adapters = {name for name, value in module.named_parameters() if _is_adapter(name)}
        state = {name: value for name, value in state.items() if name in adapters}
    return {name: value.detach().clone() for name, value in whole(state).items()}


def restore(make: Callable[[], nn.Module], rank: int, state: Mapping[str, Tensor]) -> nn.Module:
    """The fitted flow, frozen: a fresh module, adapted, holding `state` and nothing else new."""
    module = adapt(make(), rank)
    wanted = set(trained_state(module, rank))
    if wanted != set(state):
        raise UserError(
            f"the fitted weights do not belong to this flow at rank {rank}: "
            f"{len(wanted - set(state))} tensors are missing and {len(set(state) - wanted)} are "
            "not its own; fit again"
        )
    try:
        module.load_state_dict(dict(state), strict=rank == 0)
    except RuntimeError as error:
        raise UserError(f"the fitted weights do not fit this flow: {error}; fit again") from error
    return module.requires_grad_(False).eval()


def _is_adapter(name: str) -> bool:
    return "lora_" in name
