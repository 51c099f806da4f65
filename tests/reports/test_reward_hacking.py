"""Reward governance: flags fire for hacked tables, and stay silent for the base model."""

import math
from dataclasses import asdict, fields

import numpy as np
import pandas as pd
import pytest
import torch

from bench.core import plugins
from reports.data import overoptimisation
from reports.data.entries import summarise
from reports.data.run import tidy_cells, tidy_metrics
from reports.data.summary import MethodInfo, MetricInfo, ProblemKey
from reports.text import reward_hacking

SEEDS = 5
BASE = {
    "reward": 0.2, "judge": 0.5, "diversity": 5.0, "vendi": 20.0, "brightness": 0.5,
    "saturation": 0.4, "high-frequency": 0.1, "compressed-size": 3.0,
    "ensemble-disagreement": 0.5, "tilt-size": 1.7,
}  # fmt: skip
BETTER = BASE | {"reward": 0.3, "judge": 0.7}
HACKED = BASE | {
    "reward": 0.5, "judge": 0.1, "diversity": 0.5, "vendi": 2.0, "brightness": 0.9,
    "saturation": 0.9, "high-frequency": 0.4, "compressed-size": 6.0, "ensemble-disagreement": 2.0,
}  # fmt: skip
PROBLEM = ProblemKey("shapes", "prompt", 1.0)
WAYS = {"judge": "higher", "class-agreement": "higher", "mmd2-pixels": "lower"}


def declared(group, name, words):
    """What the plugin of that name declares, if there is one."""
    known = name in plugins.points(group)
    return {word: getattr(plugins.load(group, name), word) for word in words} if known else {}


METHOD_WORDS = [field.name for field in fields(MethodInfo)]
METRIC_WORDS = {field.name for field in fields(MetricInfo)} - {"direction"}


def summary_of(methods, strength=1.0, seed=0, spread=0.01):
    """A summary of tables with these means; seeds share part of their noise."""
    rng = np.random.default_rng(seed)
    cells, metrics = [], []
    common = rng.standard_normal(SEEDS)
    for method, means in methods.items():
        name = method.partition(":")[0]
        about = declared("methods", name, METHOD_WORDS)
        about = {f"method_{word}": said for word, said in about.items()}
        for s in range(SEEDS):
            cell = f"{method}-{s}"
            cells.append({"cell": cell, "task": "shapes", "reward": "prompt", "strength": strength,
                          "method": method, "method_name": name, "seed": s,
                          "n": 64, "status": "ok", **about})  # fmt: skip
            for metric, mean in means.items():
                noise = spread * mean * (common[s] + rng.standard_normal())
                metrics.append({"cell": cell, "metric": metric, "value": mean + noise,
                                "direction": WAYS.get(metric, ""),
                                **declared("metrics", metric, METRIC_WORDS)})  # fmt: skip
    return summarise(tidy_cells(pd.DataFrame(cells)), tidy_metrics(pd.DataFrame(metrics)))


def kinds(summary, method):
    return {
        flag.kind
        for flag in reward_hacking.flags(summary, PROBLEM, ("judge",))
        if flag.method == method
    }


def test_every_flag_fires_for_a_hacked_method_and_none_for_a_good_one():
    summary = summary_of({"prior": BASE, "good": BETTER, "hacked": HACKED})
    assert kinds(summary, "hacked") == {"judge falls", "diversity", "drift", "disagreement"}
    assert not kinds(summary, "good")
    texts = [
        f.text for f in reward_hacking.flags(summary, PROBLEM, ("judge",)) if f.kind == "drift"
    ]
    assert len(texts) == 4 and any("saturation goes from 0.3" in text for text in texts)


@pytest.mark.parametrize("seed", range(5))
def test_the_base_model_itself_is_never_flagged(seed):
    """Another run of the base model under another name: noise alone raises no flag."""
    summary = summary_of({"prior": BASE, "prior:steps=20": BASE, "exact": HACKED}, seed=seed)
    assert not reward_hacking.flags(summary, PROBLEM, ("judge",))
    assert reward_hacking.CLEAR in reward_hacking.warnings(summary, PROBLEM, ("judge",))


def test_every_held_out_judge_is_heard():
    """Reward and judge rise, the shape that was asked for is lost, and the law is further away."""
    held = ("judge", "class-agreement", "mmd2-pixels")
    told = {"class-agreement": 0.99, "mmd2-pixels": 0.1}
    lost = {"class-agreement": 0.7, "mmd2-pixels": 0.3}
    summary = summary_of(
        {
            "prior": BASE | told,
            "good": BETTER | told,
            "mfm-g:guidance=1": BETTER | told,
            "mfm-g:guidance=3": BETTER | {"reward": 0.5, "judge": 0.9} | lost,
        }
    )
    found = reward_hacking.flags(summary, PROBLEM, held)
    assert {flag.method for flag in found} == {"mfm-g:guidance=3"}
    assert [flag.kind for flag in found] == ["judge falls"] * 2 + ["over-optimised"] * 2
    assert "while `class-agreement` falls by 0.2" in found[0].text
    assert "while `mmd2-pixels` rises by 0.2" in found[1].text
    assert not reward_hacking.flags(summary, PROBLEM, ("judge",))


