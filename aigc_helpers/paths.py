"""Where the parts of the book lie on this machine: ``REPOSITORY``, ``CHAPTERS`` and ``DATA``, all in the checkout."""

from __future__ import annotations

from pathlib import Path

from aigc_helpers.errors import ReaderError
from aigc_helpers.project import find_checkout, repository_address

_PARTS = {"REPOSITORY": "", "CHAPTERS": "chapters", "DATA": "data"}


def in_checkout(part: str = "") -> Path:
    """Return where a part of the checkout lies, such as ``"data/poet"``; without a part, the checkout itself.

    Raises:
        ReaderError: the package was installed without a checkout; the message says how to get one.
    """
    checkout = find_checkout()
    if checkout is None:
        what = f"{part} of the workbook's checkout" if part else "the workbook's checkout"
        raise ReaderError(f"this needs {what}, and {only_the_package_is_here()} Then run the same again.")
    return checkout / part


def only_the_package_is_here() -> str:
    """Return the half sentence that says so, and the sentence after it: how to get the checkout."""
    return (
        f"only the package is installed here. Run: git clone {repository_address()}, "
        "and in the new folder: pip install -e ."
    )


def __getattr__(name: str) -> Path:
    # No constants: without a checkout they would lead into site-packages, and something would read or write there.
    if name in _PARTS:
        return in_checkout(_PARTS[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
