"""Alignment methods, one file per family."""
