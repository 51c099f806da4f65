"""What the names in the tables mean, in plain words, and in which order they are shown.

Names that are not listed here (other people's plugins) are shown without an explanation.
"""

from __future__ import annotations

REFERENCES = ("exact", "prior", "oracle")
"""Ends of the scale rather than contestants; shown first."""

UNFAIR = ("exact", "oracle")
"""They know the closed form: never marked as best."""

BASELINES = (
    "best-of-n",
    "best-of-n-fewstep",
    "dps",
    "lgd-mc",
    "tfg",
    "fmtt",
    "fmrg",
    "rollout",
    "fk",
    "tds",
    "das",
    "svdd",
)
"""What everybody would compare with; a method is tested against the best of them."""

TAGS = {"exact": "floor", "prior": "untilted", "oracle": "closed form"}

METRIC_ORDER = (
    "reward",
    "judge",
    "prompt-match",
    "class-agreement",
    "sliced-w2",
    "mmd2",
    "frechet",
    "mmd2-features",
    "mmd2-pixels",
    "class-error",
    "mmd2-data",
    "free-entropy",
    "diversity",
    "vendi",
    "modes",
    "tilt-size",
    "ensemble-disagreement",
    "brightness",
    "saturation",
    "high-frequency",
    "compressed-size",
)

DISTANCES = ("sliced-w2", "frechet", "mmd2-features", "mmd2-pixels", "mmd2", "class-error")
"""Distances to the tilted law, the most telling first."""

RATIO = "sliced-w2"
"""The distance whose floor is positive, so that multiples of the floor make sense; an unbiased
MMD has floor zero."""

ARROWS = {"higher": "↑", "lower": "↓"}

METHODS = {
    "exact": "independent draws of the tilted law itself: what a perfect sampler scores",
    "prior": "the base model, unaligned; more compute only buys a finer ODE",
    "oracle": "steering with the closed-form gradient of the value function",
    "best-of-n": "keeps the best of N samples of the base model, by default of its ODE",
    "best-of-n-fewstep": "keeps the best of N samples of the few-step flow map",
    "best-of-n-pruned": "Best-of-N that drops the less promising candidates along the way",
    "mfm-search": "particles that follow the best of their posterior draws from a meta flow map",
    "zero-order": "moves the initial noise to the best of its neighbours, round after round",
    "reno": "gradient ascent on the initial noise of a few-step generator",
    "demon": "composes the noise of every SDE step from candidates, weighted by their look-ahead",
    "fk": "particles of the base sampler, reweighted by the reward of their look-ahead",
    "tds": "particles steered by the reward's gradient, with weights that correct for it",
    "das": "the twisted sampler with a reward that is faded in",
    "svdd": "at every step, one of M base steps, chosen by its look-ahead reward",
    "dps": "steers by the reward's gradient at the Tweedie point E[x₁ | xₜ]",
    "lgd-mc": "DPS with Gaussian draws around the Tweedie point",
    "tfg": "gradient steps on xₜ and on the Tweedie point, with smoothing and recurrence",
    "freedom": "a gradient step after every sampling step, repeated by adding noise back",
    "ugd": "moves the implied noise by gradients at the Tweedie point, repeated",
    "mpgd": "gradient steps on the Tweedie point, never through the flow",
    "fmtt": "particles steered by the reward at the flow map's look-ahead, with weights",
    "fmrg": "alternates steps of the flow map with gradient steps on its look-ahead",
    "mfm-ft": "fine-tunes the flow on the gradient of e^r through one-step draws of the map",
    "itm": "fine-tunes by reward-weighted flow matching with the base flow as control",
    "adjoint-matching": "fine-tunes by regression on the lean adjoint along its own rollouts",
    "draft-k": "fine-tunes by gradients of the reward through the last K sampling steps",
    "flow-grpo": "fine-tunes by policy gradients with rewards relative to a group",
    "rollout": "estimates the value gradient from nested rollouts of the base model",
    "mfm-g": "value gradient through one-step posterior draws of a meta flow map",
    "mfm-gf": "gradient-free: reweights one-step posterior draws of a meta flow map",
}

METRICS = {
    "reward": "mean raw reward of the samples: what the methods were asked for",
    "judge": "a held-out score of the same wish that no method optimises",
    "sliced-w2": "sliced Wasserstein-2 distance to exact samples of the tilted law",
    "mmd2": "unbiased squared MMD to exact samples of the tilted law (zero when the laws agree)",
    "frechet": "Frechet distance to real data weighted by the tilt",
    "mmd2-features": "unbiased squared MMD in feature space to real data weighted by the tilt",
    "mmd2-pixels": "unbiased squared MMD, on thumbnails, to renders weighted by the tilt",
    "prompt-match": "share of samples that show everything the prompt asks for, measured in pixels",
    "class-agreement": "share of samples that show the prompt's noun, which the flow was told",
    "free-entropy": "bits of variety left in the attributes that the prompt does not mention",
    "class-error": "L2 distance of the class frequencies to those of the tilted law",
    "mmd2-data": "unbiased squared MMD in feature space to the untilted data: drift, not error",
    "diversity": "mean pairwise distance of the samples",
    "vendi": "effective number of different samples (Vendi score)",
    "modes": "samples that are no repetition of another, at the distance of real neighbours",
    "tilt-size": "strength times the deviation of the reward over the samples, in nats",
    "ensemble-disagreement": "how far the members of a summed reward are apart, in deviations",
    "brightness": "mean luma of the pictures, from 0 to 1",
    "saturation": "mean saturation of the pictures, from 0 to 1",
    "high-frequency": "share of the pictures' power in fine detail",
    "compressed-size": "bits per pixel of the pictures as JPEG, beyond those of a plain picture",
}

TASKS = {
    "gmm-paper": "a two-dimensional mixture of three Gaussians in which every answer is known",
    "gmm": "a Gaussian mixture in which every answer is known",
    "digits": "a flow trained on scikit-learn's handwritten 8×8 digits",
    "shapes": "a flow trained on rendered coloured shapes",
    "imagenet256": "a latent flow on ImageNet at 256×256",
    "text-to-image": "a text-to-image flow model",
}

UNITS = {
    "paper-nfe": "one forward or one backward row through flow, map or reward counts 1 "
    "(a Jacobian-vector product 2), the decoder is free",
    "model-nfe": "forward rows through flow and map; rewards and backward passes are free",
    "flops": "floating-point operations, calibrated once per callable",
    "seconds": "sampling seconds on the device named below",
}

STATUSES = {
    "ok": "finished",
    "pending": "not run yet",
    "skipped": "the method lacks something that it needs here",
    "infeasible": "no parameters of the method fit the budget",
    "over_budget": "stopped when it exceeded the budget",
    "diverged": "the samples became infinite",
    "failed": "an error",
    "timeout": "stopped at the time limit",
}


def named(budget: str) -> str:
    """A budget; cells without one ran with their parameters as given."""
    return budget or "as given"


def plain(table: dict[str, str], label: str) -> str:
    """The explanation of a label such as `gmm:dimension=16`; empty for unknown names."""
    return table.get(label.partition(":")[0], "")
