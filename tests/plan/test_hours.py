"""Hours in `bench plan`: FLOPs counted without weights over rates that a device was measured at."""

import json

import pytest
import torch
from typer.testing import CliRunner

from bench.cli.main import app
from bench.core.flops import counted as counted_flops
from bench.core.params import UserError
from bench.core.units import KINDS
from bench.models.dit import DiT, DiTMap
from bench.models.pipeline_folder import PipelineFolder
from bench.plan.binding import bind
from bench.plan.expand import expand
from bench.plan.hours import Counted, counted, estimated
from bench.plan.rates import Rates, known_rates, read_rates, write_rates
from bench.plan.suite import build_suite
from bench.record.store import Store
from tests.worlds.tiny_dit import TINY
from tests.worlds.tiny_imagenet import write_autoencoder, write_map
from tests.worlds.tiny_pipelines import edited, saved_pipeline

ROLES = ("flow", "map", "decoder", "reward")
SPEED = 1e6
REWARD = "callable:function=tests.worlds.brightness:brightness,gradient=true"


@pytest.fixture
def beside_shipped(tmp_path, monkeypatch):
    monkeypatch.setenv("TILTBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "rates"


@pytest.fixture
def cache(beside_shipped, tmp_path, monkeypatch):
    """Where rates of one's own lie, as if none came with the package."""
    monkeypatch.setattr("bench.plan.rates.SHIPPED", tmp_path / "nothing")
    return beside_shipped


@pytest.fixture
def imagenet(tmp_path):
    write_map(tmp_path / "mfm.safetensors")
    write_autoencoder(tmp_path / "vae")
    files = f"checkpoint={tmp_path / 'mfm.safetensors'},autoencoder={tmp_path / 'vae'}"
    return f"imagenet256:{files},classes=3"


def stored(folder, device="Some Card", dtypes=("float32",)):
    kinds = {"forward": SPEED, "backward": 2 * SPEED, "jvp": SPEED}
    path = folder / f"{device.lower().replace(' ', '-')}.json"
    write_rates(path, device, {d: dict.fromkeys(ROLES, kinds) for d in dtypes})
    return path


def planned(task, *more, reward=REWARD, json_too=False):
    arguments = ["plan", "-t", task, "-r", reward, "-m", "mfm-g:steps=5,draws=2", "-b", "none"]
    more = (*more, *(("--json",) if json_too else ()))
    done = CliRunner().invoke(app, [*arguments, "--set", "n=4", "--seeds", "1", *more])
    assert not done.exception, done.exception
    return json.loads(done.stdout) if json_too else " ".join(done.stdout.split())


def test_without_rates_nothing_is_said(cache, imagenet):
    shown, rows = planned(imagenet), planned(imagenet, json_too=True)
    assert "FLOP" not in shown and " h on " not in shown
    assert all("hours" not in row for row in rows)


def test_hours_are_flops_over_rates_and_say_whose(cache, imagenet):
    path, rows = stored(cache), planned(imagenet, json_too=True)
    flops = counted(bind(imagenet, REWARD)).flops
    # mfm-g, 5 steps of 2 draws, 4 samples: the flow once, the map and the decoder there and back.
    ahead = {"flow": 4 * 5, "map": 4 * 5 * 2, "decoder": 4 * 5 * 2}
    took = sum(n * flops[role, "forward"] for role, n in ahead.items()) / SPEED
    took += sum(40 * flops[role, "backward"] for role in ("map", "decoder")) / (2 * SPEED)
    own = [row for row in rows if row["method"].startswith("mfm-g")]
    assert [row["hours"] for row in own] == [{str(path): pytest.approx(took / 3600)}]
    total = sum(row["hours"][str(path)] for row in rows)
    shown = planned(imagenet).replace(" ", "")
    assert f"{total:.3g}honSomeCardattheratesof{path}.".replace(" ", "") in shown


def test_two_cards_are_told_apart_and_a_dtype_without_rates_is(cache, imagenet):
    stored(cache), stored(cache, "Other", ("bfloat16",))
    shown = planned(imagenet)
    assert " h on Some Card at the rates of" in shown
    assert "no hours, as it has no rates of this dtype on Other" in shown
    assert "without reward, of whose networks nobody says the shape:" in shown


def test_what_nobody_describes_has_no_hours(cache):
    stored(cache)
    shown = planned("digits", reward="template")
    assert "Hours are not known: nobody says of which shape the networks of" in shown


def test_the_count_is_that_of_a_run(imagenet):
    """FLOPs of the network per row, as counted on rows that are computed."""
    net, t = DiTMap(DiT(TINY).requires_grad_(False)), torch.full((1,), 0.5)
    x, context = torch.randn(1, *TINY.event_shape), torch.randn(1, *TINY.event_shape)
    one = counted_flops(lambda: net.velocity(x, t, t, context, t))
    found = counted(bind(imagenet, REWARD))
    assert found.flops["flow", "forward"] == found.flops["map", "forward"] == one
    assert found.unknown == {"reward"}, "a function of somebody else's"


def test_a_file_that_holds_no_rates_is_named(cache):
    cache.mkdir(parents=True)
    (cache / "odd.json").write_text('{"device": 1}')
    with pytest.raises(UserError, match=r"odd\.json holds no rates: remove it"):
        read_rates(cache)


def test_a_fit_counts_once_however_many_cells_wait_for_it():
    rows = expand(
        build_suite(
            {
                "name": "t",
                "tasks": ["digits"],
                "rewards": ["template"],
                "methods": ["itm:iterations=2,steps=5"],
                "seeds": 3,
                "n": 2,
            }
        )
    )
    fitted = [row for row in rows if row.fit is not None]
    pair = fitted[0].task_label, fitted[0].reward_label
    flops = dict.fromkeys(((role, kind) for role in ROLES for kind in KINDS), 1.0)
    rates = Rates("a", "f", {"float32": dict.fromkeys(ROLES, dict.fromkeys(KINDS, 1.0))})
    every = {pair: Counted(flops, frozenset())}
    found = estimated(fitted, every, [rates], fits := set())
    own = sum(sum(row.predicted.vector) * row.cell.n for row in fitted)
    once = {row.fit.id: sum(row.fit.predicted.vector) for row in fitted}
    assert found.flops == pytest.approx(own + sum(once.values())) and fits == set(once)
    assert found.hours["f"] == pytest.approx(found.flops / 3600)


def test_shipped_rates_speak_of_suites_whose_networks_are_known(beside_shipped, imagenet):
    shown = planned(imagenet, reward=REWARD)
    assert "on NVIDIA H100 80GB HBM3" in shown
    assert "Hours" not in planned("digits", reward="template"), "nobody asked"


def test_rates_of_ones_own_go_before_the_shipped_ones(beside_shipped):
    (theirs,) = known_rates(beside_shipped)
    assert theirs.shipped
    stored(beside_shipped, device=theirs.device)
    (mine,) = known_rates(beside_shipped)
    assert mine.device == theirs.device and not mine.shipped


@pytest.mark.parametrize("name", ["sd15", "flux"])
def test_a_pipeline_has_hours_before_its_weights_are_loaded(name, cache, tmp_path, monkeypatch):
    """And they are those of the FLOPs that a run counts: guided rows are two of the network."""
    path = stored(cache)
    task = f"text-to-image:path={saved_pipeline(name)},height=32,width=32,prompts=a red fox"
    given = ["-t", task, "-r", REWARD, "-m", "prior:steps=5", "-m", "best-of-n:steps=5"]
    given += [
        "-b",
        "none",
        "--set",
        "n=2",
        "--seeds",
        "1",
        "--name",
        "own",
        "--root",
        str(tmp_path),
    ]
    with monkeypatch.context() as patched:
        patched.setattr("bench.runner.minutes.LARGE", 0.0)
        for part in ("network", "decoder"):
            patched.setattr(PipelineFolder, part, lambda _, part=part: pytest.fail(part))
        done = CliRunner().invoke(app, ["plan", *given, "--json"])
    assert not done.exception, done.exception
    rows = {row["cell"]: row for row in json.loads(done.stdout)}
    ran = CliRunner().invoke(app, ["run", *given, "--executor", "inline", "--no-track"])
    assert not ran.exception, ran.exception
    cells = Store(str(tmp_path), "own").table("cells").query("status == 'ok'")
    assert len(cells) >= 2
    for cell in cells.itertuples():
        flops = rows[cell.cell]["flops"]
        assert flops == pytest.approx(cell.flops * cell.n, rel=1e-9) and flops > 0
        assert 0 < rows[cell.cell]["hours"][str(path)] == pytest.approx(flops / SPEED / 3600)


def test_a_network_that_its_configuration_does_not_describe_is_unknown(cache, tmp_path):
    """A plan is made all the same, and says without what."""
    stored(cache)
    folder = edited("sd15", tmp_path / "odd", "unet/config.json", cross_attention_dim=[32, 32])
    task = f"text-to-image:path={folder},height=32,width=32,prompts=a red fox"
    found = counted(bind(task, REWARD))
    assert "flow" in found.unknown and {role for role, _ in found.flops} == {"decoder"}
    given = ["-t", task, "-r", REWARD, "-m", "best-of-n:steps=5", "-b", "none", "--set", "n=2"]
    done = CliRunner().invoke(app, ["plan", *given, "--seeds", "1", "--root", str(tmp_path)])
    assert not done.exception, done.exception
    assert "without flow and reward, of whose networks" in " ".join(done.stdout.split())
