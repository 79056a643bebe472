"""What the cells of a chapter import besides its subject: set-up, checks, exercises, claims."""

from aigc_helpers.lazy import hand_out

__getattr__, __dir__, __all__ = hand_out(__name__, __file__)
