"""Which files of a hub's repository an install needs: one set of safetensors, and what the model is used with."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from aigc_helpers.formats import PICKLE_SUFFIXES
from aigc_helpers.inspection import USUAL_NAMES
from aigc_helpers.store.catalog import SourceError
from aigc_helpers.store.hub import HubFile
from aigc_helpers.store.model_parts import BESIDE_WEIGHTS, LICENCES

_PIPELINE = "model_index.json"
_SHARD = re.compile(r"-\d{5}-of-\d{5}")
_GIGABYTE = 1_000_000_000
_SHOWN = 10


def needed_files(repository: str, files: list[HubFile]) -> list[HubFile]:
    """Return the files to install: no second format, no variant in half precision, no checkpoint beside a pipeline.

    Raises:
        SourceError: the repository holds no safetensors, or several of which one has to be named; the message has the
            command. Nothing was downloaded then.
    """
    weights = [file for file in files if file.name.endswith(".safetensors")]
    if not weights:
        raise _without_safetensors(repository, files)
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
            raise _which(repository, [file for file in weights if _folder(file) == folder])
    if not pipeline and not any(not folder for folder, _ in chosen):
        raise _which(repository, weights)
    return [file for file in files if _is_needed(file, chosen)]


def _is_needed(file: HubFile, chosen: set[tuple[str, str]]) -> bool:
    path = PurePosixPath(file.name)
    if any(part.startswith(".") for part in path.parts):
        return False
    if path.suffix == ".safetensors" or file.name.endswith(".index.json"):
        return (_folder(file), _set_of(file)) in chosen and ".safetensors" in path.suffixes
    return path.suffix in BESIDE_WEIGHTS or path.name in LICENCES


def _folder(file: HubFile) -> str:
    return file.name.rpartition("/")[0]


def _set_of(file: HubFile) -> str:
    """Return the name that a file has in common with the other shards of its set, and with their index."""
    name = file.name.rpartition("/")[2].removesuffix(".index.json")
    return _SHARD.sub("", name.rpartition(".")[0])


def _without_safetensors(repository: str, files: list[HubFile]) -> SourceError:
    gguf = [file for file in files if file.name.endswith(".gguf")]
    if gguf:
        return SourceError(
            f"{repository} holds GGUF files and no safetensors: {_listed(gguf)}. Nothing was downloaded. Name the one "
            f"you want: {_command(repository, gguf[0])}"
        )
    pickles = [file for file in files if PurePosixPath(file.name).suffix in PICKLE_SUFFIXES]
    if pickles:
        return SourceError(
            f"{repository} holds no safetensors but pickles: {_listed(pickles)}. Nothing was downloaded. They are "
            f"converted one by one: {_command(repository, pickles[0])}"
        )
    return SourceError(f"{repository} holds no weights that can be installed. It has: {_listed(files) or 'no file'}")


def _which(repository: str, weights: list[HubFile]) -> SourceError:
    return SourceError(
        f"{repository} holds several weight files: {_listed(weights)}. Nothing was downloaded. Name the one you want: "
        f"{_command(repository, weights[0])}"
    )


def _command(repository: str, file: HubFile) -> str:
    return f"aigc install hub:{repository}/{file.name}"


def _listed(files: list[HubFile]) -> str:
    names = [f"{file.name} ({file.size / _GIGABYTE:.2f} GB)" for file in files[:_SHOWN]]
    return ", ".join(names) + (f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else "")
