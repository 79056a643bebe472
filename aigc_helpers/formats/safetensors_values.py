"""The numbers in a safetensors file: single ones, such as a LoRA's alphas, and a search for those that are none."""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, NamedTuple

from aigc_helpers.formats.safetensors_header import BITS, SafetensorsHeader, StoredTensor

_BLOCK = 1 << 22  # Bytes read at once.
_STRUCT_CODES = {"F16": "<e", "F32": "<f", "F64": "<d", "I64": "<q", "I32": "<i", "I16": "<h", "I8": "<b", "U8": "<B"}
# A float whose exponent has all bits set is infinite or not a number. Per dtype: the integer it is read as, those bits.
_EXPONENTS = {"F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80), "F32": ("<u4", 0x7F800000), "F64": ("<u8", 0x7FF << 52)}


# 8-bit floats: bits of the exponent and of the mantissa, what the exponent is counted from, and whether they end in
# infinity as IEEE's do (E4M3FN has only NaN, of all ones; the FNUZ kinds have NaN where the others have minus zero).
_SMALL_FLOATS = {
    "F8_E4M3": (4, 3, 7),
    "F8_E5M2": (5, 2, 15),
    "F8_E4M3FNUZ": (4, 3, 8),
    "F8_E5M2FNUZ": (5, 2, 16),
    "F8_E8M0": (8, 0, 127),
}


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
    if math.prod(tensor.shape) != 1 or tensor.dtype not in {*_STRUCT_CODES, *_SMALL_FLOATS, "BF16"}:
        return None
    opened.seek(data_start + tensor.begin)
    raw = opened.read(tensor.end - tensor.begin)
    if tensor.dtype in _SMALL_FLOATS:
        return _small_float(raw[0], tensor.dtype)
    if tensor.dtype == "BF16":
        raw = b"\x00\x00" + raw  # A bfloat16 is the upper half of a float32.
    return float(struct.unpack(_STRUCT_CODES.get(tensor.dtype, "<f"), raw)[0])


def _small_float(byte: int, dtype: str) -> float:
    exponent_bits, mantissa_bits, bias = _SMALL_FLOATS[dtype]
    if dtype == "F8_E8M0":  # A power of two, and no sign.
        return math.nan if byte == 0xFF else 2.0 ** (byte - bias)
    sign = -1.0 if byte & 0x80 else 1.0
    exponent, mantissa = (byte & 0x7F) >> mantissa_bits, byte & ((1 << mantissa_bits) - 1)
    if dtype.endswith("FNUZ") and byte == 0x80 or dtype == "F8_E4M3" and byte & 0x7F == 0x7F:
        return math.nan
    if dtype == "F8_E5M2" and exponent == (1 << exponent_bits) - 1:
        return math.nan if mantissa else sign * math.inf
    if not exponent:
        return sign * mantissa * 2.0 ** (1 - bias - mantissa_bits)
    return sign * (1 + mantissa / (1 << mantissa_bits)) * 2.0 ** (exponent - bias)


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
    import numpy as np  # A tenth of a second, which a look at a header alone should not cost.

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
