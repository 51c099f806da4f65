"""Packages that the light base leaves out, and the extra of ours that brings each."""

from __future__ import annotations

from importlib.util import find_spec

from bench.core.params import UserError

EXTRAS = {
    "ray": "ray",
    "mlflow": "tracking",
    "wandb": "wandb",
    "optuna": "sweeps",
    "peft": "lora",
    "torchvision": "images",
    "open_clip": "images",
    "timm": "images",
    "cleanfid": "images",
    "diffusers": "images",
    "transformers": "images",
}
"""By the name under which a package is imported."""


def command(extra: str) -> str:
    """What installs an extra."""
    return f"pip install 'tiltbench[{extra}]'"


def has(package: str) -> bool:
    """Whether a package is installed; it is not imported."""
    return find_spec(package) is not None


def lack(package: str) -> str:
    """The sentence for a package that is not installed; "" for one that nobody needs."""
    extra = EXTRAS.get(package.partition(".")[0])
    return f"this needs {package}, which is not installed: {command(extra)}" if extra else ""


def need(package: str) -> None:
    """Raise UserError with the command, unless a package is installed."""
    if not has(package):
        raise UserError(lack(package))
