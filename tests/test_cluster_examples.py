"""The cluster files parse, and every `bench` command in them is one that the command line takes."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.worlds.typed_commands import Wrong, checked, commands, names_a_verb

FOLDER = Path(__file__).parents[1] / "examples" / "clusters"
DOCS = Path(__file__).parents[1] / "docs" / "clusters.md"
FILES = sorted([*FOLDER.iterdir(), DOCS])
COMMAND = re.compile(r"""(?:^|[\s"`(&;:])(bench [a-z][^"`\n]*)""", re.MULTILINE)


def told(path: Path) -> list[str]:
    """What a file tells a shell to run, with variables filled in."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    if path.suffix == ".sh":  # quotes belong to the arguments there
        found = [line for line in text.splitlines() if line.startswith("bench ")]
    else:
        found = COMMAND.findall(text)
    filled = "\n".join(found).replace("$suite", "quickstart")
    return [shlex.join(words) for words in commands(filled) if words[0] == "bench"]


PAIRS = [(path, line) for path in FILES for line in told(path)]
VERBS = {"run", "doctor", "report", "prefetch"}
"""Prose names verbs alone; a command has arguments."""


def test_there_are_commands_to_check():
    assert {path.name for path, _ in PAIRS} >= {"ray-cluster.yaml", "rayjob.yaml", "slurm.sh"}
    assert {shlex.split(line)[1] for _, line in PAIRS} >= VERBS


@pytest.mark.parametrize(("path", "line"), PAIRS, ids=[f"{p.name}: {c}" for p, c in PAIRS])
def test_every_command_is_valid(path, line):
    words = tuple(shlex.split(line))
    if names_a_verb(words):
        return  # prose
    checked(words)
    if words[1] == "run":
        assert "--no-track" in line or not line.count("s3://"), "MLflow has no place in a bucket"


def test_a_wrong_option_would_be_caught():
    with pytest.raises(Wrong, match="No such option"):
        checked(("bench", "run", "quickstart", "--adress", "auto"))


def test_the_ray_cluster_is_one_that_ray_takes():
    import jsonschema
    import ray.autoscaler

    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    path = FOLDER / "ray-cluster.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    jsonschema.validate(config, schema)
    types = config["available_node_types"]
    assert types[config["head_node_type"]]["resources"] == {"CPU": 0}
    assert types["worker"]["max_workers"] == config["max_workers"]


def test_the_ray_job_uses_one_image_and_computes_on_workers():
    job = yaml.safe_load((FOLDER / "rayjob.yaml").read_text(encoding="utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    containers = [group["template"]["spec"]["containers"][0] for group in groups]
    assert len({c["image"] for c in containers}) == 1, "nodes that differ are refused"
    assert all(c["resources"]["requests"] == c["resources"]["limits"] for c in containers)
    assert all(c["envFrom"] == containers[0]["envFrom"] for c in containers)


def test_the_slurm_script_is_bash():
    path = FOLDER / "slurm.sh"
    subprocess.run(["bash", "-n", str(path)], check=True)
    asked = re.findall(r"^#SBATCH --([a-z-]+)=", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert {"nodes", "ntasks-per-node", "time"} <= set(asked)


def test_what_is_to_be_changed_is_marked():
    for name in ("ray-cluster.yaml", "rayjob.yaml", "slurm.sh"):
        assert 5 <= (FOLDER / name).read_text(encoding="utf-8").count("CHANGE") <= 12
