"""Builders of what lies in ``data/``: seeded, resumable, each with a card that says how to run it again."""
