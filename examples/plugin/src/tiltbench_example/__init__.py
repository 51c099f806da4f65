"""Methods, a reward and a task for tiltbench, each in a file of its own."""
