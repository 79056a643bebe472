"""Our own models under those measures, one by one and in one table."""

from aigc_helpers.lazy import hand_out

__getattr__, __dir__, __all__ = hand_out(__name__, __file__)
