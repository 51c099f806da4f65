"""Comparisons from Python: what `from bench import compare, from_velocity` gives."""
