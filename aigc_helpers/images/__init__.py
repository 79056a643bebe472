"""Images: data sets, backgrounds and captions, loss, sampling, CLIP, and the recipes of LoRAs for pictures."""

from aigc_helpers.lazy import hand_out

__getattr__, __dir__, __all__ = hand_out(__name__, __file__)
