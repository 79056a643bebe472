"""torch's own files, ``.pt``, ``.ckpt`` and ``.bin``: a pickle beside raw numbers, in a zip or (until 2020) in a row.

The pickle is read and never run. What it would import is held against a list of what tensors need.
"""

from __future__ import annotations

import io
import math
import mmap
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from aigc_helpers.errors import first_line
from aigc_helpers.formats.file_kinds import ZIP, NotAWeightFileError
from aigc_helpers.formats.pickle_program import (
    LARGEST_PICKLE,
    Call,
    Global,
    Persistent,
    PickleProgram,
    UnsafePickleError,
    read_program,
)
from aigc_helpers.formats.safetensors_header import MalformedFileError, quoted
from aigc_helpers.formats.zip_layout import ambiguity_of

_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What the library raises for changed bytes: a name that is no UTF-8 is a ValueError, a short field a struct.error, a
# place that no file can have an OverflowError.
ZIP_FAULTS = (zipfile.BadZipFile, EOFError, zlib.error, RuntimeError, OSError, ValueError, struct.error, OverflowError)
_PICKLES_BEFORE_THE_NUMBERS = 5
_MOST_DIMENSIONS, _LARGEST_SIZE = 64, 2**63 - 1  # torch's own limits.
_Named = TypeVar("_Named")
_STORAGES = {
    **{"FloatStorage": "F32", "DoubleStorage": "F64", "HalfStorage": "F16", "BFloat16Storage": "BF16"},
    **{"LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8"},
    **{"BoolStorage": "BOOL", "ComplexFloatStorage": "C64", "UntypedStorage": "U8"},
}
# Newer dtypes have no class of storages: their tensors name the dtype itself, as the seventh argument.
_DTYPE_NAMES = _STORAGES | {
    **{"float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "uint16": "U16", "uint32": "U32", "uint64": "U64"},
}
_TORCH_NAMES = {
    *_STORAGES,
    *("Size", "Tensor", "device", "strided", "float16", "bfloat16", "float32", "float64", "int8", "int16", "int32"),
    *("int64", "uint8", "uint16", "uint32", "uint64", "bool", "complex64", "complex128", "ComplexDoubleStorage"),
    *("float8_e4m3fn", "float8_e5m2"),
}
# What a file of tensors needs: about what torch.load(weights_only=True) admits.
_ALLOWED = {
    "collections": {"OrderedDict", "Counter", "defaultdict"},
    "torch": _TORCH_NAMES,
    "torch.storage": {"UntypedStorage", "TypedStorage"},
    "torch._utils": {
        "_rebuild_tensor",
        "_rebuild_tensor_v2",
        "_rebuild_tensor_v3",
        "_rebuild_parameter",
        "_rebuild_parameter_with_state",
    },
    "torch._tensor": {"_rebuild_from_type_v2"},
    "torch.nn.parameter": {"Parameter"},
    "torch.serialization": {"_get_layout"},
    "numpy": {"dtype", "ndarray"},
    "numpy.core.multiarray": {"scalar", "_reconstruct"},
    "numpy._core.multiarray": {"scalar", "_reconstruct"},
    "_codecs": {"encode"},
    "builtins": {"set", "bytearray", "complex", "dict", "list", "tuple", "int", "float", "bool", "str", "bytes"},
}
# Classes of training programs that lie beside the tensors and do nothing there. Nobody imports them: only what a
# ParameterDict holds is read, which is what Textual Inversion's first releases put the words into.
INERT = {
    "torch.nn.modules.container": {"ParameterDict"},
    "pytorch_lightning.callbacks.model_checkpoint": {"ModelCheckpoint"},
    "pytorch_lightning.callbacks.early_stopping": {"EarlyStopping"},
    "lightning.pytorch.callbacks.model_checkpoint": {"ModelCheckpoint"},
    "lightning.pytorch.callbacks.early_stopping": {"EarlyStopping"},
    "argparse": {"Namespace"},
    # What save_hyperparameters() puts the settings into.
    "pytorch_lightning.utilities.parsing": {"AttributeDict"},
    "lightning.pytorch.utilities.parsing": {"AttributeDict"},
    "lightning_fabric.utilities.data": {"AttributeDict"},
    "lightning.fabric.utilities.data": {"AttributeDict"},
}
_ALLOWED["__builtin__"] = _ALLOWED["builtins"]  # Their name in pickles of protocol 2 and below.


@dataclass(frozen=True)
class PickledTensor:
    """A tensor that a pickle names: ``dtype`` as safetensors would name it."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class TorchFile:
    """What a torch file holds.

    Attributes:
        container: torch zip or legacy pickle.
        tensors: by name.
        imports: the dotted names that its pickle would import, all of them allowed.
        inert: those of them that are no part of tensors and do nothing.
    """

    container: str
    tensors: dict[str, PickledTensor]
    imports: tuple[str, ...]
    inert: tuple[str, ...]


def read_torch_file(path: Path, container: str) -> TorchFile:
    """Read names and shapes of the tensors, without running the pickle.

    Args:
        path: the file.
        container: ``"zip"`` or ``"pickle"``, as ``container_of`` returns it.

    Raises:
        NotAWeightFileError: a zip without torch's pickle.
        MalformedFileError: the zip or the pickle is damaged.
        UnsafePickleError: the pickle would import something that tensors do not need; the message names it.

    Example:
        >>> import torch
        >>> from pathlib import Path
        >>> torch.save({"weight": torch.zeros(2, 3)}, "model.ckpt")
        >>> read_torch_file(Path("model.ckpt"), "zip").tensors["weight"].shape
        (2, 3)
    """
    programs = [program for program, _ in pickles_of(path, container)]
    imports = list(dict.fromkeys(each for program in programs for each in program.imports))
    inert = [each for each in imports if each.name in INERT.get(each.module, ())]
    unexpected = [each for each in imports if each.name not in _ALLOWED.get(each.module, ()) and each not in inert]
    if unexpected:
        names = ", ".join(quoted(str(each)) for each in unexpected[:10])
        raise UnsafePickleError(
            f"{path} is unsafe: loading it would run {names}, which no file of tensors needs. Nothing was run. Do not "
            "load it; look for the same weights as safetensors."
        )
    if container == ZIP:
        _refuse_ambiguous_zip(path)
    fault = next((program.fault for program in programs if program.fault), None)
    if fault:
        raise MalformedFileError(
            f"{path} is no valid pickle ({fault}): it is damaged, or something else. Download it again, as safetensors "
            "if there is a choice."
        )
    tensors: dict[str, PickledTensor] = {}
    for program in programs:
        tensors |= dict(bounded_names(path, _tensors(program.value, set())))
    for name, tensor in tensors.items():
        _check_shape(path, name, tensor.shape)
    kind = "torch zip" if container == ZIP else "legacy pickle"
    return TorchFile(kind, tensors, tuple(map(str, imports)), tuple(map(str, inert)))


def bounded_names(path: Path, named: Iterable[tuple[str, _Named]]) -> Iterator[tuple[str, _Named]]:
    """Yield the pairs: one long name before those of ten thousand tensors makes gigabytes of a small file.

    Raises:
        MalformedFileError: the names together are longer than any file's.
    """
    length = 0
    for name, item in named:
        length += len(name)
        if length > LARGEST_PICKLE:
            raise MalformedFileError(
                f"{path} is no valid torch file: the names of its tensors take more than {LARGEST_PICKLE:,} "
                "characters. Do not load it."
            )
        yield name, item


def _check_shape(path: Path, name: str, shape: tuple[int, ...]) -> None:
    if len(shape) > _MOST_DIMENSIONS or math.prod(max(length, 1) for length in shape) > _LARGEST_SIZE:
        raise MalformedFileError(
            f"{path} is no valid torch file: the shape {quoted(shape[:_MOST_DIMENSIONS])} of {quoted(name)} is that of "
            "no tensor. Download it again, as safetensors if there is a choice."
        )


def pickles_of(path: Path, container: str) -> Iterator[tuple[PickleProgram, bytes]]:
    """Yield every pickle of a torch file, read and as bytes; together at most ``LARGEST_PICKLE`` bytes.

    Args:
        path: the file.
        container: ``"zip"`` or ``"pickle"``, as ``container_of`` returns it.

    Raises:
        NotAWeightFileError: a zip without torch's pickle.
        MalformedFileError: the zip is damaged, or its pickles are longer than any of torch's.
        UnsafePickleError: a pickle hides the name of what it would import.
    """
    return _pickles_in_zip(path) if container == ZIP else _pickles_in_row(path)


def _pickles_in_zip(path: Path) -> Iterator[tuple[PickleProgram, bytes]]:
    with reading_zip(path) as archive:
        members = archive.infolist()
        # torch looks for names in any case.
        pickles = [member for member in members if member.filename.lower().endswith(".pkl")]
        if not any(member.filename.rpartition("/")[2] == "data.pkl" for member in pickles):
            _refuse_other_zip(path, members)
        left = LARGEST_PICKLE
        for member in pickles:
            # Every pickle, not only the one that torch opens: TorchScript has several.
            left -= member.file_size
            if left < 0 or member.compress_type not in _COMPRESSIONS:
                raise MalformedFileError(
                    f"{path} is no valid torch file: its pickle {quoted(member.filename)} takes "
                    f"{member.file_size:,} bytes, or is packed as torch never packs. Do not load it."
                )
            with archive.open(member) as opened:
                raw = opened.read(LARGEST_PICKLE)
            yield read_program(path, io.BytesIO(raw)), raw


@contextmanager
def reading_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip whose list of members is no longer than a weight file's.

    Raises:
        MalformedFileError: it is damaged.
    """
    try:
        with LimitedFile(path) as opened_file, zipfile.ZipFile(opened_file) as archive:
            yield archive
    except ZIP_FAULTS as error:
        raise MalformedFileError(
            f"{path} is a zip that cannot be read ({first_line(error)}): the download stopped, or changed it. Download "
            "it again."
        ) from error


def _refuse_ambiguous_zip(path: Path) -> None:
    with reading_zip(path) as archive:
        fault = ambiguity_of(archive)
    if fault:
        raise MalformedFileError(
            f"{path} is a zip that programs read differently: {fault}. So a harmless pickle could be shown here, and "
            "another one be run. Do not load it; look for the same weights as safetensors."
        )


def _refuse_other_zip(path: Path, members: list[zipfile.ZipInfo]) -> None:
    names = [member.filename for member in members]
    what = "a NumPy archive" if names and all(name.endswith(".npy") for name in names) else "a zip archive"
    listed = ", ".join(map(quoted, names[:3])) + (", …" if len(names) > 3 else "")
    raise NotAWeightFileError(
        f"{path} is not a weight file but {what} of {len(names)} files ({listed}). Unpack it and name the weight file "
        "inside."
    )


def _pickles_in_row(path: Path) -> Iterator[tuple[PickleProgram, bytes]]:
    with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        # Mapped, so that reading stops at the file's end whatever length a pickle claims.
        # All five, whatever the first is: a program can compute torch's magic number, and nobody else can tell.
        for _ in range(_PICKLES_BEFORE_THE_NUMBERS):
            start = mapped.tell()
            program = read_program(path, _MappedStream(mapped))
            yield program, mapped[start : mapped.tell()]
            if program.fault or mapped.tell() == len(mapped):
                return


class LimitedFile(io.FileIO):
    """A file that gives a pickle's worth at once: zipfile reads the list of members whole, however long it is."""

    def read(self, size: int | None = -1) -> bytes:
        """Read as much as a file does, or refuse.

        Raises:
            BadZipFile: so much is asked for at once.
        """
        wanted = size if size is not None and size >= 0 else os.fstat(self.fileno()).st_size - self.tell()
        if wanted > LARGEST_PICKLE:
            raise zipfile.BadZipFile("its list of members is longer than any weight file's")
        return super().read(wanted)


class _MappedStream:
    """mmap's readline takes no limit; this one does."""

    def __init__(self, mapped: mmap.mmap) -> None:
        self.read, self.tell, self._mapped = mapped.read, mapped.tell, mapped

    def readline(self, limit: int) -> bytes:
        start = self._mapped.tell()
        end = self._mapped.find(b"\n", start, start + limit)
        return self._mapped.read(end + 1 - start if end >= 0 else limit)


def _tensors(
    value: Any,  # noqa: ANN401 - whatever stands in the pickle.
    seen: set[int],
    prefix: str = "",
    depth: int = 0,
) -> Iterator[tuple[str, PickledTensor]]:
    """Yield the tensors of a state dictionary, and of dictionaries inside it: checkpoints nest two or three deep."""
    # A hostile file may put one dictionary into another a thousand times, and so on: each is looked at once.
    if not isinstance(value, dict) or depth > 3 or id(value) in seen:
        return
    seen.add(id(value))
    for name, item in value.items():
        if isinstance(item, tuple) and not depth:  # The two networks that a hypernetwork has for each width.
            for number, part in enumerate(item[:2]):
                yield from _tensors(part, seen, f"{name}.{number}.", depth + 1)
            continue
        tensor = _tensor(item)
        if tensor:
            yield prefix + name, tensor
        if not isinstance(item, dict):
            continue  # Before its name is joined, which may be long.
        # state_dict is where training programs put the weights; nobody counts it as part of the names.
        below = prefix if name == "state_dict" else f"{prefix}{name}."
        yield from _tensors(item, seen, below, depth + 1)


def _tensor(value: Any) -> PickledTensor | None:  # noqa: ANN401 - whatever stands in the pickle.
    if not isinstance(value, Call) or not isinstance(value.function, Global) or not isinstance(value.arguments, tuple):
        return None
    if value.function.name.startswith("_rebuild_parameter"):
        inner = value.arguments[0] if value.arguments else None
        return _tensor(inner) if not _is_parameter(inner) else None
    if not value.function.name.startswith("_rebuild_tensor") or len(value.arguments) < 3:
        return None
    storage, _, shape = value.arguments[:3]
    if not isinstance(storage, Persistent) or not isinstance(storage.identifier, tuple) or len(storage.identifier) < 2:
        return None
    kind = storage.identifier[1]
    if value.function.name == "_rebuild_tensor_v3" and len(value.arguments) > 6:
        kind = value.arguments[6]
    if not isinstance(shape, tuple):
        return None
    shape = shape[: _MOST_DIMENSIONS + 1]  # One more, for the refusal of too many.
    if not all(type(length) is int and length >= 0 for length in shape):
        return None
    return PickledTensor(_DTYPE_NAMES.get(kind.name, kind.name) if isinstance(kind, Global) else "unknown", shape)


def _is_parameter(value: Any) -> bool:  # noqa: ANN401 - whatever stands in the pickle.
    # One inside another is never written by torch, and a chain of them could be endless.
    return (
        isinstance(value, Call)
        and isinstance(value.function, Global)
        and value.function.name.endswith("_rebuild_parameter")
    )
