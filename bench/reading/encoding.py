"""A folder of pictures, encoded once into shards of latents that a flow is trained on.

Sub-folders are classes, in the order of their names, as in ImageNet.  Every picture becomes the
middle square of `side` pixels in [-1, 1].  A shard is written whole, its hash beside it, and
depends on its own pictures alone: an encoding that was killed goes on with the next shard and ends
in the same bytes.  `bench.models.latent_shards` reads what is written here.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.core import atomic
from bench.core.own_files import own_json
from bench.core.params import UserError
from bench.models import latents
from bench.models.external import file_digest
from bench.models.latent_shards import INDEX, Recipe, shard_name
from bench.models.picture_folder import pillow
from bench.reading.folder import contents, listing, relative
from bench.reading.picture import read_picture

RECIPE = "recipe.json"
"""What the shards of an unfinished folder are of."""
AT_ONCE = 16
"""Pictures that the encoder sees together; another number would be other bytes."""

Progress = Callable[[int, int], None]
"""(shards done, shards in all)."""


@dataclass(frozen=True)
class Labelled:
    """The pictures below a folder in the order of their classes, and the names of those."""

    folder: Path
    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """Pictures per class."""
        found = Counter(self.labels)
        return tuple(found[k] for k in range(len(self.classes)))

    @property
    def listing(self) -> str:
        """SHA-256 of all names with their sizes in bytes: what was there to encode."""
        return listing(self.folder, self.paths)


def labelled(folder: Path) -> Labelled:
    """The pictures of a folder with a sub-folder per class; UserError for one beside them."""
    found = contents(folder)
    named = [(found_class(folder, path), path) for path in found.pictures]
    classes = tuple(sorted({name for name, _ in named}))
    number = {name: k for k, name in enumerate(classes)}
    ordered = sorted(named, key=lambda pair: number[pair[0]])  # stable: natural within a class
    return Labelled(
        folder,
        tuple(path for _, path in ordered),
        tuple(number[name] for name, _ in ordered),
        classes,
    )


def found_class(folder: Path, path: Path) -> str:
    """The sub-folder that a picture belongs to."""
    name, _, rest = relative(folder, path).partition("/")
    if not rest:
        raise UserError(
            f"the picture {path} lies beside the classes: put the pictures of every class into a "
            "folder of its own, as ImageNet has them"
        )
    return name


# -- one picture -----------------------------------------------------------------------------------


def middle_square(picture: Tensor, side: int) -> Tensor:
    """(3, side, side) in [-1, 1] of uint8 (height, width, 3): the square that flows are trained on.

    As in ADM (arXiv 2105.05233) and since: halved by averaging while the shorter side is twice the
    square's or more, then bicubic to it, then the middle.
    """
    image = pillow()
    shown = image.fromarray(picture.numpy())
    while min(shown.size) >= 2 * side:
        shown = shown.resize(tuple(x // 2 for x in shown.size), resample=image.Resampling.BOX)
    scale = side / min(shown.size)
    size = tuple(round(x * scale) for x in shown.size)
    pixels = np.asarray(shown.resize(size, resample=image.Resampling.BICUBIC))
    top, left = ((length - side) // 2 for length in pixels.shape[:2])
    square = torch.from_numpy(pixels[top : top + side, left : left + side].copy())
    return square.permute(2, 0, 1).float() / 127.5 - 1


# -- the folder ------------------------------------------------------------------------------------


def _unseen(_done: int, _total: int) -> None:
    """Nobody watches."""


def encode_folder(
    folder: Path, autoencoder: Path, to: Path, side: int = 256, shard: int = 4096,
    progress: Progress = _unseen,
) -> Recipe:  # fmt: skip
    """Encode what is not encoded yet, then write the index; calling it again does nothing.

    UserError where `to` holds shards of something else, or a picture cannot be read.
    """
    net, pictures = latents.read_autoencoder(autoencoder), labelled(folder)
    recipe = Recipe(
        listing=pictures.listing,
        autoencoder=latents.digest(autoencoder),
        side=side,
        shard=shard,
        classes=pictures.classes,
        counts=pictures.counts,
    )
    _agree(recipe, to)
    hashes = []
    for k in range(recipe.shards):
        hashes.append(_finished(to, k) or _write(recipe, pictures, net, to, k))
        progress(k + 1, recipe.shards)
    _write_json(to / INDEX, {**recipe.as_json(), "shards": hashes})
    return recipe


def _agree(recipe: Recipe, to: Path) -> None:
    """Write down what the shards are of; UserError where others have been begun."""
    path, own = to / RECIPE, recipe.as_json()
    if not path.is_file():
        _write_json(path, own)
        return
    known = own_json(path, "remove it, and the shards beside it, then encode again")
    different = sorted(key for key in own if known.get(key) != own[key])
    if different:
        raise UserError(
            f"{to} holds shards of another encoding (its {' and '.join(different)} differ): give "
            "another folder, or remove that one"
        )


def _finished(to: Path, k: int) -> str:
    """The hash of a shard that is there whole, or ""."""
    path, record = to / shard_name(k), _record(to, k)
    if not (path.is_file() and record.is_file()):
        return ""
    known = record.read_text(encoding="utf-8").strip()
    return known if file_digest(path) == known else ""


def _record(to: Path, k: int) -> Path:
    return to / f"{shard_name(k)}.sha256"


def _write(
    recipe: Recipe, pictures: Labelled, net: latents.LatentAutoencoder, to: Path, k: int
) -> str:
    """Encode and write a shard, then its hash."""
    from safetensors.torch import save

    rows = recipe.rows(k)
    codes = list(_codes(pictures.paths[rows.start : rows.stop], net, recipe.side))
    data: bytes = save(
        {
            "mean": torch.cat([mean for mean, _ in codes]).contiguous(),
            "sigma": torch.cat([sigma for _, sigma in codes]).contiguous(),
            "label": torch.tensor(pictures.labels[rows.start : rows.stop]),
        }
    )
    digest = hashlib.sha256(data).hexdigest()
    atomic.write(to / shard_name(k), data)
    atomic.write(_record(to, k), f"{digest}\n".encode())
    return digest


@torch.no_grad()
def _codes(
    paths: Sequence[Path], net: latents.LatentAutoencoder, side: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Mean and deviation of the latents, some pictures at a time."""
    for start in range(0, len(paths), AT_ONCE):
        read = (read_picture(path).pixels for path in paths[start : start + AT_ONCE])
        code = net.encode(torch.stack([middle_square(pixels, side) for pixels in read]))
        yield code.mean, code.sigma


def _write_json(path: Path, content: object) -> None:
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False)
    atomic.write(path, f"{text}\n".encode())
