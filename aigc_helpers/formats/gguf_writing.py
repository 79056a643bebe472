"""Writing GGUF with llama.cpp's own package: a new file, or a copy of one in which some tensors are others."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aigc_helpers.errors import ReaderError
from aigc_helpers.files import replacing
from aigc_helpers.formats.gguf_file import read_gguf
from aigc_helpers.formats.safetensors_header import quoted

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
    from gguf.gguf_reader import ReaderField, ReaderTensor
    from numpy.typing import NDArray

# What becomes of a tensor's numbers (outputs × inputs): bytes or halves, as ``encode_gguf`` makes them.
Change = Callable[["NDArray[np.float32]"], "NDArray[np.uint8] | NDArray[np.float16]"]


class _Written(np.ndarray):
    """An array that a full disk does not swallow: numpy's own ``tofile`` loses what is not taken, without an error."""

    def tofile(self, *into: Any, **_: object) -> None:  # noqa: ANN401 - the package gives it an open file.
        """Write the bytes, as the package has it done."""
        into[0].write(np.ascontiguousarray(self).data)


def write_gguf(
    target: Path, architecture: str, values: Mapping[str, str | int | float], tensors: Mapping[str, NDArray[np.float32]]
) -> None:
    """Write a GGUF file, whole or not at all.

    Args:
        target: the file.
        architecture: of the model, as llama.cpp calls it (``general.architecture``).
        values: key by key: texts, whole numbers as uint32, others in float32.
        tensors: by name, written in float32.

    Raises:
        ReaderError: the disk is full, or the folder not writable.

    Example:
        >>> import numpy as np
        >>> from pathlib import Path
        >>> from aigc_helpers.formats import read_gguf
        >>> write_gguf(Path("some.gguf"), "llama", {"general.type": "adapter"}, {"a": np.ones((2, 3), np.float32)})
        >>> read_gguf(Path("some.gguf")).tensors
        {'a': GgufTensor(dtype='F32', shape=(2, 3))}
    """
    from gguf import GGUFWriter

    with replacing(target) as unfinished, closing(GGUFWriter(unfinished, architecture)) as writer:
        for key, value in values.items():
            if isinstance(value, str):
                writer.add_string(key, value)
            elif isinstance(value, int):
                writer.add_uint32(key, value)
            else:
                writer.add_float32(key, value)
        for name, tensor in tensors.items():
            writer.add_tensor(name, tensor.view(_Written))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()


def encode_gguf(
    values: NDArray[np.float32], dtype: str
) -> tuple[NDArray[np.uint8] | NDArray[np.float16], NDArray[np.float32]]:
    """Return numbers as a GGUF file stores them, and what a program then reads.

    Args:
        values: outputs × inputs.
        dtype: ``"F16"``, or ``"Q8_0"``: 32 inputs share a scale, and each is a whole number of 8 bits.

    Example:
        >>> import numpy as np
        >>> stored, read = encode_gguf(np.linspace(-1, 1, 32, dtype=np.float32).reshape(1, 32), "Q8_0")
        >>> stored.shape, float(abs(read[0, 0] + 1)) < 0.001
        ((1, 34), True)
    """
    from gguf import GGMLQuantizationType, dequantize, quantize

    with np.errstate(over="ignore"):  # What is read then says it: infinity.
        stored = quantize(values, GGMLQuantizationType[dtype])
    return stored, dequantize(stored, GGMLQuantizationType[dtype])


