"""A torch file (``.ckpt``, ``.pt``, ``.pth``, ``.bin``) becomes safetensors; nothing in its pickle is ever run.

Three gates, each enough to stop a program: our own list of what tensors need, picklescan in its strict mode, and
``torch.load(weights_only=True)``.
"""

from __future__ import annotations

import io
import logging
import math
import warnings
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aigc_helpers.errors import first_few, first_line
from aigc_helpers.formats.file_kinds import FIRST_BYTES, PICKLE, ZIP, NotAWeightFileError, container_of
from aigc_helpers.formats.legacy_classes import class_alone, without_sources
from aigc_helpers.formats.pickle_program import UnsafePickleError
from aigc_helpers.formats.safetensors_header import MalformedFileError, quoted
from aigc_helpers.formats.safetensors_writing import write_safetensors
from aigc_helpers.formats.torch_file import INERT, bounded_names, pickles_of, read_torch_file, reading_zip

if TYPE_CHECKING:
    import torch

# What torch writes for parameters, settings and 8-bit numbers. picklescan's strict mode admits only what plain tensors
# need; torch.load(weights_only=True) admits these, too.
_ADMITTED_BESIDES = {
    "__builtin__.set",
    "builtins.set",
    "collections.Counter",
    "collections.defaultdict",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v3",
    "torch.storage.UntypedStorage",
    *(f"torch.{name}" for name in ("Size", "device", "float16", "bfloat16", "float32", "float64", "int64")),
    *(f"torch.{name}" for name in ("float8_e4m3fn", "float8_e5m2", "uint16", "uint32", "uint64")),
}
_ADMITTED_BESIDES |= {f"{module}.{name}" for module, names in INERT.items() for name in names}
_MOST_NAMED = 5
_DEEPEST = 3
_LONGEST_SHOWN = 100  # Characters.
# Tensors that share their memory are written once each. A file of a few bytes may name a tensor without end so.
_MOST_GROWTH, _ALWAYS_ADMITTED = 4, 100_000_000  # Times the file's size, and bytes.


def convert_torch_file(source: Path, target: Path) -> list[str]:
    """Write the tensors of a torch file as safetensors, bit by bit as they are.

    ``state_dict`` of a checkpoint is taken, dictionaries inside it are joined with dots, and every tensor is written
    whole, also those that share their memory. The file is read through a memory map where torch can do so.

    Args:
        source: a file that ``torch.save`` wrote, as a zip or in the row of pickles of torch before 1.6.
        target: the safetensors file; written whole or not at all.

    Returns:
        Sentences about what was left out, joined or made larger.

    Raises:
        UnsafePickleError: the pickle would run what no tensor needs; the message names module and function.
        ReaderError: the file is damaged, holds no tensors, or such as safetensors has no place for; or the disk is
            full.

    Example:
        >>> import torch
        >>> from pathlib import Path
        >>> torch.save({"weight": torch.zeros(2, 3)}, "model.ckpt")
        >>> convert_torch_file(Path("model.ckpt"), Path("model.safetensors"))
        []
        >>> from aigc_helpers.formats import read_header
        >>> read_header(Path("model.safetensors")).tensors["weight"].shape
        (2, 3)
    """
    with source.open("rb") as opened:
        container = container_of(source, opened.read(FIRST_BYTES))
    if container not in (ZIP, PICKLE):
        raise NotAWeightFileError(f"{source} is no torch file but has the beginning of a {container} file.")
    read_torch_file(source, container)
    _scan(source, container)
    remarks: list[str] = []
    tensors = _state_dict(source, _load(source, container), remarks)
    _check_growth(source, tensors)
    _write(source, target, tensors, remarks)
    return remarks


def _scan(path: Path, container: str) -> None:
    from picklescan.scanner import SafetyLevel, scan_pickle_bytes

    # It warns of each name by itself; what is said here says more.
    logging.getLogger("picklescan").setLevel(logging.CRITICAL)
    for _, raw in pickles_of(path, container):
        result = scan_pickle_bytes(io.BytesIO(raw), str(path), strict=True)
        found = {f"{each.module}.{each.name}" for each in result.globals if each.safety is not SafetyLevel.Innocuous}
        unexpected = sorted(found - _ADMITTED_BESIDES)
        if unexpected or result.scan_err:
            names = ", ".join(map(quoted, unexpected[:_MOST_NAMED])) or "what cannot be read to its end"
            raise UnsafePickleError(
                f"{path} is refused: picklescan, in its strict mode, does not know {names} as part of tensors. "
                "Nothing was run. Look for the same weights as safetensors."
            )


