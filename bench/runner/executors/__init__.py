"""Where cells run: in this process, or as trials of one Ray Tune run."""
