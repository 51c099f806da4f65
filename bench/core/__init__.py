"""The mathematics and the contracts; no I/O, imports nothing else of ours."""
