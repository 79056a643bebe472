"""From a name, an address or a file to verified files on this machine: the catalog, its sources, and the store."""

from aigc_helpers.lazy import hand_out

__getattr__, __dir__, __all__ = hand_out(__name__, __file__)
