"""What a weight file is: kind, family, an adapter's ranks and alphas, and the models it is compatible with."""

from aigc_helpers.lazy import hand_out

__getattr__, __dir__, __all__ = hand_out(__name__, __file__)
