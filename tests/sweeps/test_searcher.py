"""What becomes of a sweep's cells whose workers die."""

from types import SimpleNamespace

from sweeps.searcher import CellSearcher


def searcher(begun):
    """A searcher whose trial "1" has the cell "a", with what became of it."""
    took = []
    dispatcher = SimpleNamespace(busy={"a": None}, took=took.append)
    ray = SimpleNamespace(get=lambda value: value)
    mailbox = SimpleNamespace(begun=SimpleNamespace(remote=lambda: begun))
    courier = SimpleNamespace(error=None, why="")
    found = CellSearcher(dispatcher, ray, mailbox, courier)
    found._cells["1"] = "a"
    found.on_trial_complete("1", error=True)
    return took, courier


def test_a_cell_that_was_begun_and_never_answered_is_lost():
    took, courier = searcher({"a": 3})
    assert [attempt.lost for attempt in took] == [True] and courier.error is None


def test_a_cell_that_was_never_begun_stays_pending_and_ends_the_sweep():
    took, courier = searcher({})
    assert took == [] and "could not begin a cell" in str(courier.error)
