"""What an argument may be, for whoever takes one: the library and the command line say the same sentence."""

from __future__ import annotations

import math
import re
from numbers import Integral
from pathlib import Path

from aigc_helpers.errors import ReaderError, WrongUsageError, first_line

LARGEST_SEED = 2**32 - 1  # numpy takes no larger one.
LARGEST_RANK = 4_096  # No layer of the models that are trained here is wider.
LARGEST_COUNT = 10_000  # Of pictures or poems in one call, which keeps them all in memory.


def named(path: str | Path) -> Path:
    """Return a path that was given as text or as a path.

    Raises:
        WrongUsageError: the text is empty, which pathlib would take for the current folder; or it is no text in UTF-8,
            as Linux allows, and torch and safetensors do not.
    """
    if not str(path).strip():
        raise WrongUsageError("the name of a file or folder is empty. The folder that you are in is called . (a dot).")
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise WrongUsageError(
            f"{path} is no name in UTF-8, so that torch and safetensors cannot open it. Rename it first."
        ) from error
    return Path(path)


def existing(path: str | Path) -> Path:
    """Return a path at which there is something.

    Raises:
        WrongUsageError: nothing is there, or the text is empty.
        ReaderError: the system will not say.
    """
    found = named(path)
    try:
        is_there = found.exists()
    except OSError as error:
        raise ReaderError(
            f"{path} cannot be read ({first_line(error)}). Check the name and its permissions."
        ) from error
    if not is_there:
        name = str(path)
        hint = f" A name of the catalog is installed first: aigc install {name}, or install({name!r}) in Python."
        raise WrongUsageError(f"there is no file or folder {path}.{hint if _may_be_an_asset(name) else ''}")
    return found


def _may_be_an_asset(name: str) -> bool:
    return re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) is not None


def check_seed(seed: int) -> None:
    """Refuse a seed that numpy does not take.

    Raises:
        WrongUsageError: it is no whole number from 0 to 4294967295.
    """
    if not isinstance(seed, Integral) or not 0 <= seed <= LARGEST_SEED:
        raise WrongUsageError(
            f"a seed of {seed!r} is not possible: it must be a whole number from 0 to {LARGEST_SEED}."
        )


def check_rank(rank: int) -> None:
    """Refuse a rank that no LoRA can have, or that would take all memory there is.

    Raises:
        ReaderError: it is no whole number from 1 to 4096.
    """
    if not isinstance(rank, Integral) or not 1 <= rank <= LARGEST_RANK:
        raise ReaderError(
            f"a rank of {rank:,} is not possible: it must be a whole number from 1 to {LARGEST_RANK:,}; 4 to 64 are "
            "usual."
        )


def check_scale(scale: float) -> None:
    """Refuse to add a LoRA times infinity, or times something that is no number.

    Raises:
        WrongUsageError: it is so.
    """
    if not math.isfinite(scale):
        raise WrongUsageError(f"a scale of {scale:g} is not possible: it must be a finite number, usually 0 to 1.")


def check_sha256(sha256: str) -> None:
    """Refuse a text that is no sha256, since no file could ever have it.

    Raises:
        WrongUsageError: it is none.
    """
    if not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise WrongUsageError(f"{sha256!r} is no sha256: that is 64 hexadecimal digits.")
