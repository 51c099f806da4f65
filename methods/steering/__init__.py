"""Steering: methods that add a gradient of the value to the flow."""
