"""Objectives, recipes and the trainer."""
