"""Adapters: which modules they sit on, and what they cost."""
