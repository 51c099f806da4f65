"""From the stored tables to entries with intervals, and to what is compared with what."""
