"""Whether held-out judges confirm what the reward says."""

from __future__ import annotations

from markupsafe import Markup

from reports.chapter import Chapter, Content, Material
from reports.figures.judge_against_reward import judge_against_reward
from reports.text.reward_hacking import verdict


def content(material: Material) -> Content:
    """A figure and warnings per problem."""
    run, summary = material.run, material.summary
    return {
        "problems": [
            {
                "problem": problem,
                "judge": Markup(judge_against_reward(summary, material.looks, problem)),
                "warnings": verdict(run.suite, summary, problem),
            }
            for problem in material.problems
        ]
    }


CHAPTER = Chapter(80, "Reward governance", content)
