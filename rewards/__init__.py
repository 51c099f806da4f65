"""Rewards, one file per family."""
