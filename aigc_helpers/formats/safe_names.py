"""Names of files that come from a server, a listing or an archive: none may lead out of the folder they belong to."""

from __future__ import annotations

import re

from aigc_helpers.errors import ReaderError
from aigc_helpers.formats.safetensors_header import quoted

_LONGEST = 255  # Bytes in one part of a name, on every file system in use.
# Windows takes these for devices in any folder and with any ending.
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f\\:*?"<>|]')


class UnsafeNameError(ReaderError):
    """A name that would lead out of its folder, or that some system cannot store."""


def check_name(name: str, origin: str, *, folders: bool = True) -> str:
    """Return ``name`` if it is a plain relative one, such as ``unet/config.json``.

    Args:
        name: with ``/`` between folders.
        origin: who gave the name, for the message.
        folders: whether the name may lead into folders.

    Raises:
        UnsafeNameError: it is absolute, climbs with ``..``, or holds a drive letter, a device name of Windows, a
            backslash, a control character or a part that some file system cannot store.

    Example:
        >>> check_name("unet/config.json", "the listing")
        'unet/config.json'
        >>> check_name("../../.bashrc", "the listing")
        Traceback (most recent call last):
        aigc_helpers.formats.safe_names.UnsafeNameError: the listing names a file '../../.bashrc', ...
    """
    parts = name.split("/")
    if _FORBIDDEN.search(name) or not all(_is_plain(part) for part in parts) or (len(parts) > 1 and not folders):
        raise UnsafeNameError(
            f"{origin} names a file {quoted(name)}, which would lead out of its folder, or is no name on some system. "
            "It was refused, and nothing was written. Do not trust this source."
        )
    return name


def _is_plain(part: str) -> bool:
    # An absolute name has an empty first part. Windows drops dots and spaces at the end: "..  " would be "..".
    return (
        part.strip(". ") != ""
        and part == part.rstrip(". ")
        and len(part.encode(errors="surrogatepass")) <= _LONGEST
        and not (_DEVICES.fullmatch(part))
    )
