"""Pictures to latents: the square, the shards, and that an interruption leaves no trace."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bench.core.params import UserError
from bench.models import latents
from bench.models.latent_shards import INDEX, LatentShards
from bench.reading import encoding
from bench.reading.encoding import encode_folder, labelled, middle_square
from bench.reading.picture import read_picture
from tests.worlds.picture_files import save
from tests.worlds.seeded import generator
from tests.worlds.tiny_imagenet import write_autoencoder

SIDE, SHARD = 32, 3
CLASSES = {"n01": 4, "n02": 1, "n10": 3}
"""Pictures per class: shards of three end inside of classes and between them."""


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder, random = tmp_path_factory.mktemp("encoding"), np.random.default_rng(0)
    write_autoencoder(folder / "vae")
    for name, count in CLASSES.items():
        for k in range(count):
            size = (int(random.integers(32, 90)), int(random.integers(32, 90)), 3)
            pixels = random.integers(0, 256, size, dtype=np.uint8)
            save(folder / "pictures" / name / f"{k}.png", pixels)
    return folder


def encode(world: Path, to: Path, **more: object) -> None:
    encode_folder(world / "pictures", world / "vae", to, SIDE, SHARD, **more)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# -- a picture -------------------------------------------------------------------------------------


def test_a_square_of_the_right_size_is_the_picture():
    pixels = torch.randint(0, 256, (32, 32, 3), generator=generator(), dtype=torch.uint8)
    found = middle_square(pixels, 32)
    torch.testing.assert_close(found, pixels.permute(2, 0, 1).float() / 127.5 - 1)
    assert found.min() >= -1 and found.max() <= 1


def test_a_large_picture_is_averaged_in_twos_and_a_long_one_loses_its_ends():
    pixels = torch.randint(0, 256, (64, 64, 3), generator=generator(1), dtype=torch.uint8)
    means = pixels.float().reshape(32, 2, 32, 2, 3).mean((1, 3)).permute(2, 0, 1)
    # Rows and columns are averaged one after the other, each rounded to a level.
    assert ((middle_square(pixels, 32) + 1) * 127.5 - means).abs().max() <= 1.001
    wide = torch.zeros(32, 52, 3, dtype=torch.uint8)
    wide[:, 10:42] = pixels[:32, :32]
    torch.testing.assert_close(middle_square(wide, 32), middle_square(pixels[:32, :32], 32))


@pytest.mark.parametrize("size", [(31, 64), (64, 31), (33, 47), (200, 65), (7, 9)])
def test_every_size_becomes_the_square(size):
    grey = torch.full((*size, 3), 90, dtype=torch.uint8)
    expected = torch.full((3, 32, 32), 90 / 127.5 - 1)
    torch.testing.assert_close(middle_square(grey, 32), expected)


# -- the shards ------------------------------------------------------------------------------------


def test_shards_hold_the_codes_of_the_pictures_in_the_order_of_their_classes(world, tmp_path):
    encode(world, tmp_path / "out")
    pictures, shards = labelled(world / "pictures"), LatentShards(tmp_path / "out")
    assert pictures.classes == tuple(CLASSES) and pictures.labels == (0, 0, 0, 0, 1, 2, 2, 2)
    assert shards.recipe.counts == (4, 1, 3) and shards.recipe.shards == 3
    net = latents.read_autoencoder(world / "vae")
    squares = [middle_square(read_picture(path).pixels, SIDE) for path in pictures.paths]
    expected = net.encode(torch.stack(squares))
    rows = torch.tensor([7, 0, 3, 3, 5])
    found = shards.codes(rows)
    torch.testing.assert_close(found.mean, expected.mean[rows], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.sigma, expected.sigma[rows], atol=1e-5, rtol=1e-5)
    stored = [load_file(tmp_path / "out" / f"{k:05d}.safetensors")["label"] for k in range(3)]
    assert torch.cat(stored).tolist() == list(pictures.labels)


def test_draws_are_of_the_classes_asked_for_and_new_each_time(world, tmp_path):
    encode(world, tmp_path / "out")
    shards = LatentShards(tmp_path / "out")
    code = shards.codes(torch.tensor([4]))
    draws = shards.draw(4000, (1,), generator(3))
    mean, sigma = draws.mean(0), draws.std(0)
    assert ((mean - code.mean[0]).abs() <= 5 * code.sigma[0] / 4000**0.5).all()
    torch.testing.assert_close(sigma, code.sigma[0], rtol=0.08, atol=0)
    assert torch.equal(shards.draw(5, (0, 2), generator(4)), shards.draw(5, (0, 2), generator(4)))
    with pytest.raises(UserError, match=r"no picture of the classes 9: .* from 0 to 2"):
        shards.draw(2, (9,), generator())


class Killed(Exception):
    pass


@pytest.mark.parametrize("after", [1, 2])
def test_stopped_between_shards_and_continued_it_is_the_same_to_the_byte(world, tmp_path, after):
    def stop(done: int, total: int) -> None:
        if done == after:
            raise Killed

    with pytest.raises(Killed):
        encode(world, tmp_path / "a", progress=stop)
    assert not (tmp_path / "a" / INDEX).exists()
    with pytest.raises(UserError, match="no finished folder"):
        LatentShards(tmp_path / "a")
    first = {k: v for k, v in bytes_of(tmp_path / "a").items() if k.startswith("0")}
    encode(world, tmp_path / "a")
    encode(world, tmp_path / "b")
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")
    assert first.items() <= bytes_of(tmp_path / "a").items()


KILL_ME = """
import sys
from pathlib import Path
from bench.reading.encoding import encode_folder
world, to = map(Path, sys.argv[1:])
import time
encode_folder(world / "pictures", world / "vae", to, 32, 3,
              lambda done, total: (print(done, flush=True), time.sleep(60)))
