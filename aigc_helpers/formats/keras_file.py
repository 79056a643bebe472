"""A Keras weight file (``.h5``, HDF5) is read with h5py and becomes safetensors with torch's names; no TensorFlow.

Keras stores a dense kernel as inputs × outputs and a convolution's as height × width × inputs × outputs; torch puts the
outputs first. The old TensorFlow classes of transformers name their layers as torch's do, with slashes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aigc_helpers.errors import ReaderError, first_line
from aigc_helpers.formats.file_kinds import FIRST_BYTES, HDF5, NotAWeightFileError, container_of
from aigc_helpers.formats.safetensors_header import MalformedFileError, quoted
from aigc_helpers.formats.safetensors_writing import write_safetensors

if TYPE_CHECKING:
    import h5py
    import numpy as np

_DTYPES = {"f2": "F16", "f4": "F32", "f8": "F64", "b1": "BOOL", "c8": "C64"}
_DTYPES |= {f"{sign}{size}": f"{sign.upper()}{8 * size}" for sign in "iu" for size in (1, 2, 4, 8)}
_LEAVES = {
    **{"kernel": "weight", "embeddings": "weight", "gamma": "weight", "beta": "bias"},
    **{"moving_mean": "running_mean", "moving_variance": "running_var"},
}
_DENSE, _CONVOLUTION = (1, 0), (3, 2, 0, 1)
_TURNED = {2: _DENSE, 4: _CONVOLUTION}  # By the number of dimensions of a kernel.
_WEIGHTS, _OPTIMIZER = "model_weights", "optimizer_weights"  # Of a whole model in one file.
_DEEPEST, _MOST_OBJECTS = 40, 20_000
# Compressed, or never written, a dataset may claim any size: times the file's own, and bytes.
_MOST_GROWTH, _ALWAYS_ADMITTED = 10, 100_000_000
_OWN_FILTERS = range(1, 7)  # deflate, shuffle, fletcher32, szip, n-bit, scale-offset. HDF5 loads others as programs.


@dataclass(frozen=True)
class KerasTensor:
    """A dataset: its ``place`` in the file, and dtype (as safetensors names it) and shape that converting gives it."""

    place: str
    dtype: str
    shape: tuple[int, ...]
    order: tuple[int, ...] | None  # Of the dimensions, where they are turned.


@dataclass(frozen=True)
class KerasFile:
    """What a Keras file holds: ``tensors`` by torch's names; ``remarks`` are sentences."""

    tensors: dict[str, KerasTensor]
    remarks: list[str]


def read_keras_file(path: Path) -> KerasFile:
    """Read names, dtypes and shapes of all datasets, and nothing of their numbers.

    Raises:
        MalformedFileError: the file is damaged, leads out of itself (a link, numbers in another file), or claims more
            than it can hold.
        NotAWeightFileError: it is no HDF5 file, or holds no numbers.

    Example:
        >>> import h5py, numpy
        >>> from pathlib import Path
        >>> with h5py.File("model.h5", "w") as file:
        ...     file["dense/kernel:0"] = numpy.zeros((2, 3))
        >>> read_keras_file(Path("model.h5")).tensors["dense.weight"].shape
        (3, 2)
    """
    with _opened(path) as file:
        return _read(path, file)


def convert_keras_file(source: Path, target: Path) -> list[str]:
    """Write the datasets of a Keras file as safetensors, with torch's names and torch's order of dimensions.

    ``bert/encoder/layer_._0/attention/self/query/kernel:0`` becomes
    ``bert.encoder.layer.0.attention.self.query.weight``, transposed.

    Args:
        source: the weights of a Keras model (``save_weights``), a whole Keras model, or transformers' ``tf_model.h5``.
        target: the safetensors file; written whole or not at all.

    Returns:
        Sentences about what was left out or could not be renamed.

    Raises:
        ReaderError: as ``read_keras_file``, or the disk is full. Nothing is written then.

    Example:
        >>> import h5py, numpy
        >>> from pathlib import Path
        >>> with h5py.File("model.h5", "w") as file:
        ...     file["dense/kernel:0"] = numpy.zeros((2, 3))
        >>> convert_keras_file(Path("model.h5"), Path("model.safetensors"))
        []
        >>> from aigc_helpers.formats import read_header
        >>> list(read_header(Path("model.safetensors")).tensors)
        ['dense.weight']
    """
    from safetensors.numpy import save_file

    with _opened(source) as file:
        found = _read(source, file)
        numbers = {name: _numbers(file[tensor.place], tensor) for name, tensor in found.tensors.items()}
    write_safetensors(save_file, numbers, source, target)
    return found.remarks


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    import h5py

    with path.open("rb") as opened:
        container = container_of(path, opened.read(FIRST_BYTES))
    if container != HDF5:
        raise NotAWeightFileError(f"{path} is no Keras file (HDF5) but has the beginning of a {container} file.")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except ReaderError:
        raise
    except Exception as error:  # A changed byte makes the library raise anything from KeyError to SystemError.
        if isinstance(error, OSError) and error.errno:
            raise  # The disk's fault; HDF5's own errors have no number.
        raise MalformedFileError(
            f"{path} is no valid HDF5 file ({first_line(error)}): the download stopped, or bytes in it were changed. "
            "Download it again."
        ) from error


