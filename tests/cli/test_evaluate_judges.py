"""`bench evaluate`: judges measured on people's choices, and the row that papers print."""

import json

import numpy as np
import pytest
import yaml

from bench.cli.evaluate_presets import FOLDER, read_preset
from bench.core.params import UserError
from bench.plan.binding import make_reward
from tests.worlds.picture_files import save
from tests.worlds.scorer_servers import COLOURS, serving


@pytest.fixture(autouse=True)
def no_weights(monkeypatch, tmp_path):
    monkeypatch.setenv("TILTBENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def server():
    with serving(COLOURS) as running:
        yield running


@pytest.fixture
def folder(tmp_path):
    """0.png is the least red, 5.png the most."""
    for k in range(6):
        red = np.zeros((4, 4, 3), np.uint8)
        red[..., 0] = 40 * k
        save(tmp_path / "own" / f"{k}.png", red)
    return tmp_path / "own"


def invoke(*arguments):
    from typer.testing import CliRunner

    from bench.cli.main import app

    return CliRunner().invoke(app, ["evaluate", *map(str, arguments), "--encoders", "pixels"])


def rows(*arguments):
    done = invoke(*arguments, "--json")
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads(done.stdout)


def refusal(*arguments):
    done = invoke(*arguments)
    assert isinstance(done.exception, UserError), (done.output, done.exception)
    return str(done.exception)


# -- people's choices -----------------------------------------------------------------------------


def chosen(folder, *choices):
    path = folder.parent / "preferences.csv"
    lines = [f"{p},{a}.png,{b}.png,{who}" for p, a, b, who in choices]
    path.write_text("\n".join(["prompt,first,second,preferred", *lines]))
    return path


def test_a_judge_is_measured_on_peoples_choices(folder, server):
    path = chosen(
        folder,
        ("red", 1, 0, "first"),
        ("red", 2, 5, "second"),
        ("something red", 4, 3, "second"),  # the judge thinks otherwise
        ("green", 0, 5, "first"),
        ("green", 5, 1, "tie"),
    )
    found = rows(folder, "--preferences", path, "-r", f"http:url={server.url}")
    (row,) = [row for row in found if row["metric"].startswith("agreement")]
    assert (row["value"], row["n"]) == (0.75, 4)
    assert 0 < row["low"] < 0.75 < row["high"] < 1
    assert "3 prompts" in row["note"] and "1 ties" in row["note"]
    assert "published agreement with people: not published" in row["note"]
    assert row["weights"].startswith("scorer colours:")


def test_scores_that_are_equal_are_said_to_be(folder, server):
    path = chosen(folder, ("a grey thing", 0, 0 + 1, "first"), ("red", 1, 0, "first"))
    save(folder / "1.png", np.zeros((4, 4, 3), np.uint8))
    found = rows(folder, "--preferences", path, "-r", f"http:url={server.url}")[-1]
    assert found["value"] == 0.5 and "2 equal scores count half" in found["note"]


def test_what_cannot_be_measured_is_said(folder):
    path = chosen(folder, ("red", 1, 0, "tie"))
    assert "name them with -r" in refusal(folder, "--preferences", path)
    given = ("--preferences", path, "-r", "jpeg-compressibility")
    assert "preferred neither" in refusal(folder, *given)
    assert "line 2: first: there is no picture '9.png'" in refusal(
        folder,
        "--preferences",
        chosen(folder, ("red", 9, 0, "first")),
        "-r",
        "jpeg-compressibility",
    )


# -- the quality row ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [path.stem for path in FOLDER.glob("*.yaml")])
def test_presets_name_rewards_that_are_there_and_a_source_for_every_row(name):
    preset = read_preset(name)
    for text in preset.rewards:
        assert make_reward(text)[1].learned
    for row in preset.published:
        assert ("arxiv" in row.source.lower() or "github.com/" in row.source) and row.values
    content = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    assert set(content) == {"prompts", "rewards", "published"}


def test_the_row_stands_beside_the_published_ones(folder):
    found = rows(folder, "--prompt", "red", "--preset", "drawbench")
    own = [row for row in found if row["metric"].startswith("reward")]
    assert [row["metric"].split(":")[0] for row in own] == [
        f"reward {name}" for name in ("aesthetic", "image-reward", "pickscore", "clip", "hpsv2")
    ]
    # Without weights: no value, and the command that fetches them.
    assert all(row["value"] is None and "bench prefetch" in row["note"] for row in own)
    aesthetic = [row for row in found if row["metric"] == "published aesthetic"]
    assert [row["value"] for row in aesthetic] == [5.39, 5.40, 5.32, 5.3349]
    assert all("flow_grpo/issues" in row["note"] for row in aesthetic)
    assert {row["implementation"] for row in aesthetic} == {"published"}
    places = [row["metric"] for row in found]
    assert places.index("published pickscore") == places.index("reward pickscore:unit=logit") + 1
    assert any("these are 1" in row["note"] for row in found if row["metric"] == "(warning)")


def test_the_number_of_prompts_is_that_of_the_set(tmp_path):
    for k in range(200):
        save(tmp_path / "own" / f"{k}.png", np.full((4, 4, 3), k, np.uint8))
    (tmp_path / "prompts.txt").write_text("\n".join(f"prompt {k}" for k in range(200)))
    found = rows(tmp_path / "own", "--prompts", tmp_path / "prompts.txt", "--preset", "drawbench")
    assert not [row for row in found if row["metric"] == "(warning)"]


def test_what_a_scorer_serves_is_part_of_the_row_under_its_own_name(folder, tmp_path):
    scorer = tmp_path / "unified.py"
    scorer.write_text(
        "NAME = 'unified-reward'\ndef score(pictures, prompts): return [3.0] * len(prompts)"
    )
    with serving(scorer) as running:
        reward = f"http:url={running.url}"
        found = rows(folder, "--prompt", "red", "--preset", "drawbench", "-r", reward)
    values = [row["value"] for row in found if row["metric"] == "published unified-reward"]
    assert values == [3.33, 3.08, 3.42, 3.1636]
    assert next(row for row in found if row["metric"].startswith("reward http"))["value"] == 3.0


def test_a_preset_needs_prompts_and_a_name_that_is_known(folder):
    assert "--prompts FILE" in refusal(folder, "--preset", "drawbench")
    assert "did you mean 'drawbench'" in refusal(folder, "--prompt", "a", "--preset", "drawbnch")
