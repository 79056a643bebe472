"""LoRA files: from one format to another without loss, into a model without silent failures, and merged."""

from aigc_helpers.lazy import hand_out

__getattr__, __dir__, __all__ = hand_out(__name__, __file__)
