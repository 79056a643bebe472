"""What options may be."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterable

COMMAND_VARIABLE = "AIGC_COMMAND"  # How the reader calls the command, where it is not "aigc": workbook.py sets it.


def whole_number(text: str) -> int:
    """Read a number of at least one, as argparse's ``type`` does it.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


def as_typed(text: str, commands: Iterable[str]) -> str:
    """Return advice such as "Run: aigc build 05" with the command as this reader types it.

    Example:
        >>> os.environ[COMMAND_VARIABLE] = "python workbook.py"
        >>> as_typed("Run: aigc build 05", ["build"])
        'Run: python workbook.py build 05'
    """
    typed = os.environ.get(COMMAND_VARIABLE)
    if not typed:
        return text
    return re.sub(rf"(?<![\w./-])aigc (?=(?:{'|'.join(commands)})\b)", lambda _: f"{typed} ", text)
