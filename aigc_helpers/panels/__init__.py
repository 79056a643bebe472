"""Widgets to play with: a pure ``run()`` and a thin view each."""
