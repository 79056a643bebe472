"""Under which name a download is kept: as the server's ``Content-Disposition`` (RFC 6266) or the address has it."""

from __future__ import annotations

import re
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from aigc_helpers.formats import storable_name

_LONGEST_HEADER = 4_096  # Characters; a name has 255 bytes.
# A parameter's value is quoted, with a backslash before a quote inside, or goes on to the next semicolon.
_PARAMETER = re.compile(r";\s*(?P<key>[^\s;=\"]+)\s*=\s*(\"(?P<quoted>(?:[^\"\\]|\\.)*)\"|(?P<plain>[^;]*))")
_CHARSETS = {"utf-8": "utf-8", "iso-8859-1": "latin-1"}


def name_of_download(asked: str, given: str, disposition: str) -> str:
    """Return the name of a file that was downloaded, such as every file system can store; folders are left in it.

    Args:
        asked: the address.
        given: the address that the server led to.
        disposition: the header, or an empty text; its bytes as Latin-1, as the HTTP libraries give headers.

    Example:
        >>> name_of_download("https://x/1?token=t", "https://y/1", "attachment; filename*=UTF-8''%E6%B0%B4.safetensors")
        '水.safetensors'
        >>> name_of_download("https://x/a%20b.safetensors", "https://y/1", "")
        'a b.safetensors'
    """
    first, second = (unquote(_path(address).rpartition("/")[2]) for address in (asked, given))
    return storable_name(_name_in(disposition) or (first if "." in first else second) or "download")


def _path(address: str) -> str:
    try:
        return urlsplit(address).path
    except ValueError:
        return ""


def _name_in(disposition: str) -> str:
    if len(disposition) > _LONGEST_HEADER:
        return ""
    found: dict[str, str] = {}
    for parameter in _PARAMETER.finditer(";" + disposition.partition(";")[2]):
        quoted = parameter["quoted"]
        value = parameter["plain"].strip() if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        found.setdefault(parameter["key"].lower(), value)
    # Where both are given, the one with a star is the real name, and the other what old programs can read.
    return _extended(found.get("filename*", "")) or _as_utf8(found.get("filename", ""))


def _extended(value: str) -> str:
    """Decode ``charset'language'percent-encoded`` (RFC 8187); empty if it is something else."""
    charset, _, rest = value.partition("'")
    encoding = _CHARSETS.get(charset.lower())
    if encoding is None or "'" not in rest:
        return ""
    try:
        return unquote_to_bytes(rest.partition("'")[2]).decode(encoding)
    except UnicodeError:
        return ""


def _as_utf8(value: str) -> str:
    """Undo what the HTTP libraries do to a header in raw UTF-8, which RFC 9110 leaves open and servers send."""
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value
