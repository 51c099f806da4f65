"""A few random sequences of faults; `python -m tests.faults.sequences 160 --ray 40` runs many."""

import pytest

from tests.faults.sequences import main


def test_sequences_of_faults_change_nothing(capsys):
    assert main(["3", "--seed", "1"]) == 0
    assert "inline: 3 sequences" in capsys.readouterr().out


@pytest.mark.slow
def test_sequences_of_faults_change_nothing_on_a_cluster(capsys):
    assert main(["0", "--ray", "2", "--seed", "1"]) == 0
    assert "ray: 2 sequences" in capsys.readouterr().out
