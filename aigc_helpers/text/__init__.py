"""Text: data sets, batches of like length, predictions, generation, and the recipes of LoRAs for text models."""

from aigc_helpers.lazy import hand_out

__getattr__, __dir__, __all__ = hand_out(__name__, __file__)
