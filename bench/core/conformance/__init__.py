"""Contract tests: what every reward and task must keep, whoever wrote it.

A check is a function of one subject; its docstring is the contract.  It returns when the contract
holds, raises `Broken` with one clear sentence when not, and `Skipped` when there is nothing to
check.  The checks of methods need metered problems and live in `bench.runner.conformance`.
"""

from bench.core.conformance.findings import Broken, Finding, Skipped, examine, expect
from bench.core.conformance.laws import CHECKS as LAW_CHECKS
from bench.core.conformance.rewards import CHECKS as REWARD_CHECKS
from bench.core.conformance.rewards import RewardSubject
from bench.core.conformance.tasks import CHECKS as FLOW_CHECKS
from bench.core.conformance.tasks import TaskSubject

TASK_CHECKS = (*FLOW_CHECKS, *LAW_CHECKS)

__all__ = [
    "REWARD_CHECKS",
    "TASK_CHECKS",
    "Broken",
    "Finding",
    "RewardSubject",
    "Skipped",
    "TaskSubject",
    "examine",
    "expect",
]
