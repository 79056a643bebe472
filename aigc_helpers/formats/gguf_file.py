"""GGUF, the format of llama.cpp: typed key-value pairs, a list of tensors, and their bytes."""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from aigc_helpers.formats.file_kinds import GGUF
from aigc_helpers.formats.safetensors_header import MalformedFileError, quoted
from aigc_helpers.formats.second_reading import refuse_pickle

_VERSIONS = (2, 3)
_STRING, _ARRAY = 8, 9
_NUMBERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_DEEPEST_ARRAY = 4
_LARGEST_HEADER = 200_000_000  # Bytes; a vocabulary of 150,000 words takes 10 MB.
_MOST_NAMES, _MOST_TEXTS = 100_000, 2_000_000  # Of values and tensors; in arrays, which hold the vocabulary.


@dataclass(frozen=True)
class GgufTensor:
    """``shape`` is in torch's order, the reverse of the file's."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class GgufFile:
    """``values`` are the file's single values, such as ``general.architecture``; its arrays are left out."""

    version: int
    values: dict[str, Any]
    tensors: dict[str, GgufTensor]


@cache
def _types() -> dict[int, tuple[str, int, int]]:
    """Return per type of ggml its name, the numbers in a block, and the bytes of a block."""
    from gguf.constants import GGML_QUANT_SIZES  # Here, for it brings NumPy along.

    return {int(kind): (kind.name, numbers, size) for kind, (numbers, size) in GGML_QUANT_SIZES.items()}


class _FaultError(Exception):
    """What is wrong, without the file's name."""


def read_gguf(path: Path) -> GgufFile:
    """Read the key-value pairs and the tensors' names, types and shapes.

    Raises:
        MalformedFileError: the file is cut off, or not as the format says.

    Example:
        >>> import struct
        >>> from pathlib import Path
        >>> key = b"general.architecture"
        >>> pair = struct.pack("<Q20sIQ5s", len(key), key, 8, 5, b"llama")
        >>> _ = Path("model.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + pair)
        >>> read_gguf(Path("model.gguf")).values
        {'general.architecture': 'llama'}
    """
    try:
        with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            refuse_pickle(path, GGUF, mapped[:1], opened)
            return _Reader(mapped).read()
    except (_FaultError, struct.error, UnicodeDecodeError) as error:
        fault = str(error) if isinstance(error, _FaultError) else "it is cut off, or bytes in it were changed"
        raise MalformedFileError(f"{path} is no valid GGUF file: {fault}. Download it again.") from error


class _Reader:
    def __init__(self, mapped: mmap.mmap) -> None:
        self._mapped = mapped
        self._position = 4  # Behind the letters GGUF.
        self._texts = 0

    def read(self) -> GgufFile:
        version = self._number("<I")
        if version not in _VERSIONS:
            raise _FaultError(f"its version is {version}, and this program knows {_VERSIONS[0]} and {_VERSIONS[1]}")
        tensor_count, pair_count = self._number("<Q"), self._number("<Q")
        if tensor_count + pair_count > _MOST_NAMES:
            raise _FaultError(f"it announces {tensor_count:,} tensors and {pair_count:,} values: no file has so many")
        values = {}
        for _ in range(pair_count):
            key, kind = self._string(), self._number("<I")
            value = self._value(kind)
            if value is not None:
                values[key] = value
        tensors, ends = {}, [0]
        for _ in range(tensor_count):
            name = self._string()
            tensor, end = self._tensor(name)
            if name in tensors:
                raise _FaultError(f"two tensors are called {quoted(name)}")
            tensors[name] = tensor
            ends.append(end)
        alignment = values.get("general.alignment", 32)
        if type(alignment) is not int or alignment < 1:
            raise _FaultError(f"its alignment is {quoted(alignment)}")
        needed = -(-self._position // alignment) * alignment + max(ends)
        if tensors and needed > len(self._mapped):
            raise _FaultError(f"it is cut off: {needed - len(self._mapped):,} of {needed:,} bytes are missing")
        return GgufFile(version, values, tensors)

    def _number(self, code: str) -> Any:  # noqa: ANN401 - int, float or bool.
        (value,) = struct.unpack_from(code, self._mapped, self._position)
        self._skip(struct.calcsize(code))
        return value

    def _string(self) -> str:
        length = self._number("<Q")
        self._skip(length)
        return self._mapped[self._position - length : self._position].decode("utf-8")

    def _skip(self, count: int) -> None:
        if count > len(self._mapped) - self._position:
            raise _FaultError("it is cut off, or a length in it was changed")
        self._position += count
        if self._position > _LARGEST_HEADER:
            raise _FaultError(f"its header takes more than {_LARGEST_HEADER:,} bytes")

    def _value(self, kind: int, depth: int = 0) -> Any:  # noqa: ANN401 - a number, a text, or None for an array.
        if kind in _NUMBERS:
            return self._number(_NUMBERS[kind])
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY or depth > _DEEPEST_ARRAY:
            raise _FaultError(f"a value has the type {kind}, which the format does not know")
        inner, count = self._number("<I"), self._number("<Q")
        if inner in _NUMBERS:
            self._skip(count * struct.calcsize(_NUMBERS[inner]))
            return None
        self._texts += count
        if self._texts > _MOST_TEXTS:
            raise _FaultError("its arrays hold more than any vocabulary has")
        if inner == _STRING:
            for _ in range(count):
                self._skip(self._number("<Q"))
        else:
            for _ in range(count):
                self._value(inner, depth + 1)
        return None

    def _tensor(self, name: str) -> tuple[GgufTensor, int]:
        dimensions = self._number("<I")
        if dimensions > 8:
            raise _FaultError(f"tensor {quoted(name)} has {dimensions} dimensions")
        shape = tuple(self._number("<Q") for _ in range(dimensions))[::-1]
        kind, offset = self._number("<I"), self._number("<Q")
        dtype, numbers, size = _types().get(kind, (f"type {kind}", 1, 0))
        return GgufTensor(dtype, shape), offset + -(-math.prod(shape) // numbers) * size