def test_a_metric_that_can_judge_is_heard_whether_or_not_a_suite_names_it():
    told, lost = {"class-agreement": 1.0}, {"class-agreement": 0.78}
    summary = summary_of({"prior": BASE | told, "mfm-g": BETTER | lost})
    named = {"blocks": [{"tasks": ["shapes"], "judges": {"held-out": ["judge"]}}]}
    assert reward_hacking.held_out_judges(named, summary, PROBLEM) == ("judge", "class-agreement")
    said = reward_hacking.verdict(named, summary, PROBLEM)
    assert any("while `class-agreement` falls by 0.2" in text for text in said)
    tuned = {"blocks": [{"tasks": ["shapes"], "judges": {"tuning": ["class-agreement"]}}]}
    assert reward_hacking.held_out_judges(tuned, summary, PROBLEM) == ("judge",)


def test_the_nearest_row_is_the_yardstick_where_the_law_was_not_drawn():
    """A tilt that halves diversity does so for everybody: the nearest row is not flagged."""
    far, near = {"mmd2-pixels": 0.3}, {"mmd2-pixels": 0.02}
    narrow = BETTER | {"diversity": 3.0, "vendi": 9.0}
    summary = summary_of(
        {"prior": BASE | far, "near": narrow | near, "narrow": narrow | {"diversity": 1.0} | far}
    )
    assert "diversity" not in kinds(summary, "near")
    assert "diversity" in kinds(summary, "narrow")


def test_one_judge_that_rises_confirms():
    """A judge that cannot rise any more contradicts nobody."""
    told = {"class-agreement": 0.99}
    summary = summary_of(
        {"prior": BASE | told, "good": BETTER | told, "idle": BETTER | {"judge": 0.5} | told}
    )
    found = reward_hacking.flags(summary, PROBLEM, ("judge", "class-agreement"))
    assert [(flag.method, flag.kind) for flag in found] == [("idle", "unconfirmed")]
    assert "which the judge and `class-agreement` do not confirm" in found[0].text


def test_small_but_sure_drifts_are_no_flags():
    slight = BETTER | {"brightness": 0.52}
    summary = summary_of({"prior": BASE, "slight": slight}, spread=1e-4)
    assert not kinds(summary, "slight")


def test_exact_draws_are_the_yardstick_of_diversity():
    """A tilted law is narrower than the base; only what is narrower than the law is suspicious."""
    narrow = BETTER | {"diversity": 3.0, "vendi": 1.5}
    one = BETTER | {"diversity": 0.4, "vendi": 1.5}
    alone = summary_of({"prior": BASE, "narrow": narrow, "one": one})
    assert not kinds(alone, "narrow"), "nothing tells how narrow the law is"
    assert kinds(alone, "one") == {"diversity"}, "one repeated sample needs no law"
    known = summary_of({"prior": BASE, "exact": narrow, "narrow": narrow}, spread=1e-3)
    assert "diversity" not in kinds(known, "narrow")


def test_an_unconfirmed_rise_is_told_from_a_fall():
    flat = BASE | {"reward": 0.5}
    assert kinds(summary_of({"prior": BASE, "flat": flat}), "flat") == {"unconfirmed"}


def ladder(judges, rewards=(0.3, 0.4, 0.5)):
    methods = {"prior": BASE}
    for guidance, judge, reward in zip((1, 2, 4), judges, rewards, strict=True):
        label = "dps:steps=20" + ("" if guidance == 1 else f",guidance={guidance}")
        methods[label] = BASE | {"reward": reward, "judge": judge}
    return methods


def test_growing_strength_with_a_falling_judge_is_over_optimisation():
    summary = summary_of(ladder((0.9, 0.8, 0.6)))
    assert kinds(summary, "dps:steps=20,guidance=2") == {"over-optimised"}
    assert not kinds(summary, "dps:steps=20")
    assert not reward_hacking.flags(summary_of(ladder((0.7, 0.8, 0.9))), PROBLEM, ("judge",))


