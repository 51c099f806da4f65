"""How far a judge can be believed goes from its class into the record, and so to the page."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
import torch

from bench.api import NoParams, Reward
from bench.core import plugins
from bench.core.credibility import NOT_PUBLISHED, Accuracy, credibility
from bench.core.values import Samples
from bench.plan.binding import make_reward
from bench.plan.expand import expand
from bench.plan.suite import build_suite
from bench.runner.instances import instances_of
from bench.runner.measuring import evaluate
from reports.html import write_page
from reports.text.credibility import UNMEASURED
from tests.worlds.made_run import make_run
from tests.worlds.report_page import Page

CLIP = "figures of a table"


class Judged(Reward[NoParams]):
    """A learned reward with a learned judge."""

    learned = True

    def __call__(self, x, condition):
        return x.flatten(1).mean(1)

    def judge(self, x, condition):
        return self(x, condition)

    def accuracies(self):
        return (Accuracy("HPD v2", 83.3, CLIP), Accuracy("Pick-a-Pic", 70, CLIP))

    def judge_credibility(self):
        return credibility(())


def rows_of(reward):
    content = {"name": "t", "tasks": ["gmm-paper"], "rewards": ["linear"], "methods": ["prior"]}
    instances = instances_of(expand(build_suite(content))[0].cell)
    made = replace(instances, target=replace(instances.target, reward=reward))
    rows, _ = evaluate(Samples(torch.randn(8, 2)), made, ["reward", "judge", "diversity"])
    return {row.metric: row for row in rows}


def test_the_record_carries_what_reward_and_judge_declare():
    found = rows_of(Judged(NoParams()))
    assert found["reward"].accuracy == "HPD v2 83.3 %, Pick-a-Pic 70 %"
    assert found["reward"].accuracy_source == CLIP
    assert found["judge"].accuracy == NOT_PUBLISHED and not found["judge"].accuracy_source
    assert found["diversity"].accuracy == ""


def test_what_is_computed_claims_nothing():
    assert rows_of(make_reward("linear")[1])["reward"].accuracy == ""


@pytest.mark.parametrize("name", sorted(plugins.points("rewards")))
def test_every_reward_with_published_weights_is_learned(name):
    cls = plugins.load("rewards", name)
    if name in ("sum", "http", "callable"):  # as their parts, their server, or nobody says
        return
    given = {"weights": "w"} if name == "clip" else {}
    published = getattr(cls.create(**given), "external", tuple)()
    assert cls.learned or not published
    assert bool(cls.create(**given).credibility().accuracy) == cls.learned


def test_figures_belong_to_the_release_that_was_measured():
    old, new = (make_reward(f"hpsv2:release={r}")[1].credibility() for r in ("v2.0", "v2.1"))
    assert old.accuracy == "HPD v2 83.3 %, ImageReward 65.7 %" and "HPSv2" in old.source
    assert new.accuracy == NOT_PUBLISHED
    assert make_reward("clip")[1].credibility().accuracy == NOT_PUBLISHED
    huge = make_reward("clip:model=ViT-H-14,weights=w")[1]
    assert huge.credibility().accuracy == "Pick-a-Pic 60.8 %"


def test_a_sum_names_each_learned_part():
    said = make_reward("sum:rewards=pickscore|jpeg-compressibility|prompt")[1].credibility()
    assert said.accuracy.startswith("pickscore: HPD v2 79.8 %")
    assert said.accuracy.endswith("; prompt: not published") and "jpeg" not in said.accuracy


def believed(folder, **accuracy):
    path = folder / "metrics.parquet"
    frame = pd.read_parquet(path)
    for metric, (text, source) in accuracy.items():
        own = frame["metric"] == metric
        frame.loc[own, "accuracy"], frame.loc[own, "accuracy_source"] = text, source
    frame.to_parquet(path)
    return Page(write_page(folder).read_text(encoding="utf-8")).text


def test_the_page_shows_it_beside_the_column_and_says_where_it_is_from(tmp_path):
    folder = make_run(tmp_path / "run", tasks=("digits",))
    assert "people choose as" not in believed(folder)
    page = believed(folder, judge=("HPD v2 83.3 %", CLIP), reward=(UNMEASURED, ""))
    headline = page.split("Headline", 2)[2]
    assert "judge ↑ HPD v2 83.3 %" in headline.replace("\u00a0", " ")
    assert "reward ↑ not published" in headline.replace("\u00a0", " ")
    assert f"people choose as judge does in pairs of HPD v2 83.3 % ({CLIP})" in page
    assert "reward is learnt, and how often people choose as it does is not published" in page


def test_reports_and_records_use_the_same_words():
    assert UNMEASURED == NOT_PUBLISHED
