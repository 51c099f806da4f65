"""The loops that methods share: steering, particles, search; posterior samplers by name."""