@pytest.mark.parametrize(
    ("judges", "lost"), [((0.7, 0.8, 0.9), 0.0), ((0.7, 0.9, 0.7), 0.5), ((0.9, 0.8, 0.2), 1.0),
                         ((0.4, 0.3, 0.2), 1.0)],
)  # fmt: skip
def test_lost_share_is_what_the_judge_gave_back(judges, lost):
    summary = summary_of(ladder(judges), spread=0)
    (found,) = overoptimisation.ladders(summary, PROBLEM)
    assert found.name == "dps:steps=20" and found.axis == "strength"
    assert overoptimisation.lost_share(summary, found) == pytest.approx(lost)
    share = f"{lost:.0%}".rstrip("%")
    assert any(
        f"has lost {share}" in text
        for text in reward_hacking.warnings(summary, PROBLEM, ("judge",))
    )


def test_best_of_n_stands_at_its_kl():
    methods = {"prior": BASE} | {f"best-of-n:candidates={n}": BETTER for n in (4, 64)}
    summary = summary_of(methods)
    (found,) = overoptimisation.ladders(summary, PROBLEM)
    assert found.axis == "KL"
    assert found.places() == pytest.approx([math.log(4) - 0.75, math.log(64) - 63 / 64])


def test_the_size_of_the_tilt_is_stated():
    text = reward_hacking.warnings(
        summary_of({"prior": BASE, "good": BETTER}), PROBLEM, ("judge",)
    )[-1]
    assert "under the base model: 1.7" in text


# -- judges ---------------------------------------------------------------------------------------


def suite_with(**keys):
    from bench.plan.suite import build_suite

    plain = {"name": "x", "tasks": ["digits"], "rewards": ["class"], "methods": ["prior"]}
    return build_suite(plain | keys)


def test_judges_default_to_the_rewards_own_and_survive_storing():
    judges = suite_with().blocks[0].judges
    assert judges.tuning == [] and judges.held_out == ["judge"]
    named = suite_with(judges={"tuning": "frechet", "held-out": ["judge", "mmd2-data"]})
    stored = named.model_dump(mode="json")
    assert stored["blocks"][0]["judges"]["held-out"] == ["judge", "mmd2-data"]
    assert suite_with(**stored) == named
    problem = ProblemKey("digits", "class", 1.0)
    text = reward_hacking.roles(stored, summary_of({}), problem)
    assert "`reward`, of `class`" in text and "Tuning judges: `frechet`" in text
    assert text.endswith("Held out: `judge`, `mmd2-data`.")


@pytest.mark.parametrize(
    ("keys", "message"),
    [({"judges": {"tuning": ["judge"]}}, "'judge' cannot be tuned on and held out"),
     ({"judges": {"held-out": ["reward"]}}, "cannot be held out"),
     ({"judges": {"held-out": ["jugde"]}}, "unknown judge 'jugde'"),
     ({"tune": {"objectives": ["judge"]}}, "'judge' cannot be tuned on and held out"),
     ({"tune": {"objectives": ["frechet"]}, "judges": {"tuning": ["reward"]}},
      "are not the tuning judges")],
)  # fmt: skip
def test_a_held_out_judge_is_never_tuned_on(keys, message):
    from bench.core.params import UserError

    with pytest.raises(UserError, match=message):
        suite_with(**keys)


def test_the_tuning_judge_is_what_sweeps_optimise():
    from bench.core.params import UserError
    from sweeps.tuned_suites import _spec

    budget = {"budgets": ["paper-nfe=40"], "methods": ["dps"], "tune": {"trials": 20, "n": 256}}

    def objectives(**judges):
        suite = suite_with(**budget, judges=judges)
        return _spec(suite.tune, suite.blocks[0], lambda text: None).objectives

    assert objectives(tuning=["mmd2-features"]) == ("mmd2-features",)
    with pytest.raises(UserError, match="'frechet' is held out on digits"):
        objectives(**{"held-out": ["frechet"]})  # the sweep's own choice where none is named


def test_digits_and_shapes_measure_what_governance_reads():
    from bench.runner.measuring import wanted_metrics

    read = ("drift", "diversity", "tilt")
    known = {m for m in plugins.points("metrics") if plugins.load("metrics", m).measures in read}
    pictures = known - {"free-entropy"}  # of prompts alone
    assert len(pictures) == 8
    assert known <= set(wanted_metrics("shapes"))
    assert pictures - {"saturation"} <= set(wanted_metrics("digits"))  # digits are grey


# -- the figures behind it ------------------------------------------------------------------------


def picture(value, side=32):
    return torch.full((side, side, 3), value, dtype=torch.uint8)


