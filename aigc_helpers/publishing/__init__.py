"""From chapter sources to notebooks: assembled, executed, run, measured, and made into pages."""

from aigc_helpers.lazy import hand_out

__getattr__, __dir__, __all__ = hand_out(__name__, __file__)
