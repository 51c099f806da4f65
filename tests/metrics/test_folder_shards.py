"""Features of a large folder are kept in shards: killed at any, the distance is the same."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.metrics import image_row
from bench.metrics.encoders import encoder
from bench.metrics.frechet import frechet_distance, moments
from bench.metrics.image_row import Folder, folder_features, metric_rows
from bench.metrics.running import Running, counted, streamed
from bench.reading.picture import read_pictures
from tests.worlds.picture_files import save

PICTURES, SHARD = 2000, 64

CHILD = """
import sys
from pathlib import Path
from bench.metrics import image_row
from bench.metrics.encoders import encoder
image_row.SHARD = {shard}
image_row.folder_features(image_row.Folder.of(Path(sys.argv[1])), encoder("pixels"))
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made, draw = tmp_path_factory.mktemp("pictures"), np.random.default_rng(3)
    for name, low in (("own", 0), ("real", 40)):
        for k in range(PICTURES):
            save(made / name / f"{k}.png", draw.integers(low, 256, (8, 8, 3), np.uint8))
    return made / "own", made / "real"


def kept(cache):
    return {path: path.stat().st_mtime_ns for path in (cache / "features").glob("*-*.*-*.npy")}


def test_a_frechet_distance_of_2000_pictures_goes_on_where_it_was_killed(
    folders, tmp_path, monkeypatch
):
    own, real = folders
    monkeypatch.setenv("TILTBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(image_row, "SHARD", SHARD)
    last = random.Random(time.time_ns()).randrange(1, PICTURES // SHARD - 3)
    script = CHILD.format(shard=SHARD)
    process = subprocess.Popen([sys.executable, "-c", script, str(own)])
    while len(kept(tmp_path)) < last:
        assert process.poll() is None, "finished before it could be killed"
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = kept(tmp_path)
    assert last <= len(before) < PICTURES // SHARD

    pixels, read = encoder("pixels"), []

    def counting(pictures):
        read.append(len(pictures))
        return pixels.encode(pictures)

    x = folder_features(Folder.of(own), replace(pixels, encode=counting))
    assert sum(read) == PICTURES - len(before) * SHARD, "kept features are computed again"
    assert not kept(tmp_path)
    one_pass = pixels.features(read_pictures(Folder.of(own).paths))
    y = moments(pixels.features(read_pictures(Folder.of(real).paths)))
    expected = frechet_distance(moments(one_pass), y)
    blocks = np.split(x, range(SHARD, PICTURES, SHARD))
    assert frechet_distance(streamed(blocks, pixels.dimension), y) == pytest.approx(
        expected, abs=1e-9
    )
    rows = metric_rows(Folder.of(own), Folder.of(real), {"pixels": pixels})
    (shown,) = [r for r in rows if r.metric == "frechet" and r.implementation == "tiltbench"]
    assert shown.value == pytest.approx(expected, abs=1e-9)


class Killed(Exception):
    """Stands for the end of the process."""


def test_moments_go_on_from_the_last_state_and_only_for_the_same_pictures(tmp_path):
    x, said = np.random.default_rng(0).normal(size=(300, 5)), {"pictures": "a"}
    paths, state, seen = [Path(str(k)) for k in range(300)], tmp_path / "state", []

    def blocks(until):
        def of(chosen):
            for path in chosen:
                if int(path.name) >= until:
                    raise Killed
                seen.append(int(path.name))
                yield x[int(path.name)][None]

        return of

    with pytest.raises(Killed):
        counted(paths, blocks(170), 5, state, said, every=50)
    found = counted(paths, blocks(300), 5, state, said, every=50)
    assert seen == [*range(170), *range(150, 300)] and not state.exists()
    whole = Running.empty(5)
    for row in x:
        whole = whole.update(row[None])
    np.testing.assert_array_equal(found.covariance, whole.finish().covariance)
    with pytest.raises(Killed):
        counted(paths, blocks(170), 5, state, said, every=50)
    seen.clear()
    counted(paths, blocks(300), 5, state, {"pictures": "others"}, every=50)
    assert seen == [*range(300)]