def _load(path: Path, container: str) -> Any:  # noqa: ANN401 - whatever stands in the file.
    import torch
    from torch.serialization import safe_globals

    stand_ins: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
        # torch sets items of a plain dictionary alone, which is what an AttributeDict has.
        (dict if name == "AttributeDict" else _StandIn, f"{module}.{name}")
        for module, names in INERT.items()
        for name in names
    ]
    stand_ins.append(class_alone)
    if container == ZIP:
        with reading_zip(path) as archive:
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise MalformedFileError(f"{path} is packed as torch never packs. Download it again, as safetensors.")
    try:
        with warnings.catch_warnings(), safe_globals(stand_ins):
            warnings.simplefilter("ignore")  # Of old storage classes, which the file's author chose.
            source = path if container == ZIP else _without_sources(path)
            return torch.load(source, map_location="cpu", weights_only=True, mmap=container == ZIP)
    except Exception as error:  # A changed byte makes torch raise anything from KeyError to MemoryError.
        raise MalformedFileError(
            f"{path} cannot be opened by torch.load(weights_only=True) ({first_line(error)}). It is damaged, or holds "
            "more than tensors. Download it again, as safetensors if there is a choice."
        ) from error


def _without_sources(path: Path) -> Path | io.BytesIO:
    """Return the file, or its content with each class of a module named alone if it has any."""
    written = [raw for _, raw in pickles_of(path, PICKLE)]
    changed = [without_sources(raw) for raw in written]
    if changed == written:
        return path
    with path.open("rb") as opened:
        opened.seek(sum(map(len, written)))
        return io.BytesIO(b"".join(changed) + opened.read())


class _StandIn(dict):
    """In the place of an inert class, which is never imported: empty, or what a ParameterDict holds."""

    def __new__(cls, *_: object) -> _StandIn:
        return super().__new__(cls)

    def __init__(self, *_: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        parameters = state.get("_parameters") if isinstance(state, dict) else None
        self.update(parameters if isinstance(parameters, dict) else {})


def _state_dict(path: Path, value: Any, remarks: list[str]) -> dict[str, torch.Tensor]:  # noqa: ANN401 - as loaded.
    if isinstance(value, dict) and isinstance(value.get("state_dict"), dict):
        others = [quoted(name) for name in value if name != "state_dict"]
        beside = f" Left out beside it: {first_few(others, _MOST_NAMED)}." if others else ""
        remarks.append(f"A checkpoint: its entry 'state_dict' was taken.{beside}")
        value = value["state_dict"]
    left_out: list[str] = []
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in bounded_names(path, _walk(value, left_out, set())):
        if name in tensors:
            raise MalformedFileError(f"{path} holds two tensors that would both be called {quoted(name)}.")
        tensors[name] = tensor
    if not tensors:
        raise NotAWeightFileError(
            f"{path} holds no named tensors (what stands in it is of type {type(value).__name__}). Look for the file "
            "with the state_dict."
        )
    if left_out:
        remarks.append(f"Left out, for they are no tensors: {first_few(left_out, _MOST_NAMED)}.")
    return tensors


def _walk(
    value: Any,  # noqa: ANN401 - whatever stands in the file.
    left_out: list[str],
    seen: set[int],
    prefix: str = "",
    depth: int = 0,
) -> Iterator[tuple[str, torch.Tensor]]:
    import torch

    # A hostile file may put one dictionary into another a thousand times, and so on: each is looked at once.
    seen.add(id(value))
    for name, item in value.items() if isinstance(value, dict) else ():
        if isinstance(item, torch.Tensor) and isinstance(name, str):
            yield prefix + name, item.detach()
        elif isinstance(item, dict) and isinstance(name, str) and depth < _DEEPEST and id(item) not in seen:
            yield from _walk(item, left_out, seen, f"{prefix}{name}.", depth + 1)
        else:  # Cut first: joined a million times, a name of a million letters takes for ever.
            left_out.append(quoted(prefix[:_LONGEST_SHOWN] + str(name)[:_LONGEST_SHOWN]))


def _check_growth(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    needed = sum(math.prod(tensor.shape) * tensor.element_size() for tensor in tensors.values())
    size = path.stat().st_size
    if needed > _MOST_GROWTH * size + _ALWAYS_ADMITTED:
        raise MalformedFileError(
            f"{path} takes {size:,} bytes, but its tensors, which share their memory, would take {needed:,} when "
            "written out. Nothing was written."
        )


def _write(source: Path, target: Path, tensors: dict[str, torch.Tensor], remarks: list[str]) -> None:
    from safetensors.torch import save_file

    shared = _sharing_memory(tensors)
    if shared:
        groups = first_few(shared, _MOST_NAMED, lambda names: " = ".join(map(quoted, names)))
        remarks.append(f"These share their memory in the torch file; each was written by itself: {groups}.")
    copied = {name for names in shared for name in names[1:]}
    strided = [name for name, tensor in tensors.items() if not tensor.is_contiguous()]
    if strided:
        remarks.append(f"Rearranged in memory, the numbers are the same: {first_few(strided, _MOST_NAMED, quoted)}.")
    # A copy only where the format asks for one; the others are written straight from the file's memory map.
    whole = {name: (tensor.clone() if name in copied else tensor).contiguous() for name, tensor in tensors.items()}
    write_safetensors(save_file, whole, source, target)


def _sharing_memory(tensors: dict[str, torch.Tensor]) -> list[list[str]]:
    by_storage = defaultdict(list)
    for name, tensor in tensors.items():
        if tensor.numel():
            by_storage[tensor.untyped_storage().data_ptr()].append(name)
    return [names for names in by_storage.values() if len(names) > 1]