"""


def test_killed_by_the_system_it_goes_on(world, tmp_path):
    command = [sys.executable, "-c", KILL_ME, str(world), str(tmp_path / "a")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None and process.stdout.readline().strip() == b"1"
        process.send_signal(signal.SIGKILL)
    encode(world, tmp_path / "a")
    encode(world, tmp_path / "b")
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")


def test_what_is_done_is_not_done_again_and_what_is_damaged_is(world, tmp_path, monkeypatch):
    encode(world, tmp_path / "out")
    whole, written = bytes_of(tmp_path / "out"), []
    plain = encoding._write
    monkeypatch.setattr(encoding, "_write", lambda *a: (written.append(a[-1]), plain(*a))[1])
    encode(world, tmp_path / "out")
    assert not written
    time.sleep(0.01)
    (tmp_path / "out" / "00001.safetensors").write_bytes(b"half")
    with pytest.raises(UserError, match=r"00001\.safetensors is missing or not what was encoded"):
        LatentShards(tmp_path / "out").codes(torch.tensor([4]))
    encode(world, tmp_path / "out")
    assert written == [1] and bytes_of(tmp_path / "out") == whole


def test_the_index_says_what_was_encoded(world, tmp_path):
    encode(world, tmp_path / "out")
    index = json.loads((tmp_path / "out" / INDEX).read_text())
    assert index["autoencoder"] == latents.digest(world / "vae")
    assert index["listing"] == labelled(world / "pictures").listing
    assert len(index["shards"]) == 3 and index["side"] == SIDE


# -- what is refused -------------------------------------------------------------------------------


def test_another_folder_or_another_side_is_not_mixed_in(world, tmp_path):
    encode(world, tmp_path / "out")
    with pytest.raises(UserError, match=r"another encoding \(its side differ\)"):
        encode_folder(world / "pictures", world / "vae", tmp_path / "out", 64, SHARD)
    save(tmp_path / "more" / "n01" / "0.png", np.zeros((40, 40, 3), np.uint8))
    with pytest.raises(UserError, match="its classes and counts and listing differ"):
        encode_folder(tmp_path / "more", world / "vae", tmp_path / "out", SIDE, SHARD)


def test_a_picture_beside_the_classes_is_refused(world, tmp_path):
    for name in ("n01/0.png", "1.png"):
        save(tmp_path / "loose" / name, np.zeros((40, 40, 3), np.uint8))
    with pytest.raises(UserError, match=r"1\.png lies beside the classes"):
        encode_folder(tmp_path / "loose", world / "vae", tmp_path / "out", SIDE, SHARD)


def test_latents_of_another_autoencoder_or_shape_are_refused(world, tmp_path):
    encode(world, tmp_path / "out")
    shards, own = LatentShards(tmp_path / "out"), latents.digest(world / "vae")
    shards.require(own, (4, 8, 8))
    with pytest.raises(UserError, match="another autoencoder"):
        shards.require("0" * 64, (4, 8, 8))
    with pytest.raises(UserError, match=r"shape \(4, 8, 8\), and the flow \(4, 32, 32\)"):
        shards.require(own, (4, 32, 32))
