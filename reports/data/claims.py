"""Claims as data: a sentence, who says so, and what would have to be measured for it to hold.

    claims:
    - id: steered-beats-best-of-1000
      says: One steered particle has a higher reward than Best-of-1000.
      source: arXiv 2601.14430 v2, section 7.2.2
      measured: raw mean reward; one seed of each is 64 particles
      metric: reward
      row: mfm-g:draws=1,scale=rescale
      against: best-of-n:candidates=1000
      direction: higher
      where: {task: digits, reward: "template*"}

`row` and `against` are a method with some of its parameters: they mean every row that has these as
written, and between rows of one method those are compared whose other parameters agree.  `metric`
is a metric, or a unit of compute.  With `times` c and `by` d the claim is row - c other > d, or
c other - row > d where lower is claimed: `by: -0.1` says "no worse by more than 0.1", `times: 0.01`
with `direction: lower` "a hundred times less".  Without `against` the row is compared with `by`.
`where` are patterns (* for anything) of the task, the reward and the budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reports.data.summary import Entry, ProblemKey

SHIPPED = Path(__file__).parent.parent / "claims"


class ClaimError(ValueError):
    """A file of claims that cannot be read, in a sentence."""


class Cells(BaseModel):
    """Where a claim is made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str = "*"
    reward: str = "*"
    budget: str = "*"

    def hold(self, problem: ProblemKey, budget: str) -> bool:
        """Whether a problem at a budget is among them."""
        named = ((problem.task, self.task), (problem.reward, self.reward), (budget, self.budget))
        return all(fnmatchcase(value, pattern) for value, pattern in named)


class Claim(BaseModel):
    """A sentence, and what is measured for it (module)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    says: str = Field(min_length=1)
    source: str = Field(min_length=1)
    measured: str = ""
    metric: str
    row: str
    against: str = ""
    direction: Literal["higher", "lower"]
    times: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    by: float = Field(default=0.0, allow_inf_nan=False)
    where: Cells = Cells()

    def pairs(self, entries: Sequence[Entry]) -> list[tuple[Entry, Entry | None]]:
        """The rows of a problem and budget that it compares."""
        rows = [e for e in entries if meant(self.row, e.method)]
        if not self.against:
            return [(row, None) for row in rows]
        others = [e for e in entries if meant(self.against, e.method)]
        pairs = [(row, other) for row in rows for other in others if row is not other]
        return [(row, other) for row, other in pairs if self._alike(row, other)]

    def _alike(self, row: Entry, other: Entry) -> bool:
        """Rows of one method agree in the parameters that the claim does not name."""
        named = [written(label) for label in (self.row, self.against)]
        if row.name != other.name or named[0][0] != named[1][0]:
            return True
        free = [set(written(e.method)[1].items()) - set(n.items())
                for e, (_, n) in zip((row, other), named, strict=True)]  # fmt: skip
        return free[0] == free[1]


def written(label: str) -> tuple[str, dict[str, str]]:
    """A method's name and its parameters, of a label."""
    name, _, rest = label.partition(":")
    pairs = (part.partition("=") for part in rest.split(",") if part)
    return name, {key: value for key, _, value in pairs}


def meant(pattern: str, label: str) -> bool:
    """Whether a label is of that method and has these parameters as written."""
    (name, asked), (own, found) = written(pattern), written(label)
    return name == own and asked.items() <= found.items()


def shipped_claims() -> list[Claim]:
    """Those that come with the package: the paper's, then ours."""
    files = sorted(SHIPPED.glob("*.yaml"), key=lambda file: (file.stem != "paper", file.stem))
    return [claim for file in files for claim in read_claims(file)]


def read_claims(file: Path) -> list[Claim]:
    """The claims of a YAML file.

    Raises ClaimError in a sentence: what is wrong with which claim, and what would be right.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ClaimError(f"{file} cannot be read: {error}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:  # dates that are none, too
        raise ClaimError(f"{file} is no YAML: {' '.join(str(error).split())}") from None
    listed = content.get("claims") if isinstance(content, dict) else None
    if not isinstance(listed, list) or not listed:
        raise ClaimError(f"{file} needs a list under the key `claims`")
    found = [_claim(file, place, entry) for place, entry in enumerate(listed, 1)]
    twice = [c.id for k, c in enumerate(found) if c.id in {other.id for other in found[:k]}]
    if twice:
        raise ClaimError(f"{file} has two claims with the id `{twice[0]}`: give one another")
    return found


def _claim(file: Path, place: int, entry: Any) -> Claim:
    who = entry.get("id") if isinstance(entry, dict) else None
    name = f"the claim `{who}`" if isinstance(who, str) else f"claim {place}"
    if not isinstance(entry, dict):
        raise ClaimError(f"{file}: {name} is not a table of {', '.join(Claim.model_fields)}")
    try:
        return Claim.model_validate(entry)
    except ValidationError as error:
        raise ClaimError(f"{file}: {name}: {_sentence(error)}") from None


def _sentence(error: ValidationError) -> str:
    """The first fault."""
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    known = Cells.model_fields if key.startswith("where.") else Claim.model_fields
    kinds = {
        "extra_forbidden": f"unknown key `{key}`; known are {', '.join(known)}",
        "missing": f"the key `{key}` is missing",
        "string_pattern_mismatch": f"`{key}` has to be of small letters, digits and hyphens",
        "string_too_short": f"`{key}` is empty",
    }
    got = f" (got {first.get('input')!r})" if not isinstance(first.get("input"), dict) else ""
    return kinds.get(str(first["type"]), f"`{key}`: {first['msg']}{got}")
