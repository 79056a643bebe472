"""Panels to play with: each a pure function that computes, and a thin view of it."""

from aigc_helpers.lazy import hand_out

__getattr__, __dir__, __all__ = hand_out(__name__, __file__)
