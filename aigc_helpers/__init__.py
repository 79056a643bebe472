"""What the chapters of the AIGC workbook share: weights, adapters, training, judging.

Nothing is imported here, so that ``import aigc_helpers`` stays under 150 ms and needs no torch:
each room (``aigc_helpers.weights``, ``aigc_helpers.training`` …) imports what it needs when it is first used.
"""

__version__ = "0.1.0"