def _read(path: Path, file: h5py.File) -> KerasFile:
    remarks: list[str] = []
    whole_model = _WEIGHTS in list(file)
    if whole_model and _OPTIMIZER in list(file):
        remarks.append("A whole Keras model: its weights were taken, its optimizer's state and its program left out.")
    tensors: dict[str, KerasTensor] = {}
    unnamed: list[str] = []
    total = 0
    for parts, dataset in _datasets(path, file):
        if whole_model and parts[0] != _WEIGHTS:
            continue
        parts = parts[1:] if whole_model else parts
        dtype = _check(path, dataset)
        name, order = _torch_name(parts, dataset.shape, unnamed)
        if name in tensors:
            raise MalformedFileError(
                f"{path}: {quoted(tensors[name].place)} and {quoted(dataset.name)} would both be called {quoted(name)}."
            )
        shape = tuple(dataset.shape[place] for place in order) if order else _without_row(name, dataset.shape)
        tensors[name] = KerasTensor(dataset.name, dtype, shape, order)
        total += math.prod(shape) * dataset.dtype.itemsize
    if not tensors:
        raise NotAWeightFileError(f"{path} is an HDF5 file without any numbers. Look for the file with the weights.")
    size = path.stat().st_size
    if total > _MOST_GROWTH * size + _ALWAYS_ADMITTED:
        raise MalformedFileError(f"{path} takes {size:,} bytes, but claims to hold {total:,}. Do not load it.")
    if unnamed:
        remarks.append(
            f"Not known, so name and order of dimensions are Keras's own: {', '.join(unnamed[:5])}"
            f"{f' and {len(unnamed) - 5} more' * (len(unnamed) > 5)}."
        )
    return KerasFile(tensors, remarks)


def _datasets(path: Path, root: h5py.Group) -> Iterator[tuple[list[str], h5py.Dataset]]:
    import h5py

    seen = set()
    stack: list[tuple[h5py.Group, list[str]]] = [(root, [])]
    count = 0
    while stack:
        group, parts = stack.pop()
        for name in group:
            count += 1
            link = group.get(name, getlink=True)
            where = quoted(f"{group.name}/{name}")
            if not isinstance(link, h5py.HardLink):
                target = (
                    f"the file {quoted(link.filename)}" if isinstance(link, h5py.ExternalLink) else quoted(link.path)
                )
                raise MalformedFileError(
                    f"{path}: {where} is no data but a link to {target}. No Keras file has one. Do not load it."
                )
            if len(parts) >= _DEEPEST or count > _MOST_OBJECTS:
                raise MalformedFileError(f"{path} nests or holds more than any weight file does (at {where}).")
            item = group[name]
            if isinstance(item, h5py.Dataset):
                yield [*parts, name], item
            elif isinstance(item, h5py.Group):
                address = h5py.h5o.get_info(item.id).addr
                if address in seen:
                    raise MalformedFileError(f"{path}: the group {where} stands in two places. Do not load it.")
                seen.add(address)
                stack.append((item, [*parts, name]))


def _check(path: Path, dataset: h5py.Dataset) -> str:
    where = f"{path}: {quoted(dataset.name)}"
    if dataset.shape is None or dataset.is_virtual or dataset.external:
        raise MalformedFileError(f"{where} has no numbers of its own but points at others. Do not load it.")
    plan = dataset.id.get_create_plist()
    filters = [plan.get_filter(number)[0] for number in range(plan.get_nfilters())]
    if any(each not in _OWN_FILTERS for each in filters):
        raise MalformedFileError(f"{where} is packed by a program that is no part of HDF5 (filter {max(filters)}).")
    kind = f"{dataset.dtype.kind}{dataset.dtype.itemsize}"
    if kind not in _DTYPES:
        raise MalformedFileError(
            f"{where} holds {quoted(str(dataset.dtype))}, and weights are numbers. Do not load it: such values "
            "may hold programs."
        )
    return _DTYPES[kind]


def _torch_name(parts: list[str], shape: tuple[int, ...], unnamed: list[str]) -> tuple[str, tuple[int, ...] | None]:
    """Return torch's name for a place in the file, and the order that its dimensions take."""
    path = "/".join(parts).removesuffix(":0")
    path = re.sub(r"(^|/)[^/]*___", r"\1", path)  # transformers: nsp___cls is cls.
    words = [word for word in path.replace("_._", "/").split("/") if word]  # And layer_._0 is layer.0.
    # Keras puts a layer's tensors into a group of the layer's name, and repeats that name inside; transformers puts the
    # name of the model's class between the two.
    repeated = next((place for place in (2, 1) if words[place:-1][:1] == words[:1]), 0)
    words = words[repeated:]
    leaf, order = words[-1] if words else "", None
    if leaf == "kernel":
        order = _TURNED.get(len(shape))
    if (leaf == "kernel" and order is None) or (leaf not in _LEAVES and leaf not in ("weight", "bias")):
        unnamed.append(quoted("/".join(parts)))
        return ".".join(words), None
    return ".".join([*words[:-1], _LEAVES.get(leaf, leaf)]), order


def _without_row(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    # GPT-2's TensorFlow class keeps biases as one row.
    return shape[1:] if name.endswith("bias") and len(shape) == 2 and shape[0] == 1 else shape


def _numbers(dataset: h5py.Dataset, tensor: KerasTensor) -> np.ndarray:
    import numpy as np

    numbers = dataset[()]
    turned = numbers.transpose(tensor.order) if tensor.order else numbers.reshape(tensor.shape)
    return np.asarray(turned, dtype=turned.dtype.newbyteorder("<"), order="C")
