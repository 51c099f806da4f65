"""The first screen: which method, at what cost, still that law, what failed, and how sure."""

from __future__ import annotations

from reports.chapter import Chapter, Content, Material
from reports.figures.answer import answer_figure, as_markup
from reports.text.answers import answers


def content(material: Material) -> Content:
    """A panel per problem and budget, and a picture per problem."""
    summary = material.summary
    problems = [
        {
            "problem": problem,
            "noun": summary.noun(problem),
            "answers": answers(summary, problem),
            "figure": as_markup(answer_figure(summary, problem, material.looks)),
            "distance": summary.distance(problem),
        }
        for problem in material.problems
    ]
    return {"problems": [p for p in problems if p["answers"]]}


CHAPTER = Chapter(0, "The answer", content)