def test_picture_statistics_on_pictures_with_known_answers():
    from bench.metrics import image_statistics as s

    red = picture(0)
    red[..., 0] = 255
    assert s.brightness(picture(255)) == pytest.approx(1)
    assert s.brightness(red) == pytest.approx(0.299)
    assert s.saturation(red) == pytest.approx(1)
    assert s.saturation(picture(100)) == 0
    board = picture(0)
    board[::2, ::2] = board[1::2, 1::2] = 255
    wave = (127 + 100 * torch.cos(2 * math.pi * torch.arange(32) / 32)).to(torch.uint8)
    assert s.high_frequency(board) == pytest.approx(1)
    assert s.high_frequency(wave[None, :, None].expand(32, 32, 3)) < 0.01
    noise = torch.randint(0, 256, (96, 96, 3), generator=torch.Generator().manual_seed(0))
    assert s.compressed_size(noise.to(torch.uint8)) > 1
    assert abs(s.compressed_size(picture(100, 96))) < 0.1
    assert s.compressed_size(picture(0, 8)) == 0


def test_tilt_size_and_its_error():
    from bench.core.metrics import Target
    from bench.core.tasks import Reward
    from bench.core.values import Samples
    from bench.metrics.governance import TiltSize

    class First(Reward):
        def __call__(self, x, condition):
            return x[:, 0]

    g = torch.Generator().manual_seed(0)
    metric = TiltSize(Target(First.create(), 5.0))
    found = [metric(Samples(0.3 * torch.randn(400, 1, generator=g)), None) for _ in range(60)]
    values = np.array([f.value for f in found])
    assert values.mean() == pytest.approx(1.5, rel=0.02)
    assert np.mean([f.standard_error for f in found]) == pytest.approx(values.std(), rel=0.3)


def test_disagreement_rises_when_one_member_moves_alone():
    from bench.core.metrics import Target
    from bench.core.values import Samples
    from bench.metrics.governance import EnsembleDisagreement
    from rewards.combine import WeightedSum

    class Data:
        def data(self, split):
            return torch.randn(500, 2, generator=torch.Generator().manual_seed(0))

    reward = WeightedSum.create(rewards=["linear;a=1|linear;a=1"])
    reward.members = lambda x, condition: x.T
    metric, x = EnsembleDisagreement(Target(reward, 1.0)), Data().data("held-out")
    base = metric(Samples(x), Data()).value
    assert base == pytest.approx(1 / math.sqrt(math.pi), rel=0.1)  # E |z1 - z2| / 2
    assert metric(Samples(x + torch.tensor([3.0, 3.0])), Data()).value == pytest.approx(
        base, rel=0.02
    )
    assert metric(Samples(x + torch.tensor([3.0, 0.0])), Data()).value > 2 * base


# -- the real thing -------------------------------------------------------------------------------


HARDER = [f"dps:steps=20,scale=rescale,guidance={g}" for g in (1, 4, 8)]
MODERATE = ["mfm-g:steps=20,draws=4,guidance=0.5", "mfm-g:steps=20,draws=4"]


@pytest.fixture(scope="module")
def digits_summary():
    """Steering towards an 8, harder and harder, and at moderate strength; five seeds."""
    from bench.plan.expand import expand
    from bench.plan.suite import build_suite
    from bench.runner.cell import Job

    content = {
        "name": "hacking-digits", "tasks": ["digits"], "rewards": ["class:label=8"], "seeds": SEEDS,
        "n": 64, "methods": ["prior:steps=20", *MODERATE, *HARDER],
    }  # fmt: skip
    cells, metrics = [], []
    for row in expand(build_suite(content)):
        attempt = Job(row.cell, None, ("reward", "judge", "diversity", "mmd2-data")).run()
        about = {"cell": row.id, "task": "digits", "reward": "class:label=8", "n": 64}
        about |= asdict(row.about)
        cells.append(about | {"method": row.method_label, "method_name": row.cell.method,
                              "seed": row.cell.seed, "status": attempt.status})  # fmt: skip
        metrics += [{"cell": row.id, **asdict(m)} for m in attempt.metrics]
    return summarise(tidy_cells(pd.DataFrame(cells)), tidy_metrics(pd.DataFrame(metrics)))


@pytest.mark.slow
def test_hard_steering_on_digits_is_over_optimisation(digits_summary):
    """The target's classifier is ever surer of an 8, the judge's ever less."""
    problem = digits_summary.problems[0]
    found = [
        f
        for f in reward_hacking.flags(digits_summary, problem, ("judge",))
        if f.kind == "over-optimised"
    ]
    assert found and all("scale=rescale" in flag.method for flag in found)
    curves = [x for x in overoptimisation.ladders(digits_summary, problem) if "dps" in x.name]
    assert overoptimisation.lost_share(digits_summary, curves[0]) > 0.02


@pytest.mark.slow
def test_moderate_steering_and_the_base_model_are_not_flagged(digits_summary):
    problem = digits_summary.problems[0]
    about_judge = {"judge falls", "over-optimised", "unconfirmed"}
    flagged = {
        f.method
        for f in reward_hacking.flags(digits_summary, problem, ("judge",))
        if f.kind in about_judge
    }
    assert not any(method.startswith(("prior", "mfm-g")) for method in flagged)
