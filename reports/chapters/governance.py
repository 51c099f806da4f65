"""Whether held-out judges confirm what the reward says."""

from __future__ import annotations

from markupsafe import Markup

from reports.chapter import Chapter, Content, Material
from reports.data.summary import ProblemKey
from reports.figures.judge_against_reward import judge_against_reward
from reports.tables.governance import flag_matrix
from reports.text.reward_hacking import flags, held_out_judges, verdict


def content(material: Material) -> Content:
    """A matrix of flags, a figure and the sentences per problem."""
    return {"problems": [_of(material, problem) for problem in material.problems]}


def _of(material: Material, problem: ProblemKey) -> dict[str, object]:
    suite, summary, looks = material.run.suite, material.summary, material.looks
    found = flags(summary, problem, held_out_judges(suite, summary, problem))
    roles, *warnings = verdict(suite, summary, problem, found)
    return {
        "problem": problem,
        "judge": Markup(judge_against_reward(summary, looks, problem)),
        "matrix": flag_matrix(summary, problem, found, looks),
        "roles": roles,
        "warnings": warnings,
    }


CHAPTER = Chapter(80, "Reward governance", content)
