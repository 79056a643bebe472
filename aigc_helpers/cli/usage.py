"""What options may be."""

from __future__ import annotations

import argparse


def seed(text: str) -> int:
    """Read a seed, as argparse's ``type`` does it.

    Raises:
        ArgumentTypeError: numpy takes no such seed.
    """
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 to {2**32 - 1}")
    return int(text)
