"""Which files of a hub's repository an install needs: one set of safetensors, and what the model is used with."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from aigc_helpers.formats import PICKLE_SUFFIXES
from aigc_helpers.inspection import USUAL_NAMES, is_index, name_of_set
from aigc_helpers.store.catalog import SourceError
from aigc_helpers.store.hub_listing import HubFile
from aigc_helpers.store.model_parts import BESIDE_WEIGHTS, LICENCES

_PIPELINE = "model_index.json"
_WEIGHTS = {".safetensors", ".gguf", *PICKLE_SUFFIXES}
# llama.cpp's names of how many bits a number takes.
_QUANTISATION = re.compile(
    r"(?<![A-Za-z0-9])(I?Q\d(_[A-Z0-9]+)*|T?Q\d_\d|BF16|F16|F32|MXFP4(_MOE)?)(?![A-Za-z0-9])", re.I
)
_MEGABYTE, _GIGABYTE = 1_000_000, 1_000_000_000
_SHOWN = 30


def needed_files(address: str, files: list[HubFile]) -> list[HubFile]:
    """Return the files to install: no second format, no variant in half precision, no checkpoint beside a pipeline.

    Args:
        address: of the repository, such as ``hub:owner/name``.
        files: that it lists.

    Raises:
        SourceError: the repository holds no safetensors, or several of which one has to be named; the message has the
            command. Nothing was downloaded then.
    """
    weights = [file for file in files if file.name.endswith(".safetensors")]
    if not weights:
        raise _without_safetensors(address, files)
    pipeline = any(file.name == _PIPELINE for file in files)
    chosen: set[tuple[str, str]] = set()
    for folder in {_folder(file) for file in weights}:
        if pipeline and not folder:
            continue  # The same weights as in the components, in one file.
        sets = {_set_of(file) for file in weights if _folder(file) == folder}
        usual = sets & set(USUAL_NAMES)
        if len(usual or sets) == 1:
            chosen.add((folder, (usual or sets).pop()))
        elif not folder or pipeline:
            raise _several(address, [file for file in weights if _folder(file) == folder])
    if not pipeline and not any(not folder for folder, _ in chosen):
        raise _several(address, weights)
    return [file for file in files if _is_needed(file, chosen)]


def _is_needed(file: HubFile, chosen: set[tuple[str, str]]) -> bool:
    path = PurePosixPath(file.name)
    if any(part.startswith(".") for part in path.parts):
        return False
    if path.suffix == ".safetensors" or is_index(path):
        return (_folder(file), _set_of(file)) in chosen and ".safetensors" in path.suffixes
    return path.suffix in BESIDE_WEIGHTS or path.name in LICENCES


def _folder(file: HubFile) -> str:
    return file.name.rpartition("/")[0]


def _set_of(file: HubFile) -> str:
    return name_of_set(file.name.rpartition("/")[2])


def _several(address: str, weights: list[HubFile]) -> SourceError:
    return which_file(address, weights, f"{address} holds several weight files")


def _without_safetensors(address: str, files: list[HubFile]) -> SourceError:
    if any(file.name.endswith(".gguf") for file in files):
        return which_file(address, files, f"{address} holds GGUF files and no safetensors")
    pickles = [file for file in files if PurePosixPath(file.name).suffix in PICKLE_SUFFIXES]
    if pickles:
        return which_file(address, pickles, f"{address} holds no safetensors but pickles, converted one by one")
    names = ", ".join(file.name for file in files[:_SHOWN]) or "no file"
    return SourceError(f"{address} holds no weights that can be installed. It has: {names}")


def which_file(address: str, files: list[HubFile], reason: str) -> SourceError:
    """Say why one file has to be named, and list those there are, each as ``aigc install`` takes it."""
    weights = [file for file in files if PurePosixPath(file.name).suffix in _WEIGHTS]
    lines = [f"  {address}/{file.name}  ({_about(file)})" for file in weights[:_SHOWN]]
    more = [f"  and {len(weights) - _SHOWN} more"] if len(weights) > _SHOWN else []
    if not weights:
        return SourceError(f"{reason}, and {address} holds none. Nothing was downloaded")
    command = f"aigc install {address}/{weights[0].name}"
    return SourceError(
        "\n".join([f"{reason}. Nothing was downloaded. Name the one you want: {command}", *lines, *more])
    )


def _about(file: HubFile) -> str:
    found = _QUANTISATION.search(PurePosixPath(file.name).stem) if file.name.endswith(".gguf") else None
    size = f"{file.size / _GIGABYTE:.2f} GB" if file.size >= _GIGABYTE else f"{file.size / _MEGABYTE:.1f} MB"
    return f"{found[0].upper()}, {size}" if found else size
