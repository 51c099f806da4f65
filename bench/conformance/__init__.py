"""Contract tests of installed plugins, for their authors: `bench check`.

A check is a function of one subject; its docstring is the contract.  It returns when the contract
holds, raises `Broken` with one clear sentence when not, and `Skipped` when there is nothing to
check.
"""
