"""Measures and intervals: numbers in, numbers out, for any notebook; no model of ours is needed."""

from aigc_helpers.lazy import hand_out

__getattr__, __dir__, __all__ = hand_out(__name__, __file__)
