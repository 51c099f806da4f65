"""What `bench new` writes: a package with one plugin, as string templates.

Placeholders: $name (noise-walk), $distribution (tiltbench-noise-walk), $module
(tiltbench_noise_walk), $cls (NoiseWalkMethod), $kind (method, reward or task).
"""

from __future__ import annotations

import re
from string import Template

from bench.cli.templates import method, reward, task

PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "$distribution"
version = "0.1.0"
description = "The $kind $name for tiltbench."
requires-python = ">=3.11"
dependencies = ["tiltbench"]

[project.optional-dependencies]
test = ["pytest"]

[project.entry-points."bench.${kind}s"]
$name = "$module:$cls"
"""

SOURCES = {"method": method.SOURCE, "reward": reward.SOURCE, "task": task.SOURCE}
TESTS = {"method": method.TEST, "reward": reward.TEST, "task": task.TEST}


def words(kind: str, name: str) -> dict[str, str]:
    """The placeholders for a plugin name."""
    return {
        "kind": kind,
        "name": name,
        "distribution": f"tiltbench-{name}",
        "module": f"tiltbench_{name.replace('-', '_')}",
        "cls": "".join(map(str.capitalize, name.split("-"))) + kind.capitalize(),
    }


def valid(name: str) -> bool:
    """Whether a plugin may be called that: lower-case words joined by hyphens."""
    return re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) is not None


def package(kind: str, name: str) -> dict[str, str]:
    """The files of a new package, by path."""
    filled = words(kind, name)
    texts = {
        "pyproject.toml": PYPROJECT,
        f"src/{filled['module']}.py": SOURCES[kind],
        f"tests/test_{filled['module']}.py": TESTS[kind],
    }
    return {path: Template(text).substitute(filled) for path, text in texts.items()}