def copy_gguf(source: Path, target: Path, changes: Mapping[str, Change], dtype: str) -> None:
    """Copy a GGUF file, whole or not at all: every key with its value and type, in order, and the tensors.

    Those that are not changed keep their bytes. One tensor at a time is in memory.

    Args:
        source: the file.
        target: the copy.
        changes: by name of a tensor, what becomes of it.
        dtype: that the changed tensors are stored in, ``"F16"`` or ``"Q8_0"``.

    Raises:
        ReaderError: the source is damaged, or holds what llama.cpp's package cannot read or write; or the disk is full,
            or the folder not writable.

    Example:
        >>> import numpy as np
        >>> from pathlib import Path
        >>> from aigc_helpers.formats import encode_gguf, read_gguf, write_gguf
        >>> write_gguf(Path("some.gguf"), "llama", {}, {"a": np.ones((2, 32), np.float32)})
        >>> changes = {"a": lambda values: encode_gguf(2 * values, "Q8_0")[0]}
        >>> copy_gguf(Path("some.gguf"), Path("doubled.gguf"), changes, "Q8_0")
        >>> read_gguf(Path("doubled.gguf")).tensors
        {'a': GgufTensor(dtype='Q8_0', shape=(2, 32))}
    """
    from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter

    architecture = str(read_gguf(source).values.get("general.architecture", ""))  # Says in a sentence what is damaged.
    reader, kind = GGUFReader(source), GGMLQuantizationType[dtype]
    with replacing(target) as unfinished, closing(GGUFWriter(unfinished, architecture)) as writer:
        writer.kv_data[0].clear()  # It has put the architecture first, wherever it stands in the source.
        writer.data_alignment = int(reader.alignment)
        for field in reader.fields.values():
            _copy_field(field, writer, source)
        for tensor in reader.tensors:
            shape, dtype_in_memory, stored_as = tensor.data.shape, tensor.data.dtype, tensor.tensor_type
            if tensor.name in changes:
                # In bytes: of these the writer works out how many numbers they are.
                shape, dtype_in_memory, stored_as = _bytes(tensor, kind, source), reader.data.dtype, kind
            length = math.prod(shape) * dtype_in_memory.itemsize
            writer.add_tensor_info(tensor.name, shape, dtype_in_memory, length, stored_as)
        _write(reader, writer, changes, source)


def _write(reader: GGUFReader, writer: GGUFWriter, changes: Mapping[str, Change], source: Path) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in reader.tensors:
        change = changes.get(tensor.name)
        stored = tensor.data if change is None else change(_values(tensor, source))
        writer.write_tensor_data(stored.view(_Written))


def _bytes(tensor: ReaderTensor, kind: GGMLQuantizationType, source: Path) -> tuple[int, ...]:
    """Return the shape of a tensor in bytes, once it is stored in another way."""
    from gguf.constants import GGML_QUANT_SIZES

    numbers, size = GGML_QUANT_SIZES[kind]
    *rows, inputs = map(int, tensor.shape[::-1])
    if inputs % numbers:
        raise ReaderError(
            f"{source}: the rows of {quoted(tensor.name)} have {inputs} numbers, and {kind.name} stores them by "
            f"{numbers}. Choose F16. Nothing was written."
        )
    return (*rows, inputs // numbers * size)


def _values(tensor: ReaderTensor, source: Path) -> NDArray[np.float32]:
    from gguf import dequantize

    try:
        return dequantize(tensor.data, tensor.tensor_type)
    except NotImplementedError as error:
        raise ReaderError(
            f"{source}: {quoted(tensor.name)} is stored as {tensor.tensor_type.name}, which llama.cpp's Python package "
            "cannot read. Take the same model in another quantisation, such as Q8_0. Nothing was written."
        ) from error


def _copy_field(field: ReaderField, writer: GGUFWriter, source: Path) -> None:
    from gguf import GGUFValueType

    if field.name.startswith("GGUF."):  # The reader's own, for version and counts.
        return
    kind, *inner = field.types
    if kind == GGUFValueType.ARRAY and len(inner) != 1:
        raise ReaderError(
            f"{source}: the key {quoted(field.name)} is an empty array or one of arrays, which llama.cpp's Python "
            "package cannot write. Nothing was written. Take the model from another author."
        )
    if GGUFValueType.STRING not in field.types:
        writer.add_key_value(field.name, field.contents(), kind, *inner)
        return
    texts = [field.parts[place].tobytes() for place in field.data]  # As they are: some are no UTF-8.
    writer.add_key_value(field.name, texts if inner else texts[0], kind, *inner)
