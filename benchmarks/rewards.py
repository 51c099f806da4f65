"""What a CLIP reward costs beside the bare forward of open_clip, on the same batch, in one run.

Promised: at most 1.15 times, with random weights of the real ViT-B-32 and its real input size.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from benchmarks.timing import median_ratio

NAME, BATCH, SIDE = "ViT-B-32", 4, 256
PROMISED = 1.15


def rewards(folder: Path) -> dict[str, Any]:
    """Every CLIP-type reward on one random checkpoint."""
    from safetensors.torch import save_file

    from bench.models import clip
    from rewards.clip_scores import Aesthetic, CLIPScore, HPSv2, PickScore

    torch.manual_seed(0)
    path = str(folder / "random.safetensors")
    save_file(clip.make_clip(NAME).state_dict(), path)
    torch.save({"weight": torch.randn(1, 512), "bias": torch.zeros(1)}, folder / "head.pth")
    made = {
        "hpsv2": HPSv2.create(weights=path),
        "pickscore": PickScore.create(weights=path),
        "clip": CLIPScore.create(weights=path, model=NAME),
        "aesthetic": Aesthetic.create(head=str(folder / "head.pth"), weights=path, model=NAME),
    }
    for name in ("hpsv2", "pickscore"):
        made[name].architecture = NAME
    return made


def ratio(reward: Any, backward: bool, repetitions: int = 7) -> tuple[float, float]:
    """Reward over bare image encoder, forward alone or with the gradient in the pixels."""
    x = torch.rand(BATCH, 3, SIDE, SIDE) * 2 - 1
    inputs = torch.rand(BATCH, 3, 224, 224)
    from bench.models import clip

    # A network of its own in eval mode: that is how open_clip is called by hand.
    net = cast(Any, clip.make_clip(NAME).requires_grad_(False).eval())

    def run(fn: Any, value: Tensor) -> object:
        leaf = value.clone().requires_grad_(backward)
        with torch.set_grad_enabled(backward):
            out = fn(leaf)
            return torch.autograd.grad(out.sum(), leaf) if backward else out

    def scored(x: Tensor) -> Tensor:
        found: Tensor = reward(x, "a photograph of a cat")
        return found

    return median_ratio(lambda: run(scored, x), lambda: run(net.encode_image, inputs), repetitions)


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for name, reward in rewards(Path(folder)).items():
            for backward in (False, True):
                found, spread = ratio(reward, backward)
                kind = "with gradient" if backward else "forward"
                print(
                    f"{name} {kind}: {found:.3f} times the bare forward "
                    f"(half IQR {spread:.3f}, promised {PROMISED})"
                )


if __name__ == "__main__":
    main()
