"""Own data end as good as shipped worlds: two moons in minutes, digits in half an hour."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, make_moons
from torch import Tensor
from typer.testing import CliRunner

from bench.cli.main import app
from bench.core.map_posterior import MapPosterior
from bench.metrics.posterior_quality import Contexts, joint_frechet
from bench.models import weights
from bench.models.conditional import ConditionalMap
from bench.models.digits_data import real_digits
from bench.models.meta_flow_map import Known
from bench.models.picture_folder import pillow
from bench.models.trained import read_trained


def trained(*arguments: str) -> Mapping[str, Any]:
    """The quality that a training ends with."""
    found = CliRunner().invoke(app, ["train", *arguments, "--no-track", "--validate-every", "0"])
    assert found.exit_code == 0, found.output
    record = json.loads((Path(arguments[-1]) / "trained.json").read_text())
    quality: Mapping[str, Any] = record["quality"]
    return quality


@pytest.mark.slow
def test_one_jump_on_two_moons_is_within_one_and_a_half_floors(tmp_path):
    """8,000 points with noise 0.06, the default recipe: minutes."""
    x, _ = make_moons(8000, noise=0.06, random_state=0)
    np.save(tmp_path / "moons.npy", x)
    quality = trained("--data", str(tmp_path / "moons.npy"), "--to", str(tmp_path / "mine"))
    assert quality["samples"]["map-1"] <= 1.5


def write_digits(folder: Path) -> None:
    """scikit-learn's digits as 8-bit pictures, a folder for each class."""
    digits = load_digits()
    for k, (levels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = folder / str(label) / f"{k:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pillow().fromarray(np.round(levels * 255 / 16).astype(np.uint8)).save(path)


class OfRows(ConditionalMap):
    """A map that is told the label of every row."""

    def __init__(self, net: Any, label: Tensor) -> None:
        super().__init__(net, lambda _: None)
        self.label = label

    def velocity(
        self, x_bar: Tensor, s: Tensor, u: Tensor, x: Tensor, t: Tensor, condition: Any = None
    ) -> Tensor:
        given = self.net.given(Known(self.label))
        return given.velocity(x_bar, s, u, x, t)


@pytest.mark.slow
@pytest.mark.parametrize("labels", ["", "folders"])
def test_digits_from_a_folder_are_as_good_as_the_shipped_map(tmp_path, labels):
    """One jump at t = 0.2 and 0.5 against the shipped figures: half an hour each on two cores."""
    write_digits(tmp_path / "digits")
    data = "--data", str(tmp_path / "digits"), "--labels", labels, "--threads", "2"
    trained(*data, "--to", str(tmp_path / "mine"))
    net = read_trained(str(tmp_path / "mine")).networks()[1]
    real = real_digits("all")
    label = real.y if labels else torch.zeros(0, dtype=torch.long)
    flow_map = OfRows(net, label) if labels else ConditionalMap(net, lambda _: None)
    shipped = json.loads(weights.find("digits").with_suffix(".json").read_text())["quality"]
    for t in (0.2, 0.5):
        found = joint_frechet(MapPosterior(flow_map, 1), Contexts(real.x, t))
        assert found <= 1.1 * shipped["posterior"][str(t)]["map-1"][0], (t, found)
