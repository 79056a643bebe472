"""The numbers in a safetensors file: single ones, such as a LoRA's alphas, and a search for those that are none."""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from aigc_helpers.formats.safetensors_header import BITS, SafetensorsHeader, StoredTensor

_BLOCK = 1 << 22  # Bytes read at once.
_STRUCT_CODES = {"F16": "<e", "F32": "<f", "F64": "<d", "I64": "<q", "I32": "<i", "I16": "<h", "I8": "<b", "U8": "<B"}
# A float whose exponent has all bits set is infinite or not a number. Per dtype: the integer it is read as, those bits.
_EXPONENTS = {"F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80), "F32": ("<u4", 0x7F800000), "F64": ("<u8", 0x7FF << 52)}


class Hashes(NamedTuple):
    """``sha256`` of the whole file; ``sshs_model_hash`` of all after the header, as kohya's trainer writes it."""

    sha256: str
    sshs_model_hash: str


def read_numbers(path: Path, header: SafetensorsHeader, names: Iterable[str]) -> dict[str, float | None]:
    """Return the value of each tensor that holds one number; None if it holds more, or its dtype is no usual one.

    Args:
        path: the file, which is opened once.
        header: of the file.
        names: of tensors in it.

    Example:
        >>> import numpy
        >>> from pathlib import Path
        >>> from safetensors.numpy import save_file
        >>> from aigc_helpers.formats import read_header
        >>> save_file({"alpha": numpy.array(4.0), "up": numpy.array([1, numpy.nan])}, "lora.safetensors")
        >>> header = read_header(Path("lora.safetensors"))
        >>> read_numbers(Path("lora.safetensors"), header, ["alpha", "up"])
        {'alpha': 4.0, 'up': None}
    """
    with path.open("rb") as opened:
        return {name: _read_number(opened, header.data_start, header.tensors[name]) for name in names}


def _read_number(opened: BinaryIO, data_start: int, tensor: StoredTensor) -> float | None:
    if math.prod(tensor.shape) != 1 or tensor.dtype not in {*_STRUCT_CODES, "BF16"}:
        return None
    opened.seek(data_start + tensor.begin)
    raw = opened.read(tensor.end - tensor.begin)
    if tensor.dtype == "BF16":
        raw = b"\x00\x00" + raw  # A bfloat16 is the upper half of a float32.
    return float(struct.unpack(_STRUCT_CODES.get(tensor.dtype, "<f"), raw)[0])


def hash_file(path: Path, header: SafetensorsHeader) -> Hashes:
    """Read the whole file once, in constant memory.

    Example:
        >>> import numpy
        >>> from pathlib import Path
        >>> from safetensors.numpy import save_file
        >>> from aigc_helpers.formats import read_header
        >>> save_file({"alpha": numpy.array(4.0), "up": numpy.array([1, numpy.nan])}, "lora.safetensors")
        >>> header = read_header(Path("lora.safetensors"))
        >>> hash_file(Path("lora.safetensors"), header)._fields
        ('sha256', 'sshs_model_hash')
    """
    whole, after_header = hashlib.sha256(), hashlib.sha256()
    with path.open("rb") as opened:
        whole.update(opened.read(header.data_start))
        while block := opened.read(_BLOCK):
            whole.update(block)
            after_header.update(block)
    return Hashes(whole.hexdigest(), after_header.hexdigest())


def count_non_finite(path: Path, header: SafetensorsHeader) -> dict[str, int]:
    """Return the tensors that hold NaN or infinite numbers, and how many. Reads the whole file in constant memory.

    8-bit floats are not looked at.

    Example:
        >>> import numpy
        >>> from pathlib import Path
        >>> from safetensors.numpy import save_file
        >>> from aigc_helpers.formats import read_header
        >>> save_file({"alpha": numpy.array(4.0), "up": numpy.array([1, numpy.nan])}, "lora.safetensors")
        >>> header = read_header(Path("lora.safetensors"))
        >>> count_non_finite(Path("lora.safetensors"), header)
        {'up': 1}
    """
    found = {}
    with path.open("rb") as opened:
        for name, tensor in header.tensors.items():
            if tensor.dtype not in _EXPONENTS:
                continue
            integer, exponent = _EXPONENTS[tensor.dtype]
            opened.seek(header.data_start + tensor.begin)
            count, left = 0, tensor.end - tensor.begin
            while left and (block := opened.read(min(_BLOCK, left))):
                left -= len(block)
                count += int(np.count_nonzero((np.frombuffer(block, integer) & exponent) == exponent))
            if count:
                found[name] = count
    return found


def dtypes_not_checked(header: SafetensorsHeader) -> list[str]:
    """Return the floating-point dtypes in the file that ``count_non_finite`` does not look at.

    Example:
        >>> import numpy
        >>> from pathlib import Path
        >>> from safetensors.numpy import save_file
        >>> from aigc_helpers.formats import read_header
        >>> save_file({"alpha": numpy.array(4.0), "up": numpy.array([1, numpy.nan])}, "lora.safetensors")
        >>> header = read_header(Path("lora.safetensors"))
        >>> dtypes_not_checked(header)
        []
    """
    dtypes = {tensor.dtype for tensor in header.tensors.values()}
    return sorted(dtype for dtype in dtypes if dtype.startswith(("F", "C")) and dtype not in _EXPONENTS and BITS[dtype])
