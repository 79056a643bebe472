"""Sweeps and comparisons whose results chapters show instead of computing them."""
