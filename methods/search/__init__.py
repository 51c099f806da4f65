"""Search: methods that keep the best of what they drew."""
