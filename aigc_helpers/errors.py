"""Errors written for the reader: what is wrong, with which file or value, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from aigc_helpers.terminal import visible

Name = TypeVar("Name")


class ReaderError(Exception):
    """A fault that the reader can mend. The message names the cause and the remedy; no traceback is needed.

    The command line prints the message alone and exits with 1. Names from files and servers stand in it as they may be
    shown, wherever it is: on a terminal, in a notebook or in a panel.
    """

    def __str__(self) -> str:
        """Return the message."""
        return visible(super().__str__())


class WrongUsageError(ReaderError):
    """A call, or a command, with arguments that make no sense together. The command line exits with 2."""


class UnknownNameError(ReaderError):
    """A chapter, asset or profile that does not exist. The command line exits with 2."""

    def __init__(self, what: str, name: str, valid: Iterable[str]) -> None:
        """Say which names are valid, the nearest to ``name`` first."""
        super().__init__(f"there is no {what} {name!r}. Valid: {', '.join(nearest_first(name, valid))}.")


def first_line(error: BaseException) -> str:
    """Return what a library's error says in its first line, at most 200 characters, or else the error's name."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]


def nearest_first(name: str, valid: Iterable[str]) -> list[str]:
    """Sort ``valid`` by likeness to ``name``, the likeliest first; equal likeness keeps the given order."""

    def likeness(candidate: str) -> float:
        return difflib.SequenceMatcher(None, name.lower(), candidate.lower()).ratio()

    return sorted(valid, key=likeness, reverse=True)


def first_few(names: Sequence[Name], most: int, shown: Callable[[Name], str] = str) -> str:
    """Return the first ``most`` names, each as ``shown`` writes it, with commas between them, and how many more.

    Example:
        >>> first_few(["a", "b", "c"], 2)
        'a, b and 1 more'
    """
    return ", ".join(map(shown, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")
