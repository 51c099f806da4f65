"""Files that a command keeps for itself: made again, or one sentence, whatever became of them."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from bench.cli.main import app
from bench.core.own_files import own_json
from bench.core.params import UserError
from bench.metrics import image_row
from bench.models import external
from bench.training.checkpoints import Checkpoints
from tests.record.test_damage import DAMAGES, flipped
from tests.worlds.cheap_run import run


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_features_are_computed_again(tmp_path, damage):
    """Truncated or emptied, and with one flipped bit, which NumPy would read as other features."""
    path, features = tmp_path / "f.npy", np.random.default_rng(0).normal(size=(5, 3))
    made = []

    def make():
        made.append(1)
        return features

    for _ in range(2):
        np.testing.assert_array_equal(image_row._kept(path, make), features)
    assert len(made) == 1
    whole = path.read_bytes()
    for seed in range(40 if damage is flipped else 3):
        path.write_bytes(damage(whole, random.Random(seed)))
        before = len(made)
        np.testing.assert_array_equal(image_row._kept(path, make), features)
        assert len(made) == before + 1 and path.read_bytes() == whole
    np.testing.assert_array_equal(np.load(path), features)


@pytest.mark.parametrize("damage", DAMAGES[:2])
def test_a_training_goes_on_from_the_last_state_that_can_be_read(tmp_path, damage):
    kept = Checkpoints(tmp_path, 2)
    for step in (10, 20):
        kept.save(step, {"step": step, "w": torch.full((4,), float(step))})
    assert kept.last()["step"] == 20
    last = tmp_path / "step-00000020.pt"
    last.write_bytes(damage(last.read_bytes(), random.Random(0)))
    assert kept.last()["step"] == 10 and (tmp_path / "step-00000020.pt.damaged").exists()
    first = tmp_path / "step-00000010.pt"
    first.write_bytes(damage(first.read_bytes(), random.Random(0)))
    assert kept.last() is None


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[1]", b"[" * 100_000])
def test_records_of_our_own_are_read_or_one_sentence(tmp_path, data):
    path = tmp_path / "x.bin"
    path.write_bytes(b"weights")
    external.record_path(path).write_bytes(data)
    with pytest.raises(UserError, match=r"x\.bin\.json is damaged .*bench prefetch --again"):
        external.recorded(path)
    with pytest.raises(UserError, match=r"is damaged .*: mend it"):
        own_json(external.record_path(path), "mend it")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_run_with_damaged_tables_is_listed(tmp_path, damage):
    run(tmp_path)
    run(tmp_path, name="other")
    table = tmp_path / "cheap" / "cells.parquet"
    data = table.read_bytes()
    table.write_bytes(data[:-4] + damage(data[-4:], random.Random(1))[:3])
    told = CliRunner().invoke(app, ["list", "runs", "--root", str(tmp_path)])
    assert told.exit_code == 0, told.exception
    assert "is damaged" in " ".join(told.output.split()) and "2 ok" in told.output
