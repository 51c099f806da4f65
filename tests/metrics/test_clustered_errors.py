"""Pictures of one prompt are dependent: errors and intervals are those of prompts."""

import json

import numpy as np
import pytest

from bench.metrics import intervals
from bench.metrics.agreement import agreement
from bench.metrics.image_row import Folder, statistics
from bench.metrics.picture_metric import mean_row
from tests.worlds.picture_files import save

RNG = np.random.default_rng


def prompted(rng, prompts, pictures, within=0.05):
    """Scores of `pictures` near-copies of each prompt, and their groups; the mean is 0."""
    groups = np.repeat(np.arange(prompts), pictures)
    return rng.standard_normal(prompts)[groups] + within * rng.standard_normal(len(groups)), groups


def test_near_copies_have_the_error_of_their_prompts():
    """10 prompts, 4 near-copies each: that of 10 means, and twice that of 40 free pictures."""
    values, groups = prompted(RNG(0), 10, 4)
    means = values.reshape(10, 4).mean(1)
    found = intervals.mean_interval(values, groups)
    assert found.standard_error == pytest.approx(means.std(ddof=1) / 10**0.5, rel=1e-12)
    assert found.high - found.value == pytest.approx(1.8331 * found.standard_error, rel=1e-4)
    alone = intervals.mean_interval(values)
    assert 1.9 < found.standard_error / alone.standard_error < 2.2


@pytest.mark.parametrize("prompts", [10, 40])
@pytest.mark.parametrize("within", [0.05, 1.0, 10.0])
def test_clustered_intervals_cover(prompts, within):
    """Nominal 90 %, 1,000 repetitions, 4 pictures each: 87 to 93 %, that is 3.2 errors."""
    rng, hits = RNG(prompts), 0
    for _ in range(1000):
        found = intervals.mean_interval(*prompted(rng, prompts, 4, within))
        hits += found.low <= 0 <= found.high
    assert 870 <= hits <= 930


def test_intervals_over_pictures_do_not_cover():
    """What the clusters are there for: near-copies taken as free cover about half."""
    rng, hits = RNG(1), 0
    for _ in range(1000):
        values, _ = prompted(rng, 10, 4)
        found = intervals.mean_interval(values)
        hits += found.low <= 0 <= found.high
    assert 500 <= hits <= 640


def test_prompts_with_unlike_numbers_of_pictures_cover():
    """1 to 7 pictures of 40 prompts: still within 87 to 93 %."""
    rng, hits = RNG(2), 0
    for _ in range(1000):
        groups = np.repeat(np.arange(40), rng.integers(1, 8, 40))
        values = rng.standard_normal(40)[groups] + 0.3 * rng.standard_normal(len(groups))
        found = intervals.mean_interval(values, groups)
        hits += found.low <= 0 <= found.high
    assert 870 <= hits <= 930


def test_one_group_has_no_interval():
    with pytest.raises(ValueError, match="two"):
        intervals.mean_interval(np.arange(4.0), np.zeros(4, int))


def test_a_kernel_interval_keeps_prompts_whole():
    """Equal laws, 50 prompts of 4 near-copies: 87 to 93 % with groups, far off without."""
    rng, kernel, hits = RNG(3), intervals.gaussian(1.0), {"prompts": 0, "pictures": 0}
    for k in range(1000):
        groups = np.repeat(np.arange(50), 4)
        x = rng.standard_normal((50, 2))[groups] + 0.01 * rng.standard_normal((200, 2))
        y = rng.standard_normal((200, 2))
        for name, own in (("prompts", groups), ("pictures", None)):
            found = intervals.kernel_interval(x, y, kernel, seed=k, groups=own)
            hits[name] += found.low <= 0 <= found.high
    assert 870 <= hits["prompts"] <= 930
    assert hits["pictures"] < 850


def test_agreement_has_the_error_of_groups():
    margins = np.where(RNG(4).random(40) < 0.7, 1.0, -1.0)
    found = agreement(margins, [str(k // 4) for k in range(40)])
    shares = ((margins + 1) / 2).reshape(10, 4).mean(1)
    assert found.standard_error == pytest.approx(shares.std(ddof=1) / 10**0.5, rel=1e-12)


# -- the rows of a folder -------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """10 prompts, 4 pictures each, nearly alike: brightness says which prompt."""
    monkeypatch.setenv("TILTBENCH_CACHE", str(tmp_path / "cache"))
    levels = RNG(5).integers(20, 220, 10)
    for k in range(40):
        noise = RNG(k).integers(0, 4, (8, 8, 3))
        save(tmp_path / "own" / f"{k}.png", (levels[k // 4] + noise).astype(np.uint8))
    (tmp_path / "prompts.txt").write_text("\n".join(f"prompt {k // 4}" for k in range(40)))
    return tmp_path / "own"


def rows(*arguments):
    from typer.testing import CliRunner

    from bench.cli.main import app

    given = ["evaluate", *map(str, arguments), "--encoders", "pixels", "--json"]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, (done.output, done.exception)
    return {row["metric"]: row for row in json.loads(done.stdout)}


def test_every_row_with_an_error_has_that_of_prompts(folder):
    values = np.array([v.value for v in statistics(Folder.of(folder)) if v.metric == "brightness"])
    found = rows(
        folder, "--prompts", folder.parent / "prompts.txt", "-r", "jpeg-compressibility",
        "--reference", folder,
    )  # fmt: skip
    names = ["brightness", "saturation", "compressed-size", "reward jpeg-compressibility"]
    for name in (*names, "kernel-distance"):
        assert "10 prompts: pictures of one are dependent" in found[name]["note"], name
        assert found[name]["low"] < found[name]["value"] < found[name]["high"], name
    free = next(row for row in statistics(Folder.of(folder)) if row.metric == "brightness")
    assert found["brightness"]["value"] == pytest.approx(float(values[0]))
    assert 1.9 < found["brightness"]["standard_error"] / free.standard_error < 2.2


def test_records_count_also_where_no_reward_is_asked_for(folder):
    lines = [{"file_name": f"{k}.png", "prompt": f"prompt {k // 4}"} for k in range(40)]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert "10 prompts" in rows(folder)["brightness"]["note"]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines[1:])))
    assert "taken as independent" in rows(folder)["(warning)"]["note"]


def test_one_prompt_for_all_is_said(folder):
    found = rows(folder, "--prompt", "a cat", "-r", "jpeg-compressibility")
    row = found["reward jpeg-compressibility"]
    assert row["standard_error"] and "all pictures have one prompt" in row["note"]
    assert mean_row("one", np.array([2.0])).standard_error is None
