"""Contract tests of installed plugins, for their authors: `bench check`."""

from bench.runner.conformance.worlds import KINDS, check_method, check_reward, check_task, conform

__all__ = ["KINDS", "check_method", "check_reward", "check_task", "conform"]
