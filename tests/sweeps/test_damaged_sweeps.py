"""Damaged files of a sweep, and presets that are none: one sentence that says what mends them."""

import json
import random

import pytest

from bench.core.params import UserError
from bench.plan import presets
from bench.record.store import Store
from bench.runner.executors.inline import Inline
from sweeps.driver import Silent, run_sweep
from sweeps.sweep_file import SWEEP, read_sweep, read_trials
from tests.record.test_damage import DAMAGES
from tests.worlds.small_sweep import small_sweep


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    root, spec = tmp_path_factory.mktemp("swept"), small_sweep("dps", "paper-nfe=60", trials=2)
    store = Store(str(root), "s")
    run_sweep(spec, store, Inline, Silent())
    return store, spec, store.read(SWEEP)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_sweep_is_one_sentence(swept, damage):
    store, spec, whole = swept
    for seed in range(30):
        store.write(SWEEP, damage(whole, random.Random(seed)))
        with pytest.raises(UserError, match=r"sweep\.json .*: remove it and repeat the 'bench sw"):
            read_trials(store, spec)
    store.write(SWEEP, whole)
    assert len(read_trials(store, spec)) == 1


def test_a_sweep_from_before_there_were_checksums_is_read(swept):
    store, spec, whole = swept
    content = json.loads(whole)
    del content["sha256"]
    content["schema"] = 1
    store.write(SWEEP, json.dumps(content, indent=1).encode())
    assert read_sweep(store)["studies"] == content["studies"] and read_trials(store, spec)
    store.write(SWEEP, whole)


@pytest.mark.parametrize(
    "methods",
    [
        "5", "{dps: 5}", "{dps: {params: 5}}", "{dps: {params: {steps: 5}, provenance: 5}}", "[",
        "{dps: {params: {steps: 5}, provenance: {tuning_seeds: 5}}}",
        "{dps: {params: {steps: 5}, provenance: {tuning_seeds: [a, b]}}}",
    ],
)  # fmt: skip
def test_presets_that_are_none(tmp_path, methods):
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "mine.yaml").write_text(f"methods: {methods}\n")
    with pytest.raises(UserError, match="mine"):
        presets.resolved("dps@mine", [0], str(tmp_path))
