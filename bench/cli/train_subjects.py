"""What `bench train` trains: a task that names its world, or data of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bench.core.params import UserError, build, parse_name, parse_value

if TYPE_CHECKING:
    from bench.models.data_set import DataSet
    from bench.training.recipes import Recipe
    from bench.worlds import World
    from bench.worlds.own import OwnRecipe, Taught

CHECKPOINTS = Path("runs/training")


class Subject(Protocol):
    """What is trained; workers are sent it."""

    @property
    def name(self) -> str:
        """Of the files that are written."""

    def recipe(self) -> Recipe:
        """With what the command line set."""

    def world(self) -> World:
        """How it is trained and measured."""

    def identity(self) -> dict[str, str]:
        """What checkpoints belong to besides the recipe: digests by what they are of."""

    def checkpoints(self, to: Path) -> Path:
        """Where they lie unless the command line says it."""

    def describe(self, to: Path) -> dict[str, Any]:
        """What the record says before recipe and quality; writes what stands beside the weights."""

    def how_to_use(self, to: Path) -> str:
        """What to do with the folder."""


def subject_of(
    task: str | None,
    data: str | None,
    labels: str,
    teacher: str,
    network: str | None,
    settings: list[str],
) -> Subject:
    """The subject that the command line means; UserError where it means none, or two."""
    from bench.core import plugins

    changes = dict(map(_setting, settings))
    if (task is None) == (data is None):
        raise UserError(
            "say what to train: a task (bench train digits), or own data (bench train --data "
            "FOLDER|FILE --to DIR)"
        )
    if task is not None:
        known, values = parse_name(task)
        cls = plugins.load("tasks", known)
        if cls.world is not None and not values:
            own = {"--labels": labels, "--teacher": teacher, "--network": network}
            if given := [name for name, value in own.items() if value]:
                raise UserError(f"{given[0]} is for own data, and '{task}' has its own recipe")
            return TaskSubject(task, tuple(changes.items()))
        return _of_task_data(task, teacher, network, changes)
    assert data is not None
    return OwnSubject(data, labels, teacher, _with_network(changes, network))


def _setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"'{text}' should read KEY=VALUE, a key of the recipe")
    return key.strip(), parse_value(value.strip())


def _with_network(changes: Mapping[str, Any], network: str | None) -> tuple[tuple[str, Any], ...]:
    return tuple({**changes, **({} if network is None else {"network": network})}.items())


def _changed(recipe: Recipe, changes: tuple[tuple[str, Any], ...]) -> Recipe:
    """The recipe with keys of the command line; UserError for an unknown one, or a wrong value."""
    found = build(type(recipe), {**asdict(recipe), **dict(changes)}, "the recipe")
    _ = found.objective  # whose names are looked up late otherwise
    return found


@dataclass(frozen=True)
class TaskSubject:
    """A task that names its world."""

    name: str
    changes: tuple[tuple[str, Any], ...] = ()

    def recipe(self) -> Recipe:
        """The world's own, with changes."""
        return _changed(self.world().recipe, self.changes)

    def world(self) -> World:
        """By the task's name for it."""
        from bench.worlds import of_task

        return of_task(self.name)

    def identity(self) -> dict[str, str]:
        """Nothing: a task is its name, which is that of the folder."""
        return {}

    def checkpoints(self, to: Path) -> Path:
        """One folder for all tasks."""
        return CHECKPOINTS

    def describe(self, to: Path) -> dict[str, Any]:
        """The task."""
        return {"task": self.name}

    def how_to_use(self, to: Path) -> str:
        """A folder of weights that is searched before the shipped ones."""
        return f"use them with TILTBENCH_WEIGHTS={to}"


@dataclass(frozen=True)
class OwnSubject:
    """Own data: where they are, where their labels are, and who teaches; read in every process."""

    source: str
    labels: str = ""
    teacher: str = ""
    changes: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """As the task `trained` finds it."""
        from bench.models.trained import NAME

        return NAME

    @cached_property
    def data(self) -> DataSet:
        """The rows, read once a process."""
        from bench.reading.data_set import read_data_set

        return read_data_set(self.source, self.labels)

    @cached_property
    def _taught(self) -> Taught | None:
        from bench.worlds.own import teacher_of

        return teacher_of(self.teacher, self.data) if self.teacher else None

    def recipe(self) -> OwnRecipe:
        """The default for data of this kind, with changes."""
        from bench.worlds.own import OwnRecipe, recipe_for

        recipe = replace(recipe_for(self.data), teacher=self.teacher)
        if self.teacher:
            recipe = replace(recipe, flow_steps=0, start="random")
        if ":" in str(dict(self.changes).get("network", "")):
            recipe = replace(recipe, start="random")
        found = _changed(recipe, self.changes)
        assert isinstance(found, OwnRecipe)
        return found

    def world(self) -> World:
        """Flow and map of the data."""
        from bench.worlds.own import world_of

        return world_of(self.data, self.recipe(), self._taught)

    def identity(self) -> dict[str, str]:
        """Digests of rows, labels and teacher, and where the labels come from."""
        taught = "" if self._taught is None else self._taught.digest
        return {**self.data.identity, "labels_from": self.labels, "teacher_weights": taught}

    def checkpoints(self, to: Path) -> Path:
        """Beside the weights."""
        return to / "training"

    def describe(self, to: Path) -> dict[str, Any]:
        """The data, of which a copy or a part is kept."""
        from bench.models.trained import DATA

        kept = self.data.part()
        kept.save(to / DATA)
        said = {
            "source": self.source,
            "labels_from": self.labels,
            "rows": len(self.data.x),
            "kept_rows": len(kept.x),
            "event_shape": list(self.data.event_shape),
            "classes": list(self.data.classes),
            "pictures": self.data.pictures,
        }
        return {"data": {**said, **self.identity()}}

    def how_to_use(self, to: Path) -> str:
        """A task at once."""
        return f"use them with bench run -t trained:path={to}"


@dataclass(frozen=True)
class TaskDataSubject(OwnSubject):
    """The data of a task that has some and names no world; `source` is its name."""

    @cached_property
    def data(self) -> DataSet:
        """The training rows of the task."""
        from bench.core import plugins
        from bench.worlds.own import rows_of_task

        known, values = parse_name(self.source)
        return rows_of_task(self.source, plugins.load("tasks", known).create(**values))


def _of_task_data(
    task: str, teacher: str, network: str | None, changes: Mapping[str, Any]
) -> TaskDataSubject:
    return TaskDataSubject(task, "", teacher, _with_network(changes, network))
