"""From a suite to stored results."""
