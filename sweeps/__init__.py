"""Hyper-parameter sweeps (the layer above the runner)."""
