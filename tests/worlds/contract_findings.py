"""What failed in a contract test, and a good reward."""

from __future__ import annotations

from torch import Tensor

from bench.api import Condition, NoParams, Reward
from bench.conformance.findings import Finding


def failed(findings: list[Finding]) -> set[str]:
    """The names of the failed checks; every failure gives one sentence."""
    broken = [finding for finding in findings if finding.status == "fail"]
    assert all(f.reason and "\n" not in f.reason for f in broken), broken
    return {finding.check for finding in broken}


class Bowl(Reward[NoParams]):
    """A good reward."""

    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        return -x.flatten(1).square().sum(1) / 2
