"""Which sentence each picture of `bench evaluate` is scored against, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.metrics.intervals import Groups
    from bench.reading.survey import Survey


@dataclass(frozen=True)
class Said:
    """A sentence for each picture in the order of the files, where they are from, what is odd."""

    prompts: tuple[str, ...]
    source: str
    doubt: str = ""

    @property
    def groups(self) -> Groups:
        """(n,) ids of the sentences: pictures of one are dependent."""
        import numpy as np

        from bench.prompts import identity

        return np.unique([identity(one) for one in self.prompts], return_inverse=True)[1]


def said(
    survey: Survey, prompts: Path | None, prompt: str | None, pairs: Path | None
) -> Said | None:
    """From the one option that is given, or else from metadata.jsonl, or none at all."""
    from bench.core.params import UserError
    from bench.reading.records import read_pairs
    from bench.reading.text import sentence

    given = {"--prompts": prompts, "--prompt": prompt, "--pairs": pairs}
    named = [option for option, value in given.items() if value is not None]
    if len(named) > 1:
        raise UserError(f"{' and '.join(named)} both say which prompts: give one of them")
    names = survey.contents.names()
    if prompts is not None:
        return _counted_through(names, prompts)
    if pairs is not None:
        return Said(tuple(read_pairs(pairs, names)), f"by name, from {pairs}")
    if prompt is None:
        return _recorded(survey, names)
    try:
        return Said((sentence(prompt, "--prompt"),) * len(names), "one for all, from --prompt")
    except ValueError as error:
        raise UserError(str(error)) from error


def recorded(survey: Survey) -> tuple[Said | None, str]:
    """What metadata.jsonl says where no prompts are needed, or why it cannot be used."""
    from bench.core.params import UserError

    try:
        return _recorded(survey, survey.contents.names()), ""
    except UserError as error:
        return None, str(error)


def _recorded(survey: Survey, names: list[str]) -> Said | None:
    from bench.models.picture_folder import RECORDS
    from bench.reading.records import recorded_prompts, strays

    found = recorded_prompts(survey.contents.folder, names)
    if found is None:
        return None
    lost = strays(survey.contents.folder, names)
    also = f"; {len(lost)} records are of no picture here, e.g. {lost[0]}" if lost else ""
    return Said(tuple(found), f"by name, from {RECORDS}{also}")


def _counted_through(names: list[str], path: Path) -> Said:
    """The k-th sentence for the k-th picture."""
    from bench.core.params import UserError
    from bench.prompts import read_prompts
    from bench.reading.folder import doubtful_order

    if not path.exists():
        raise UserError(
            f"there is no prompt file {path}: one sentence for all pictures is --prompt '{path}'"
        )
    found = read_prompts(path)
    if len(found) != len(names):
        raise UserError(f"{path} has {len(found)} prompts, the folder {len(names)} pictures")
    source = f"{path.name} counted through: {names[0]} with '{found[0]}'"
    return Said(tuple(found), source, doubtful_order(names))


def written(own: Said | None, names: list[str], out: Path | None) -> None:
    """Writes the pairs where that is asked for; an order that is not plain is then refused."""
    from bench.core.params import UserError
    from bench.reading.records import write_pairs

    if out is not None:
        if own is None:
            raise UserError("--write-pairs has no prompts to write: give --prompts or --prompt")
        write_pairs(out, names, own.prompts)
    if own is not None and own.doubt:
        start = f"{out} holds a guess" if out else "--write-pairs pairs.csv writes a guess"
        raise UserError(
            f"the order of the pictures is not plain: {own.doubt}; {start}: correct it, and give "
            "it with --pairs"
        )


def reading_note(reward: Any, own: Said | None) -> str:
    """What of the prompts the reward does not read, or ""."""
    if own is None:
        return ""
    always = str(getattr(reward.params, "prompt", ""))
    if always:
        return f"scored against its own prompt={always}, not the given ones"
    count = getattr(reward, "tokens_cut", None)
    if count is None:
        return ""
    cut = [n for n in map(count, own.prompts) if n]
    if not cut:
        return ""
    return (
        f"{len(cut)} of {len(own.prompts)} prompts are longer than the encoder reads: up to "
        f"{max(cut)} tokens of one are cut, {sum(cut)} in all"
    )
