"""`bench evaluate --preset NAME`: the row of rewards that papers print, beside what they printed.

A preset is a file in `presets/`: its rewards, how many prompts it has, and published rows, each
with its source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.cli.evaluate_prompts import Said
    from bench.metrics.picture_metric import PictureMetric

FOLDER = Path(__file__).parent / "presets"


@dataclass(frozen=True)
class Published:
    """A row of a paper: whose pictures, where it stands, values by reward (or served scorer)."""

    model: str
    source: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class Preset:
    """Rewards, the number of the set's prompts, and published rows."""

    name: str
    rewards: tuple[str, ...]
    prompts: int
    published: tuple[Published, ...]


def read_preset(name: str) -> Preset:
    """A preset by name; an unknown one suggests the nearest."""
    from bench.core.documents import read_yaml
    from bench.core.params import UserError, nearest

    known = {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}
    if name not in known:
        raise UserError(f"unknown preset '{name}': {nearest(name, known)}")
    content = read_yaml(known[name].read_text(encoding="utf-8"))
    published = tuple(Published(**row) for row in content["published"])
    return Preset(name, tuple(content["rewards"]), content["prompts"], published)


def quality_rows(
    preset: Preset, more: list[str], words: Said | None, score: Callable[[str], PictureMetric]
) -> Iterator[PictureMetric]:
    """One's own row, reward by reward, each with the published ones below it."""
    from bench.core.params import UserError

    if words is None:
        raise UserError(f"the preset {preset.name} needs its prompts: --prompts FILE")
    yield from _count(preset, words)
    for text in preset.rewards:
        yield _own(text, score)
        yield from _beside(preset, text)
    for text in more:  # what was asked for by name may fail aloud
        yield score(text)
        yield from _beside(preset, text)


def _count(preset: Preset, words: Said) -> Iterator[PictureMetric]:
    """A warning where the prompts cannot be those of the published rows."""
    from bench.metrics.picture_metric import PictureMetric
    from bench.prompts import identity

    distinct = len(set(map(identity, words.prompts)))
    if distinct != preset.prompts:
        note = (
            f"published rows are of {preset.prompts} prompts and these are {distinct}: values of "
            "other prompts cannot be compared with them"
        )
        yield PictureMetric("(warning)", n=distinct, note=note)


def _own(text: str, score: Callable[[str], PictureMetric]) -> PictureMetric:
    """The score, or why there is none: a row that lacks weights is still a row."""
    from bench.core.params import UserError
    from bench.metrics.picture_metric import PictureMetric
    from bench.plan.binding import label_of, make_reward

    try:
        return score(text)
    except UserError as error:
        name, reward, _ = make_reward(text)
        label = f"reward {label_of(name, reward)}"
        return PictureMetric(label, direction="higher", note=str(error))


def _beside(preset: Preset, text: str) -> Iterator[PictureMetric]:
    """Published values of the same reward."""
    from bench.metrics.picture_metric import PictureMetric

    name = _key(text)
    row = PictureMetric(f"published {name}", n=preset.prompts, direction="higher")
    for paper in preset.published:
        if name in paper.values:
            about = f"{paper.model}: {paper.source}"
            value = paper.values[name]
            yield replace(row, value=value, implementation="published", note=about)


def _key(text: str) -> str:
    """Under which name published rows have a reward; that of a served one is the server's."""
    from bench.plan.binding import make_reward

    name, reward, _ = make_reward(text)
    health = getattr(reward, "health", None)
    return name if health is None else str(health.name)
