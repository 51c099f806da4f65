"""tiltbench."""
