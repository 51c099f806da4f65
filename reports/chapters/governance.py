"""Whether held-out judges confirm what the reward says."""

from __future__ import annotations

from markupsafe import Markup

from reports.chapter import Chapter, Content, Material
from reports.data.summary import ProblemKey
from reports.figures.judge_against_reward import judge_against_reward
from reports.tables.governance import flag_matrix
from reports.tables.grid import TableGrid
from reports.text.reward_hacking import flags, held_out_judges, verdict


def content(material: Material) -> Content:
    """A figure and warnings per problem."""
    run, summary = material.run, material.summary
    return {
        "problems": [
            {
                "problem": problem,
                "judge": Markup(judge_against_reward(summary, material.looks, problem)),
                "roles": verdict(run.suite, summary, problem)[:1],
                "warnings": verdict(run.suite, summary, problem)[1:],
                "matrix": _matrix(material, problem),
            }
            for problem in material.problems
        ]
    }


def _matrix(material: Material, problem: ProblemKey) -> TableGrid | None:
    judges = held_out_judges(material.run.suite, material.summary, problem)
    found = flags(material.summary, problem, judges)
    return flag_matrix(material.summary, problem, found, material.looks)


CHAPTER = Chapter(80, "Reward governance", content)
