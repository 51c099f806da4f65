"""A tracking server before PostgreSQL that is killed in the middle: complete in the end, once."""

import time

import pytest

from bench.core.params import UserError
from bench.tracking.mirror import Mirror, sync
from tests.worlds.slow_proxy import SlowProxy
from tests.worlds.tracked_run import planned, snapshot, stored
from tests.worlds.tracking_server import TrackingServer

PLAN = [planned("prior", seed=seed, steps=10) for seed in range(6)]


def killing(monkeypatch, server, name, method, call):
    """Kill a server right before the projection calls a method the n-th time."""
    own, left = getattr(Mirror, method), [call]

    def counting(self, *given):
        left[0] -= 1
        if left[0] == 0:
            server.kill(name)
        return own(self, *given)

    monkeypatch.setattr(Mirror, method, counting)


@pytest.mark.slow
def test_a_server_that_is_killed_in_the_middle_shows_everything_once(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "120")  # of a slow server, not of a dead one
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    undisturbed = stored(tmp_path / "undisturbed", PLAN, good=5)
    sync(undisturbed)
    whole = snapshot(undisturbed)
    store = stored(tmp_path / "disturbed", PLAN, good=5)
    with TrackingServer() as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        for name, method, call in (
            ("mlflow", "_attach", 2),  # a child is begun, and lacks its files
            ("postgres", "_log", 2),  # a child is made, and nothing more
            ("postgres", "finish", 1),  # all children are there, and the parent's tables are not
        ):
            with monkeypatch.context() as patch:
                killing(patch, server, name, method, call)
                with pytest.raises(UserError, match="cannot write to MLflow at http://127") as said:
                    sync(store)
                assert "\n" not in str(said.value)
            server.start()
        last = sync(store)
        assert last.unchanged and last.failed == 1
        assert snapshot(store) == whole
        again = sync(store)
        assert (again.written, again.removed, again.unchanged) == (0, 0, 6)
        slow_server(server.uri, tmp_path / "slow", whole, monkeypatch)


def slow_server(uri, root, whole, monkeypatch):
    """One that answers late has everything in the end; one that never does is one sentence."""
    store = stored(root, PLAN, good=5)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "slow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    with SlowProxy(uri, delay=60.0) as proxy:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
        began = time.monotonic()
        with pytest.raises(UserError, match="cannot write to MLflow at http://127"):
            sync(store)
        assert time.monotonic() - began < 3 * 20, "asked once more than it was told to"
        proxy.delay = 0.5
        assert sync(store).written == 6 and proxy.requests > 20
        assert snapshot(store, "slow") == whole
