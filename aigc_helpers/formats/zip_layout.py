"""Whether a zip can be read in one way only.

A zip says where its files lie in two places, and its readers differ in which they believe: Python's takes the list
that ends before the end record, torch's the list at the offset that the record names; torch finds names in any case,
and takes the first. What one reader was shown to be harmless, another must not find to be something else.
"""

from __future__ import annotations

import os
import struct
import zipfile
from typing import IO, Any

from aigc_helpers.formats.safetensors_header import quoted

_END = struct.Struct("<4s4H2LH")  # The end record: signature, 2 disks, 2 counts, size and offset of the list, comment.
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_LOCAL = struct.Struct("<4s5H3L2H")
_UNICODE_PATH = 0x7075  # An extra field with another name, which Python takes since 3.12, and torch does not.
_ZIP64 = 0x0001
_UTF8 = 1 << 11  # A flag.
_HAS_DESCRIPTOR, _LONGEST_DESCRIPTOR = 1 << 3, 24  # Sizes once more, behind a file.


class _FaultError(Exception):
    """What is wrong, without the file's name."""


def ambiguity_of(archive: zipfile.ZipFile) -> str | None:
    """Return in which way two readers could find different files in an open zip; None if they cannot."""
    opened, members = archive.fp, archive.infolist()
    if opened is None:
        return "it is closed"
    try:
        start = _start_of_list(opened, len(members))
        _check_names(members)
        end = 0
        for member in sorted(members, key=lambda each: each.header_offset):
            _check_gap(member.header_offset - end, end)
            end = _end_of_file(opened, member)
        _check_gap(start - end, end)
    except _FaultError as fault:
        return str(fault)
    except struct.error:
        return "it is cut off, or a length in it was changed"
    return None


def _start_of_list(opened: IO[bytes], members: int) -> int:
    position = opened.seek(0, os.SEEK_END) - _END.size
    mark, *told, comment = _unpack(_END, opened, position)
    if mark != b"PK\x05\x06" or comment:
        raise _FaultError("bytes follow its end record")
    locator = position - _LOCATOR.size
    if locator >= 0 and _unpack(_LOCATOR, opened, locator)[0] == b"PK\x06\x07":
        _, _, where, _ = _unpack(_LOCATOR, opened, locator)
        position = locator - _END_64.size
        mark, length, _, _, *large = _unpack(_END_64, opened, position)
        # What does not fit into the small record is all ones there.
        agreed = all(
            small in (big, 256**width - 1) for small, big, width in zip(told, large, (2, 2, 2, 2, 4, 4), strict=True)
        )
        if mark != b"PK\x06\x06" or where != position or length != _END_64.size - 12 or not agreed:
            raise _FaultError("its two end records contradict each other")
        told = large
    disk, first_disk, count, total, size, offset = told
    if disk or first_disk or count != total or count != members:
        raise _FaultError(f"it announces {total:,} files and lists {members:,}")
    if offset + size != position:
        raise _FaultError("its list of files does not lie where its end record says")
    return offset


def _check_names(members: list[zipfile.ZipInfo]) -> None:
    seen: dict[str, str] = {}
    for member in members:
        name, fields = member.filename, _fields(member.extra)
        if name.casefold() in seen:
            raise _FaultError(f"some programs take {quoted(seen[name.casefold()])} and {quoted(name)} in it for one")
        seen[name.casefold()] = name
        if name != member.orig_filename or fields.count(_ZIP64) > 1 or _UNICODE_PATH in fields:
            raise _FaultError(f"it gives {quoted(name)} a second name or size")


def _check_gap(gap: int, end: int) -> None:
    if gap < 0:
        raise _FaultError("files in it overlap")
    if gap > (_LONGEST_DESCRIPTOR if end else 0):
        raise _FaultError(f"{gap:,} bytes in it belong to no file")


def _end_of_file(opened: IO[bytes], member: zipfile.ZipInfo) -> int:
    """Return where a file ends, by what stands before it, which must be what the list says of it."""
    mark, _, flags, method, _, _, crc, packed, size, *lengths = _unpack(_LOCAL, opened, member.header_offset)
    name, extra = (opened.read(length) for length in lengths)
    encoded = member.orig_filename.encode("utf-8" if flags & _UTF8 else "cp437", "surrogateescape")
    fields = _fields(extra)
    same = (mark, flags, method, name) == (b"PK\x03\x04", member.flag_bits, member.compress_type, encoded)
    if not flags & _HAS_DESCRIPTOR and _ZIP64 not in fields:
        same = same and (crc, packed, size) == (member.CRC, member.compress_size, member.file_size)
    if not same or _UNICODE_PATH in fields:
        raise _FaultError(f"its list says something else of {quoted(member.filename)} than stands where the file lies")
    return member.header_offset + _LOCAL.size + sum(lengths) + member.compress_size


def _fields(extra: bytes) -> list[int]:
    found, position = [], 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        found.append(kind)
        position += 4 + length
    return found


def _unpack(layout: struct.Struct, opened: IO[bytes], position: int) -> tuple[Any, ...]:
    opened.seek(max(position, 0))
    return layout.unpack(opened.read(layout.size))
