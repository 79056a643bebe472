"""One training loop for every model of the book, with checkpoints, exact resuming, a log, and sweeps."""

from aigc_helpers.lazy import hand_out

__getattr__, __dir__, __all__ = hand_out(__name__, __file__)
