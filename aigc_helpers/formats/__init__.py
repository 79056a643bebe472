"""Weight files as bytes: sniffed, their headers read strictly, their tensors written whole or not at all."""

from aigc_helpers.lazy import hand_out

__getattr__, __dir__, __all__ = hand_out(__name__, __file__)
