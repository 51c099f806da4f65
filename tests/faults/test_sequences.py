"""A few random sequences of faults; `python -m tests.faults.sequences 160 --ray 40` runs many."""

import subprocess
import sys

import pytest


def said(*given):
    """What the command prints, in a process of its own.

    It forks drivers and a cluster, and what Ray started for earlier tests would hang in a fork.
    """
    command = [sys.executable, "-m", "tests.faults.sequences", *given, "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_sequences_of_faults_change_nothing():
    assert "inline: 3 sequences" in said("3")


@pytest.mark.slow
def test_sequences_of_faults_change_nothing_on_a_cluster():
    assert "ray: 2 sequences" in said("0", "--ray", "2")
