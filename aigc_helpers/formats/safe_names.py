"""Names of files that come from a server, a listing or an archive: none may lead out of the folder they belong to."""

from __future__ import annotations

import re

from aigc_helpers.errors import ReaderError
from aigc_helpers.formats.safetensors_header import quoted

_LONGEST = 255  # Bytes in one part of a name, on every file system in use.
# Windows takes these for devices in any folder and with any ending.
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
_MISLEADING = re.compile(r"[\x00-\x1f\x7f\\]")  # Controls, and a backslash, which is a slash on Windows.
_UNSTORABLE = re.compile(r'[:*?"<>|]')  # On Windows and its file systems.


class UnsafeNameError(ReaderError):
    """A name that would lead out of its folder, or that some system cannot store."""


class UnstorableNameError(UnsafeNameError):
    """A name that leads nowhere, but that some system cannot store: with a colon, for one."""


def check_name(name: str, origin: str, *, folders: bool = True) -> str:
    """Return ``name`` if it is a plain relative one, such as ``unet/config.json``.

    Args:
        name: with ``/`` between folders.
        origin: who gave the name, for the message.
        folders: whether the name may lead into folders.

    Raises:
        UnsafeNameError: it is absolute, climbs with ``..``, or holds a backslash or a control character.
        UnstorableNameError: it holds a colon, as drive letters have one, a device name of Windows, or a part that some
            file system cannot store.

    Example:
        >>> check_name("unet/config.json", "the listing")
        'unet/config.json'
        >>> check_name("../../.bashrc", "the listing")
        Traceback (most recent call last):
        aigc_helpers.formats.safe_names.UnsafeNameError: the listing names a file '../../.bashrc', ...
    """
    parts = name.split("/")
    # An absolute name has an empty first part. Windows drops dots and spaces at the end: "..  " would be "..".
    if _MISLEADING.search(name) or not all(part.strip(". ") for part in parts) or (len(parts) > 1 and not folders):
        raise UnsafeNameError(
            f"{origin} names a file {quoted(name)}, which would lead out of its folder, or is no name on some system. "
            "It was refused, and nothing was written. Do not trust this source."
        )
    if not all(map(_is_storable, parts)):
        raise UnstorableNameError(
            f"{origin} names a file {quoted(name)}, which is no name on some system. It was refused, and nothing was "
            "written. Ask its author for another name."
        )
    return name


def storable_name(name: str) -> str:
    """Return a name without what some system cannot store, as browsers do it; where it may lead is not looked at.

    Example:
        >>> storable_name('Detail: "Tweaker".safetensors')
        'Detail_ _Tweaker_.safetensors'
    """
    kept = _UNSTORABLE.sub("_", name)
    # The end is kept, for it says what the file is.
    stem, dot, suffix = kept.rpartition(".")
    excess = len(kept.encode(errors="surrogatepass")) - _LONGEST
    if excess > 0 and stem:
        kept = stem.encode(errors="surrogatepass")[:-excess].decode(errors="ignore") + dot + suffix
    return f"_{kept}" if _DEVICES.fullmatch(kept) else kept


def _is_storable(part: str) -> bool:
    return (
        not _UNSTORABLE.search(part)
        and part == part.rstrip(". ")
        and len(part.encode(errors="surrogatepass")) <= _LONGEST
        and not _DEVICES.fullmatch(part)
    )
