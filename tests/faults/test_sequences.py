"""A few random sequences of faults; `python -m tests.faults.sequences 200` runs many."""

from tests.faults.sequences import main


def test_sequences_of_faults_change_nothing(capsys):
    assert main(3, seed=1) == 0
    assert "3 sequences" in capsys.readouterr().out
