"""What a file is by its first bytes; its name says little, for a site may send an error page under any name."""

from __future__ import annotations

import codecs
import tarfile
from pathlib import Path
from typing import NamedTuple

from aigc_helpers.errors import ReaderError

FIRST_BYTES = 512  # As many as any rule below looks at.
SAFETENSORS, ZIP, PICKLE, GGUF, HDF5 = "safetensors", "zip", "pickle", "GGUF", "HDF5"
_SPACE = b" \t\r\n"
PICKLE_SUFFIXES = {".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth"}
_CONTAINERS = ((b"PK\x03\x04", ZIP), (b"PK\x05\x06", ZIP), (b"GGUF", GGUF), (b"\x89HDF\r\n\x1a\n", HDF5))


class NotAWeightFileError(ReaderError):
    """A file that holds no weights, whatever its name."""


class _Foreign(NamedTuple):
    beginning: bytes
    what: str
    remedy: str


_PAGE = "a web page, which a site sends instead of a file to visitors who must sign in, or when it has an error"
_FROM_BROWSER = "Open the address in a browser to see what it says, then download the file again"
_UNPACK = "Unpack it and name the weight file inside"
_NO_WEIGHTS = "Look for the file of weights beside it: *.safetensors, *.ckpt, *.pt, *.bin or *.gguf"
_FOREIGN = (
    _Foreign(
        b"version https://git-lfs.github.com/spec/",
        "a Git LFS pointer, a note of a few lines that names the real file",
        "Fetch the file itself: git lfs pull",
    ),
    _Foreign(b"<!doctype", _PAGE, _FROM_BROWSER),
    _Foreign(b"<html", _PAGE, _FROM_BROWSER),
    _Foreign(b"<head", _PAGE, _FROM_BROWSER),
    _Foreign(b"<?xml", "an XML document, such as a storage server's error message", _FROM_BROWSER),
    _Foreign(b"{", "JSON text: a configuration, or a server's error message", _NO_WEIGHTS),
    _Foreign(b"[", "JSON text: a configuration, or a server's error message", _NO_WEIGHTS),
    _Foreign(b"\x1f\x8b", "a gzip archive", _UNPACK),
    _Foreign(b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _UNPACK),
    _Foreign(b"rar!", "a RAR archive", _UNPACK),
    _Foreign(b"\xfd7zxz\x00", "an xz archive", _UNPACK),
    _Foreign(b"bzh", "a bzip2 archive", _UNPACK),
    _Foreign(b"\x28\xb5\x2f\xfd", "a Zstandard archive", _UNPACK),
    _Foreign(b"\x89png", "a PNG picture", _NO_WEIGHTS),
    _Foreign(b"\xff\xd8\xff", "a JPEG picture", _NO_WEIGHTS),
    _Foreign(b"gif8", "a GIF picture", _NO_WEIGHTS),
    _Foreign(b"riff", "a RIFF file (WebP picture, sound or video)", _NO_WEIGHTS),
    _Foreign(b"%pdf", "a PDF document", _NO_WEIGHTS),
    _Foreign(b"par1", "a Parquet table", _NO_WEIGHTS),
    _Foreign(b"\x93numpy", "a NumPy array", _NO_WEIGHTS),
)


def container_of(path: Path, first: bytes) -> str:
    """Return which container the file is: ``"safetensors"``, ``"zip"``, ``"pickle"``, ``"GGUF"`` or ``"HDF5"``.

    A file called ``*.safetensors`` that is nothing else counts as one, so that its own reader names the fault.

    Args:
        path: of the file, for its suffix and the message.
        first: its first ``FIRST_BYTES`` bytes, or all that it has.

    Raises:
        NotAWeightFileError: the file is empty, or something that holds no weights.

    Example:
        >>> from pathlib import Path
        >>> container_of(Path("model.bin"), b"GGUF\\x03\\x00\\x00\\x00")
        'GGUF'
    """
    if not first:
        raise NotAWeightFileError(
            f"{path} is empty: the download never began, or its disk was full. Download it again."
        )
    # These first: torch takes for a zip what begins as one, though it were a header of safetensors as well.
    container = next((name for beginning, name in _CONTAINERS if first.startswith(beginning)), None)
    if container:
        return container
    if _is_tar(first):  # Before 2017 torch wrote tar archives, and still reads them, whatever else they look like.
        raise NotAWeightFileError(f"{path} is not a weight file but a tar archive. {_UNPACK}.")
    if _begins_like_safetensors(first):
        return SAFETENSORS
    if first[:1] == b"\x80" and first[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return PICKLE
    text = first.lstrip(b"\xef\xbb\xbf" + _SPACE).lower()
    for foreign in _FOREIGN:
        if text.startswith(foreign.beginning):
            raise NotAWeightFileError(f"{path} is not a weight file but {foreign.what}. {foreign.remedy}.")
    if not first.strip(b"\x00"):
        raise NotAWeightFileError(
            f"{path} begins with {len(first)} zero bytes: its place was reserved, and the download never filled it. "
            "Download it again."
        )
    decoded = _as_text(first)
    if decoded and path.suffix not in PICKLE_SUFFIXES:
        raise NotAWeightFileError(
            f"{path} is not a weight file but text that begins {decoded[:60]!r}, perhaps a server's answer to a "
            f"request that it refused. {_FROM_BROWSER}."
        )
    if path.suffix == ".safetensors":
        return SAFETENSORS
    if path.suffix in PICKLE_SUFFIXES:
        return PICKLE  # Protocols 0 and 1 begin with any of several letters.
    raise NotAWeightFileError(
        f"{path} is not a weight file: its beginning is that of no format known here (safetensors, torch, GGUF, HDF5). "
        f"{_NO_WEIGHTS}."
    )


def _begins_like_safetensors(first: bytes) -> bool:
    # A header below 4 GB leaves the upper half of its length zero; then comes JSON. No other format begins so.
    return len(first) > 8 and first[4:8] == bytes(4) and first[8:].lstrip(_SPACE)[:1] == b"{"


def _is_tar(first: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(first[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except tarfile.HeaderError:  # Too short, or its checksum is another one.
        return first[257:262] == b"ustar"
    return True


def _as_text(first: bytes) -> str:
    """Return the bytes as text in UTF-8; nothing if they are none. The last character may be cut off."""
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(first)
    except UnicodeDecodeError:
        return ""
    return text if all(character.isprintable() or character.isspace() for character in text) else ""
