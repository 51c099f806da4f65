"""A sweep on the paper's mixture that is over in seconds."""

from typing import Any

from sweeps.spec import Spec


def small_sweep(method: str, budget: str, **changes: Any) -> Spec:
    """16 samples a cell, one tuning seed, one reporting seed, tuned for the reward itself."""
    own: dict[str, Any] = {"n": 16, "sampler": "tpe:startup=3", "reward": "inverse", **changes}
    return Spec(
        "gmm-paper",
        own.pop("reward"),
        (method,),
        budget,
        ("reward",),
        tuning_seeds=1,
        seeds=(0,),
        **own,
    )
