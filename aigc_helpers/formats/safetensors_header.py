"""The header of a safetensors file, read as strictly as the library reads it, with the fault named in a sentence.

Such a file is eight bytes with the header's length, the header (JSON: each tensor's dtype, shape and place), and the
tensors' bytes without a gap.
"""

from __future__ import annotations

import codecs
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from aigc_helpers.bounded_json import parse_json
from aigc_helpers.errors import ReaderError
from aigc_helpers.formats.file_kinds import (
    FIRST_BYTES,
    PICKLE_SUFFIXES,
    SAFETENSORS,
    NotAWeightFileError,
    container_of,
)
from aigc_helpers.formats.second_reading import refuse_pickle

LARGEST_HEADER = 100_000_000  # Bytes; the library's own limit.
# A tensor's entry has five texts. The largest models of today have 100,000 tensors, in a hundred files.
_MOST_TEXTS = 600_000
BITS = {
    **{"BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64},
    **{"F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6},
    **{"F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8},
}
_FIELDS = ("dtype", "shape", "data_offsets")
_LARGEST_NUMBER = 2**64 - 1


class MalformedFileError(ReaderError):
    """A weight file that is damaged, or was written wrongly."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file: ``dtype`` as the format names it, and its bytes' place, counted from the header's end."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class SafetensorsHeader:
    """What a header says. ``data_start`` is where the tensors' bytes begin in the file; ``remarks`` are sentences."""

    tensors: dict[str, StoredTensor]
    metadata: dict[str, str]
    data_start: int
    remarks: tuple[str, ...]


class _FaultError(Exception):
    """What is wrong with a header, without the file's name."""


def read_header(path: Path) -> SafetensorsHeader:
    """Read and check the header. Not a byte of the tensors is read.

    What the library accepts although it looks wrong (a name twice, unknown fields, leading white space) is returned
    in ``remarks``.

    Raises:
        NotAWeightFileError: the file is empty or something else, such as a Git LFS pointer or a web page.
        MalformedFileError: the library would refuse the file; the message names the fault and the remedy.

    Example:
        >>> from aigc_helpers import install
        >>> path = install("poet") / "model.safetensors"
        >>> read_header(path).tensors["transformer.wte.weight"].dtype
        'F16'
    """
    size = path.stat().st_size
    with path.open("rb") as opened:
        first = opened.read(FIRST_BYTES)
        container = container_of(path, first)
        if container != SAFETENSORS:
            raise NotAWeightFileError(
                f"{path} is not a safetensors file but has the beginning of a {container} file: it was renamed. "
                "Give it its own suffix back, and let aigc inspect look at it before any program loads it."
            )
        opened.seek(0)
        refuse_pickle(path, container, first, opened)
        try:
            length = _header_length(first, size)
            opened.seek(8)
            raw = opened.read(length)
            tensors, metadata, remarks = _parse(raw)
            _check_places(tensors, size - 8 - length)
        except _FaultError as fault:
            _refuse(path, str(fault))
    return SafetensorsHeader(tensors, metadata, 8 + length, (*remarks, *_remarks_on_name(path)))


def _remarks_on_name(path: Path) -> list[str]:
    if path.suffix.lower() not in PICKLE_SUFFIXES:
        return []
    return [
        f"The file is safetensors, and its name ends in {path.suffix}: programs that go by the name will not load it. "
        f"It should be called {quoted(path.stem + '.safetensors')}, and aigc install calls it so."
    ]


def _refuse(path: Path, fault: str) -> NoReturn:
    raise MalformedFileError(
        f"{path} is no valid safetensors file: {fault}. Download it again; if the fault stays, it lies in the "
        "published file: tell its author."
    )


def _header_length(first: bytes, size: int) -> int:
    if size < 8:
        raise _FaultError(f"it has only {size} bytes, and the length of the header alone takes 8")
    if first.startswith(codecs.BOM_UTF8):
        raise _FaultError(
            "it begins with the byte-order mark of a text in UTF-8: an editor or a script has read it as a text and "
            "saved it, and its numbers are lost"
        )
    (length,) = struct.unpack("<Q", first[:8])
    if length > LARGEST_HEADER:
        raise _FaultError(
            f"its first 8 bytes announce a header of {length:,} bytes, more than the format's limit of 100 MB, so they "
            "are no header length"
        )
    if length > size - 8:
        raise _FaultError(
            f"it is cut off inside the header: {length:,} bytes are announced, {size - 8:,} are there (the download "
            "stopped)"
        )
    return length


def _parse(raw: bytes) -> tuple[dict[str, StoredTensor], dict[str, str], list[str]]:
    header = _as_json(raw)
    if not isinstance(header, tuple):
        raise _FaultError("its header is JSON, but no object")
    remarks = []
    if raw[:1] != b"{":
        remarks.append("The header begins with white space, which the format forbids; the library accepts it.")
    tensors: dict[str, StoredTensor] = {}
    metadata: dict[str, str] | None = None
    for name, value in header:
        _refuse_half_characters(name)
        if name == "__metadata__":
            if metadata is not None:
                raise _FaultError("its header has two entries __metadata__")
            metadata = _metadata(value, remarks)
            continue
        if name in tensors:
            remarks.append(
                f"The header names the tensor {quoted(name)} twice. The library takes the last; another program may "
                "take the first."
            )
        tensors[name] = _tensor(name, value, remarks)
    return tensors, metadata or {}, remarks


def _as_json(raw: bytes) -> Any:  # noqa: ANN401 - whatever JSON can hold; objects as tuples of pairs.
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _FaultError(f"its header is not UTF-8 text (byte {error.start})") from error
    # A tensor's entry takes one brace and two brackets in at least 50 characters. Far denser text, parsed, would take
    # many times its size in memory.
    if text.count("[") + text.count("{") > len(text) // 10 + 1000:
        raise _FaultError("its header is mostly brackets")
    if text.count('"') - text.count('\\"') > 2 * _MOST_TEXTS:
        raise _FaultError("its header lists more tensors or notes than any weight file does")
    try:
        return parse_json(text, object_pairs_hook=tuple, parse_int=_whole_number, parse_constant=_refuse_constant)
    except ValueError as error:
        raise _FaultError(f"its header is not JSON ({str(error)[:200]})") from error


def _whole_number(digits: str) -> int | float:
    return float(digits) if digits == "-0" else int(digits)  # As the library: a minus makes no whole number of 0.


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON number")


def _refuse_half_characters(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _FaultError("its header is not UTF-8 text (it escapes half a surrogate pair)") from error


def _metadata(value: Any, remarks: list[str]) -> dict[str, str]:  # noqa: ANN401 - checked here.
    if not isinstance(value, tuple):
        raise _FaultError("its __metadata__ is no object of texts")
    for key, text in value:
        if not isinstance(text, str):
            raise _FaultError(f"its __metadata__ has a value that is no text: {quoted(key)}")
        _refuse_half_characters(key + text)
    metadata = dict(value)
    if len(metadata) < len(value):
        remarks.append("__metadata__ names a key twice; the library takes the last.")
    return metadata


def _tensor(name: str, value: Any, remarks: list[str]) -> StoredTensor:  # noqa: ANN401 - checked here.
    if not isinstance(value, tuple):
        raise _FaultError(f"the entry of tensor {quoted(name)} is no object")
    fields = dict(value)
    for field in _FIELDS:
        if field not in fields:
            raise _FaultError(f"tensor {quoted(name)} lacks the field {field}")
    if len(value) > len(_FIELDS):
        for field in _FIELDS:
            if sum(key == field for key, _ in value) > 1:
                raise _FaultError(f"tensor {quoted(name)} has the field {field} twice")
        unknown = sorted(set(fields) - set(_FIELDS))
        remarks.append(f"Tensor {quoted(name)} has fields that the format does not know: {quoted(', '.join(unknown))}.")
    dtype, shape, offsets = (fields[field] for field in _FIELDS)
    if not isinstance(dtype, str):
        raise _FaultError(f"the dtype of tensor {quoted(name)} is no text")
    if dtype not in BITS:
        raise _FaultError(f"tensor {quoted(name)} has the dtype {quoted(dtype)}, which the format does not know")
    for field, numbers in (("shape", shape), ("data_offsets", offsets)):
        if not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
            raise _FaultError(f"the {field} of tensor {quoted(name)} is no list of whole numbers")
        if any(number < 0 for number in numbers):
            raise _FaultError(f"the {field} of tensor {quoted(name)} has a negative number")
        if any(number > _LARGEST_NUMBER for number in numbers):
            raise _FaultError(f"the {field} of tensor {quoted(name)} has a number that is too large (overflow)")
    if len(offsets) != 2:
        raise _FaultError(f"the data_offsets of tensor {quoted(name)} are {len(offsets)} numbers instead of 2")
    begin, end = offsets
    if end < begin:
        raise _FaultError(f"tensor {quoted(name)} ends (byte {end:,}) before it begins (byte {begin:,})")
    expected = _bytes_of(name, dtype, shape)
    if end - begin != expected:
        raise _FaultError(
            f"tensor {quoted(name)} of dtype {dtype} and shape {quoted(shape)} takes {expected:,} bytes, but "
            f"{end - begin:,} are set aside for it"
        )
    return StoredTensor(dtype, tuple(shape), begin, end)


def _bytes_of(name: str, dtype: str, shape: list[int]) -> int:
    bits = 1
    for factor in (*shape, BITS[dtype]):  # In the library's order: 2**63 × 4 × 0 overflows there, and so it does here.
        bits *= factor
        if bits > _LARGEST_NUMBER:
            raise _FaultError(
                f"the shape {quoted(shape)} of tensor {quoted(name)} is too large for any file (overflow)"
            )
    if bits % 8:
        raise _FaultError(f"the {bits:,} bits of tensor {quoted(name)} fill no whole number of bytes")
    return bits // 8


def _check_places(tensors: dict[str, StoredTensor], available: int) -> None:
    position, previous = 0, ""
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if tensor.begin < position:
            raise _FaultError(
                f"the tensors {quoted(previous)} and {quoted(name)} overlap: they share bytes of the file"
            )
        if tensor.begin > position:
            raise _FaultError(
                f"there is a hole: {tensor.begin - position:,} bytes before tensor {quoted(name)} belong to no tensor"
            )
        position, previous = tensor.end, name
    if position > available:
        raise _FaultError(
            f"it is cut off: of the tensors' {position:,} bytes {position - available:,} are missing at the end (the "
            "download stopped)"
        )
    if position < available:
        raise _FaultError(f"{available - position:,} bytes after the last tensor belong to no tensor")


def escaped(text: str) -> str:
    """Return a text from a file as ``quoted`` does, without the quotes: for lists of names.

    Example:
        >>> escaped("lora\\x1b[2J")
        'lora\\\\x1b[2J'
    """
    inner = repr(text[:100])[1:-1]
    return inner if len(inner) <= 80 else inner[:79] + "…"


def quoted(value: object) -> str:
    """Return a value from a file as it may be printed: control characters escaped, at most 80 characters.

    Example:
        >>> print(quoted("lora\\x1b[2J"))
        'lora\\x1b[2J'
    """
    text = repr(value if not isinstance(value, str) else value[:100])
    return text if len(text) <= 80 else text[:79] + "…"
