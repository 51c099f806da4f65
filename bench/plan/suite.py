"""Suites: YAML files that say what to compare, and the same thing from the command line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from bench.core import plugins
from bench.core.cells import known_precision
from bench.core.documents import not_finite, read_yaml
from bench.core.names import safe_name
from bench.core.params import UserError, nearest, parse_name, parse_value, respelled
from bench.core.work import Budget
from bench.plan import presets
from bench.plan.budgets import parse_budget, respelled_budget
from bench.plan.resources import read_resources

COMPANIONS = ("prior", "best-of-n", "best-of-n-fewstep")
"""What everybody would ask about: added to a comparison that is made on the command line."""

SHIPPED = Path(__file__).parent / "suites"

MOST_SEEDS = 1_000_000
"""Of a block."""


class Judges(BaseModel):
    """Which metrics may be looked at while tuning, and which are kept for the report.

    The target is the reward itself (metric `reward`).  `tuning` is what sweeps optimise; none
    named leaves it to the sweep.  `held-out` defaults to the reward's own judge.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True, serialize_by_alias=True)

    tuning: list[str] = Field(default_factory=list)
    held_out: list[str] = Field(default_factory=lambda: ["judge"], alias="held-out")

    @field_validator("tuning", "held_out", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return value if isinstance(value, list) else [value]

    @model_validator(mode="after")
    def _apart(self) -> Judges:
        if "reward" in self.held_out:
            raise ValueError("the reward is what methods optimise: it cannot be held out")
        shared = [name for name in self.tuning if name in self.held_out]
        if shared:
            raise ValueError(
                f"'{shared[0]}' cannot be tuned on and held out: name another judge for one of them"
            )
        return self

    def __str__(self) -> str:
        tuned = ", ".join(self.tuning) or "none named"
        return f"target reward; tuning {tuned}; held out {', '.join(self.held_out)}"


Fits = Literal["per-seed", "shared"]
"""Whether every seed trains anew, as a repetition should, or all seeds sample one fit."""


class Block(BaseModel):
    """A grid: every task x reward x method x budget x seed.  Missing keys come from the suite."""

    model_config = ConfigDict(extra="forbid")

    tasks: list[str]
    rewards: list[str]
    methods: list[str]
    budgets: list[str] = Field(default_factory=lambda: ["none"])
    seeds: int | list[int] = 3
    fits: Fits = "per-seed"
    n: int = Field(256, gt=1)
    conditions_per_cell: int = Field(default=1, gt=0)
    held_out_conditions: int = Field(default=0, ge=0)
    batch: int = Field(1024, gt=0)
    threads: int = Field(1, gt=0)
    seconds: float | None = Field(None, gt=0)
    device: str = "cpu"
    dtype: str = "float32"
    resources: dict[str, Any] = Field(default_factory=dict)
    baselines: bool = False
    judges: Judges = Field(default_factory=Judges)

    @field_validator("tasks", "rewards", "methods", "budgets", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return value if isinstance(value, list) else [value]

    @field_validator("tasks", "rewards", "methods")
    @classmethod
    def _respelled(cls, value: list[str]) -> list[str]:
        return [respelled(text) for text in value]

    @field_validator("budgets")
    @classmethod
    def _respelled_budgets(cls, value: list[str]) -> list[str]:
        return [respelled_budget(text) for text in value]

    @field_validator("dtype")
    @classmethod
    def _known_precision(cls, value: str) -> str:
        return known_precision(value)

    @field_validator("resources", mode="before")
    @classmethod
    def _known_resources(cls, value: Any) -> dict[str, float]:
        return read_resources(value)

    @field_validator("seeds")
    @classmethod
    def _some_seeds(cls, value: int | list[int]) -> int | list[int]:
        if not value or (isinstance(value, int) and value < 1):
            raise ValueError("at least 1 seed is needed")
        if isinstance(value, int) and value > MOST_SEEDS:
            raise ValueError(f"{value} seeds are more than the {MOST_SEEDS} that a suite may have")
        return value

    @model_validator(mode="after")
    def _some_seen(self) -> Block:
        """A fit sees at least one condition of its cell."""
        if self.held_out_conditions and self.held_out_conditions >= self.conditions_per_cell:
            raise ValueError(
                f"{self.held_out_conditions} held_out_conditions leave a fit none of the "
                f"{self.conditions_per_cell} that its cell holds: raise conditions_per_cell"
            )
        return self

    def with_companions(self, budget: Budget | None) -> list[str]:
        """The methods and, at a budget and if asked for, those that everybody would ask about:
        more ODE steps, Best-of-N with the good sampler, Best-of-N with the few-step sampler.
        """
        if budget is None or not self.baselines:
            return self.methods
        named = {parse_name(text)[0] for text in self.methods}
        return [*self.methods, *(name for name in COMPANIONS if name not in named)]

    def seed_list(self) -> list[int]:
        """Seeds as a list: an integer N means 0 .. N-1."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds


class Tune(BaseModel):
    """Tune every method before comparing; `seeds` tuning seeds, `trials` the work per method."""

    model_config = ConfigDict(extra="forbid")

    trials: int = Field(20, gt=0)
    sampler: str = "tpe"
    objectives: list[str] = Field(default_factory=list)
    seed: int = 0
    seeds: int = Field(2, gt=0)
    n: int | None = Field(None, gt=1)
    prune: str | None = None
    space: dict[str, Any] = Field(default_factory=dict)


class Suite(BaseModel):
    """A named list of blocks."""

    model_config = ConfigDict(extra="forbid")

    name: str
    description: str = ""
    blocks: list[Block]
    tune: Tune | None = None
    presets: dict[str, str] = Field(default_factory=dict)
    """What methods that are written out were called: `dps:guidance=0.24` came of `dps@tuned`."""

    @field_validator("name")
    @classmethod
    def _one_folder(cls, value: str) -> str:
        return safe_name(value)

    def budgets(self) -> list[Budget | None]:
        """The budgets of all blocks; None stands for parameters as they are given."""
        return [parse_budget(text) for block in self.blocks for text in block.budgets]

    @model_validator(mode="after")
    def _tuned_apart(self) -> Suite:
        """What is tuned on is a tuning judge, and never one that is held out."""
        chosen = [name for name in self.tune.objectives if name != "seconds"] if self.tune else []
        for block in self.blocks if chosen else ():
            if block.judges.tuning and set(block.judges.tuning) != set(chosen):
                raise ValueError(
                    f"tune.objectives ({', '.join(chosen)}) are not the tuning judges "
                    f"({', '.join(block.judges.tuning)}): leave one of them out"
                )
            block.judges = block.judges.model_copy(update={"tuning": chosen})
            Judges.model_validate(block.judges.model_dump())
        return self

    @model_serializer(mode="wrap")
    def _plain(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the keys of what it does not have."""
        found: dict[str, Any] = handler(self)
        return {k: v for k, v in found.items() if v or k not in ("tune", "presets")}


def shipped() -> dict[str, Path]:
    """The suites that come with the package."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


def load_suite(name_or_path: str) -> dict[str, Any]:
    """The raw content of a shipped suite or of a YAML file."""
    known = shipped()
    path = known.get(name_or_path, Path(name_or_path))
    if not path.is_file():
        raise UserError(f"no suite or file '{name_or_path}': {nearest(name_or_path, known)}")
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text in UTF-8: save it as one") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} should hold a mapping with the keys name and blocks")
    return content


BLOCK_KEYS = set(Block.model_fields)


def build_suite(content: dict[str, Any], root: str | None = None) -> Suite:
    """Validate; keys of a block given at the top level are defaults for every block.

    Presets, which lie beside the runs under `root`, are written out.
    """
    if (bad := not_finite(content)) is not None:
        raise UserError(f"the suite holds {bad}, where only finite numbers have a meaning")
    defaults = {key: value for key, value in content.items() if key in BLOCK_KEYS}
    rest = {key: value for key, value in content.items() if key not in BLOCK_KEYS}
    blocks = rest.pop("blocks", None) or [{}]
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        raise UserError("the suite's 'blocks' should be a list of mappings: - tasks: [...]")
    merged = {**rest, "blocks": [{**defaults, **block} for block in blocks]}
    try:
        suite = Suite.model_validate(merged)
    except ValidationError as error:
        raise UserError(_explain(error)) from error
    for block in suite.blocks:
        _known_metrics((*block.judges.tuning, *block.judges.held_out))
        seeds = block.seed_list()
        written = {text: presets.resolved(text, seeds, root) for text in block.methods}
        suite.presets |= {out: text for text, out in written.items() if out != text}
        block.methods = [written[text] for text in block.methods]
    return suite


def _known_metrics(names: Iterable[str]) -> None:
    known = plugins.points("metrics")
    for name in names:
        if name not in known:
            raise UserError(f"unknown judge '{name}': {nearest(name, known)}")


def _explain(error: ValidationError) -> str:
    """The first problem of a suite, in one sentence."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "tune"
    if first["type"] == "extra_forbidden":
        key = str(first["loc"][-1])
        known = BLOCK_KEYS | set(Suite.model_fields) | {"tuning", "held-out"}
        return f"unknown suite key '{key}': {nearest(key, known)}"
    if first["type"] == "missing":
        return f"the suite lacks '{where}'"
    return f"the suite's '{where}' is wrong: {first['msg'].removeprefix('Value error, ')}"


def apply_settings(content: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    """`--set key=value` on the suite or, for keys of a block, on every block."""
    out = dict(content)
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"'--set {text}' should read key=value")
        out[key] = parse_value(value)
        if key in BLOCK_KEYS and "blocks" in out:
            out["blocks"] = [{**block, key: out[key]} for block in out["blocks"]]
    return out
