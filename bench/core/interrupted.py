"""What a run that was asked to stop ends with."""

from __future__ import annotations


class Interrupted(Exception):
    """A run was stopped; the message says how far it came and how it goes on."""
