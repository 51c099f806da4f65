"""Names for what a notebook hands over: a name as suites write it, a class, an object, a function.

Whatever is installed keeps its installed name, so that its cells are those of the command line.
Everything else becomes a local plugin (`bench.core.plugins.Local`) under the name of its class or
function, with its identity as its version.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from typing import Any

from bench.core import plugins
from bench.core.identity import identity_of
from bench.core.methods import Method
from bench.core.params import UserError, changed, format_name, parse_name
from bench.core.tasks import Reward, Task
from bench.plan.binding import STRENGTH
from rewards.function import FunctionReward


@dataclass(frozen=True)
class Made:
    """Stands where a plugin's class would, for an object that exists already."""

    held: Any

    def create(self, **values: Any) -> Any:
        """The object; its parameters are those that it has."""
        if values:
            raise UserError(
                f"{type(self.held).__name__} is an object and has its parameters: "
                f"{', '.join(values)} cannot be changed in its name"
            )
        return self.held

    def __call__(self, params: Any) -> Any:
        return self.held

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "held":  # while it is unpickled there is no object
            raise AttributeError(name)
        return getattr(self.held, name)


def task_name(given: Any) -> str:
    """The name of a task: a name, a class or an instance of `Task`."""
    if isinstance(given, str):
        return given
    if isinstance(given, type) and issubclass(given, Task):
        return _of_class("tasks", given)
    if isinstance(given, Task):
        return _of_instance("tasks", given, given, str(getattr(given, "name", "")))
    raise UserError(
        f"a task is a name, a bench.api.Task or from_velocity(...), not {_kind(given)}: a flow of "
        "yours is from_velocity(fn_or_module, shape)"
    )


def reward_name(given: Any, strength: float | None = None) -> str:
    """The name of a reward, with its strength: a name, a class, an instance or any callable."""
    if isinstance(given, str):
        text = given
    elif isinstance(given, type) and issubclass(given, Reward):
        text = _of_class("rewards", given)
    elif isinstance(given, Reward):
        # A run binds it to its task: a copy leaves the notebook's own as it is.
        text = _of_instance("rewards", given, copy.deepcopy(given))
    elif callable(given) and not isinstance(given, type):
        text = _of_function(given)
    else:
        raise UserError(
            f"a reward is a name, a bench.api.Reward or a function of a batch, not {_kind(given)}"
        )
    if strength is None:
        return text
    name, values = parse_name(text)
    return format_name(name, {**values, STRENGTH: strength})


def method_names(given: Any) -> list[str]:
    """Names of methods: names, classes and instances of `Method`; two of one name are refused."""
    names, classes = [], dict[str, Any]()
    for method in given if isinstance(given, list | tuple) else [given]:
        if isinstance(method, str):
            names.append(method)
            continue
        cls = method if isinstance(method, type) else type(method)
        if not issubclass(cls, Method):
            raise UserError(f"a method is a name or a bench.api.Method, not {_kind(method)}")
        name = _of_class("methods", cls)
        if classes.setdefault(name, cls) is not cls:
            raise UserError(f"two methods are called '{name}': rename one of the classes")
        values = {} if isinstance(method, type) else changed(method.params)
        names.append(format_name(name, values))
    return names


def _kind(given: Any) -> str:
    return f"the class {given.__name__}" if isinstance(given, type) else f"a {type(given).__name__}"


def _of_class(group: plugins.Group, cls: type[Any]) -> str:
    """The name of a class: its installed one, or its own."""
    return plugins.name_of(group, cls) or _added(group, cls.__name__, cls, cls)


def _of_instance(group: plugins.Group, given: Any, held: Any, called: str = "") -> str:
    """The name of an object: that of its installed class, if it is what the name would make."""
    installed = plugins.name_of(group, type(given))
    if installed is not None and _is_plain(given, installed):
        return format_name(installed, changed(given.params))
    return _added(group, called or type(given).__name__, given, Made(held))


def _is_plain(given: Any, installed: str) -> bool:
    """Whether an object is what its class makes of its parameters, and nobody changed it since."""
    fresh = type(given)(given.params)
    return identity_of(fresh, installed) == identity_of(given, installed)


def _of_function(function: Any) -> str:
    """The name of a function, or of the class of a callable object."""
    called = getattr(function, "__name__", type(function).__name__)
    return _added("rewards", called.strip("<>"), function, Made(FunctionReward(function)))


def _added(group: plugins.Group, called: str, thing: Any, cls: Any) -> str:
    """Make an object known; one that is called like an installed plugin is `own-NAME`."""
    name = re.sub(r"[^\w.-]+", "-", called).strip("-") or "own"
    name = f"own-{name}" if name in plugins.points(group) else name
    identity = identity_of(thing, f"the {group[:-1]} '{name}'")
    plugins.add(plugins.Local(group, name, cls, identity))
    return name
