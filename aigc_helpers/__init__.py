"""The library of the AIGC workbook: weight files, adapters, training, judging.

These functions are the whole path, and the command ``aigc`` is a thin skin over them::

    from aigc_helpers import FitSettings, convert, evaluate, fit, generate, inspect, install, load_adapter, merge

Each room (``aigc_helpers.lora``, ``aigc_helpers.metrics`` …) hands out more. Nothing is imported before it is used, so
``import aigc_helpers`` stays under 150 ms and needs no torch.
"""

from aigc_helpers.lazy import hand_out

__getattr__, __dir__, __all__ = hand_out(__name__, __file__)
