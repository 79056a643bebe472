"""Judging: metrics that load with the network off, intervals, and base against tuned."""
