"""Tasks: a flow with its data, conditions and metrics."""
