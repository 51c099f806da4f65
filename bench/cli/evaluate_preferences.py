"""`bench evaluate FOLDER --preferences FILE`: how often judges choose as people do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cli.evaluate_prompts import Said, reading_note

if TYPE_CHECKING:
    from torch import Tensor

    from bench.metrics.agreement import Agreement
    from bench.metrics.image_row import Folder
    from bench.metrics.picture_metric import PictureMetric
    from bench.reading.preferences import Preference


def agreement_rows(folder: Folder, path: Path, rewards: list[str]) -> list[PictureMetric]:
    """What was read, and the agreement of each reward with its interval."""
    from bench.core.params import UserError
    from bench.metrics.image_row import account
    from bench.reading.preferences import read_preferences

    if not rewards:
        raise UserError("--preferences measures judges: name them with -r")
    found = read_preferences(path, folder.survey.contents.names())
    return [*account(folder, None), *(_row(text, folder, found) for text in rewards)]


def _row(text: str, folder: Folder, found: list[Preference]) -> PictureMetric:
    from bench.metrics.agreement import agreement
    from bench.metrics.picture_metric import PictureMetric
    from bench.plan.binding import label_of, make_reward
    from bench.prompts import identity

    name, reward, _ = make_reward(text)
    decided = [one for one in found if one.preferred != "tie"]
    scores = _scores(name, reward, folder, decided)
    margins = [
        (scores[one.first, one.prompt] - scores[one.second, one.prompt])
        * (1 if one.preferred == "first" else -1)
        for one in decided
    ]
    measured = agreement(margins, [identity(one.prompt) for one in decided])
    said = Said(tuple(one.prompt for one in decided), "")
    about = (reading_note(reward, said), believed(reward))
    return PictureMetric(
        f"agreement {label_of(name, reward)}",
        value=measured.value,
        standard_error=measured.standard_error,
        low=measured.low,
        high=measured.high,
        n=measured.pairs,
        direction="higher",
        weights=" ".join(f"{k}:{v[:12]}" for k, v in reward.weights().items()),
        note="; ".join([*_remarks(measured, len(found)), *filter(None, about)]),
    )


def _remarks(measured: Agreement, asked: int) -> Iterator[str]:
    """What the share is of, and what was left out of it."""
    yield f"share of people's choices in pairs of {measured.prompts} prompts"
    if measured.pairs < asked:
        yield f"{asked - measured.pairs} ties of people left out"
    if measured.undecided:
        yield f"{measured.undecided} equal scores count half"


def _scores(
    name: str, reward: Any, folder: Folder, found: list[Preference]
) -> dict[tuple[str, str], float]:
    """The score of every picture under every prompt that it is compared for, each once."""
    import torch

    from bench.core.finite import finite_scores
    from bench.core.params import UserError
    from bench.reading.picture import read_picture

    if not found:
        raise UserError("people preferred neither picture in any pair: nothing can be measured")
    paths = dict(zip(folder.survey.contents.names(), folder.paths, strict=True))
    wanted = dict.fromkeys((side, p.prompt) for p in found for side in (p.first, p.second))
    scores = {}
    for picture, prompt in wanted:
        x = as_read(read_picture(paths[picture]).pixels, pixel_range(reward))
        with torch.no_grad():
            scores[picture, prompt] = float(finite_scores(reward(x, prompt), f"{name} ({picture})"))
    return scores


def pixel_range(reward: Any) -> str:
    """The range of pictures that a reward expects."""
    return str(getattr(reward.params, "pixels", "signed"))


def as_read(picture: Tensor, pixels: str) -> Tensor:
    """uint8 (height, width, 3) in the range that a reward expects, (1, 3, height, width)."""
    unit = picture.permute(2, 0, 1)[None].float() / 255
    return unit if pixels == "unit" else 2 * unit - 1


def believed(reward: Any) -> str:
    """What is published of how often people choose as a learned judge does, or ""."""
    said = reward.credibility()
    if not said.accuracy:
        return ""
    source = f" ({said.source})" if said.source else ""
    return f"published agreement with people: {said.accuracy}{source}"
