"""What options may be."""

from __future__ import annotations

import argparse

from aigc_helpers.errors import ReaderError


class WrongUsageError(ReaderError):
    """A command with options that make no sense as given. The command line exits with 2."""


def seed(text: str) -> int:
    """Read a seed, as argparse's ``type`` does it.

    Raises:
        ArgumentTypeError: numpy takes no such seed.
    """
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 to {2**32 - 1}")
    return int(text)
