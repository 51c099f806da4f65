"""Does our `hpsv2` reward give the score of the real package?  `make parity` runs both sides.

    python .ci/hpsv2_parity.py make FOLDER     in the project's environment: a random checkpoint,
                                               50 pictures of 10 shapes, prompts, our scores
    python .ci/hpsv2_parity.py check FOLDER    in the environment of hpsv2: its scores, compared

The package pins pytest 7.2 and protobuf 3, so it lives in an environment of its own.  It is called
as its users call it; what is replaced is the download of LAION's weights, which its own checkpoint
overwrites anyway, and autocast, which on a CPU would round the scores to bfloat16.
With --full the checkpoint is a ViT-H-14 (4 GB); without, a small CLIP of the same design.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

SHAPES = [
    (224, 224), (512, 512), (640, 480), (480, 640), (300, 100),
    (97, 211), (64, 64), (1024, 576), (225, 223), (33, 500),
]  # fmt: skip
PER_SHAPE = 5
PROMPTS = [
    "a red circle on a white background",
    "An oil painting of two cats, in the style of Vermeer; 4k!",
    "",
    "naïve café – ünïcode",
    "word " * 120,
]
SMALL = {
    "embed_dim": 32,
    "vision_cfg": {
        "image_size": 224,
        "layers": 3,
        "width": 64,
        "head_width": 16,
        "patch_size": 32,
    },
    "text_cfg": {
        "context_length": 77,
        "vocab_size": 49408,
        "width": 64,
        "heads": 4,
        "layers": 3,
    },
}
NAME, BOUND = "parity-small", 1e-5


def make(folder: Path, full: bool) -> None:
    """Write checkpoint, pictures, vocabulary and our scores."""
    import numpy as np
    import open_clip
    import torch
    from PIL import Image

    from bench.models import clip
    from rewards.clip_scores import HPSv2

    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{NAME}.json").write_text(json.dumps(SMALL))
    open_clip.add_model_config(folder)
    HPSv2.architecture = "ViT-H-14" if full else NAME
    torch.manual_seed(0)
    net = clip.make_clip(HPSv2.architecture)
    for parameter in net.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    torch.save({"state_dict": net.state_dict()}, folder / "random.pt")
    vocabulary = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    shutil.copy(vocabulary, folder / vocabulary.name)
    reward = HPSv2.create(weights=str(folder / "random.pt"), pixels="unit")
    rng, rows = np.random.default_rng(0), []
    for k, (width, height) in enumerate(s for s in SHAPES for _ in range(PER_SHAPE)):
        coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        picture.save(folder / f"{k:02d}.png")
        x = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255
        prompt = PROMPTS[k % len(PROMPTS)] or " "
        with torch.no_grad():
            score = float(reward(x, prompt))
        rows.append({"file": f"{k:02d}.png", "prompt": prompt, "ours": score})
    state = {name: list(value.shape) for name, value in net.state_dict().items()}
    meta = {
        name: list(v.shape) for name, v in clip.make_clip("ViT-H-14", "meta").state_dict().items()
    }
    model = HPSv2.architecture
    found = {"model": model, "state": state, "vit-h-14": meta, "rows": rows}
    (folder / "ours.json").write_text(json.dumps(found))


def check(folder: Path) -> int:
    """The package's scores on the same files; 0 if all agree."""
    import importlib.util

    import torch

    spec = importlib.util.find_spec("hpsv2")
    assert spec is not None and spec.origin is not None, "hpsv2 is not installed here"
    vocabulary = "bpe_simple_vocab_16e6.txt.gz"
    theirs = Path(spec.origin).parent / "src" / "open_clip" / vocabulary
    if not theirs.exists():  # the wheel lacks it
        shutil.copy(folder / vocabulary, theirs)
    from hpsv2 import img_score
    from hpsv2.src.open_clip import create_model_and_transforms, factory, get_tokenizer

    ours = json.loads((folder / "ours.json").read_text())
    factory.add_model_config(folder / f"{NAME}.json")

    def create(_name: str, _pretrained: str, **options: object) -> object:
        return create_model_and_transforms(ours["model"], None, **{**options, "precision": "fp32"})

    img_score.create_model_and_transforms = create
    img_score.get_tokenizer = lambda _: get_tokenizer(ours["model"])
    with torch.device("meta"):
        real = factory.CLIP(**factory.get_model_config("ViT-H-14"))
    shapes = {name: list(value.shape) for name, value in real.state_dict().items()}
    same = shapes == ours["vit-h-14"]
    print(f"{len(shapes)} names and shapes of ViT-H-14: {'the same' if same else 'DIFFERENT'}")
    worst = 0.0
    for row in ours["rows"]:
        paths = [str(folder / row["file"])]
        with torch.autocast("cpu", enabled=False):
            (score,) = img_score.score(paths, row["prompt"], cp=str(folder / "random.pt"))
        worst = max(worst, abs(float(score) - row["ours"]))
    spread = max(r["ours"] for r in ours["rows"]) - min(r["ours"] for r in ours["rows"])
    print(
        f"{len(ours['rows'])} pictures of {len(SHAPES)} shapes: largest difference {worst:.1e} "
        f"(allowed {BOUND:.0e}), scores spread over {spread:.2f}"
    )
    return 0 if same and worst < BOUND else 1


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("make", "check"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--full", action="store_true")
    given = parser.parse_args()
    sys.exit(check(given.folder) if given.part == "check" else make(given.folder, given.full))


if __name__ == "__main__":
    main()
