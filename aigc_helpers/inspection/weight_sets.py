"""Which of the weight files in one folder belong together: shards with their index, and variants beside them.

A folder may hold a model several times: in whole precision, and as a variant such as fp16, each in one file or in
shards. The variant's name stands before the shard's number or after it, and in the index's name before "index" or after
it, as the library and its year had it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from aigc_helpers.errors import ReaderError
from aigc_helpers.formats import MalformedFileError, quoted
from aigc_helpers.inspection.json_files import read_object

# The names that libraries look for first; a folder may also hold variants such as model.fp16.safetensors.
USUAL_NAMES = (
    *("model", "diffusion_pytorch_model", "adapter_model", "pytorch_lora_weights", "pytorch_model"),
    "tf_model",
)
_SHARD = re.compile(r"-\d{5}-of-\d{5}")
_INDEX = re.compile(r"\.index(\.\w+)?\.json$")
_SUFFIX = re.compile(r"\.(safetensors|bin|pt|pth|ckpt|h5|gguf)(?=\.|$)")
_MOST_NAMED = 5


class WeightSet(NamedTuple):
    """Weight files that are one model.

    Attributes:
        name: that they have in common, with the variant: ``diffusion_pytorch_model.fp16``.
        path: what names all of them: the index of shards, or the one file.
        files: the weight files.
    """

    name: str
    path: Path
    files: list[Path]


def is_index(path: PurePath) -> bool:
    """Say whether a file is called like the index of a set of shards.

    Example:
        >>> from pathlib import Path
        >>> is_index(Path("model.safetensors.index.json")), is_index(Path("config.json"))
        (True, False)
    """
    return _INDEX.search(path.name) is not None


def name_of_set(file_name: str) -> str:
    """Return the name that a weight file has in common with the other shards of its set, and with their index.

    Example:
        >>> name_of_set("model.fp16-00001-of-00002.safetensors"), name_of_set("model.safetensors.index.fp16.json")
        ('model.fp16', 'model.fp16')
    """
    return _SUFFIX.sub("", _INDEX.sub(r"\1", _SHARD.sub("", file_name)))


def sets_in(folder: Path, suffixes: Sequence[str]) -> list[WeightSet]:
    """Return the sets of weight files of some suffixes in a folder.

    Raises:
        MalformedFileError: an index names what lies elsewhere, or is no JSON.

    Example:
        >>> from aigc_helpers.paths import DATA
        >>> [found.name for found in sets_in(DATA / "poet", [".safetensors"])]
        ['model']
    """
    inside = sorted(path for path in folder.iterdir() if path.is_file())
    sets = [found for path in inside if is_index(path) and (found := shards_of(path, suffixes))]
    sharded = {file for found in sets for file in found.files}
    single = [path for path in inside if path.suffix in suffixes and path not in sharded]
    return [*sets, *(WeightSet(name_of_set(path.name), path, [path]) for path in single)]


def shards_of(index: Path, suffixes: Sequence[str]) -> WeightSet | None:
    """Return the set that an index names; None if it is none of these suffixes.

    Raises:
        MalformedFileError: it names what lies elsewhere, or is no JSON.
    """
    places = read_object(index).get("weight_map")
    names = sorted({str(name) for name in places.values()}) if isinstance(places, dict) else []
    if not names or Path(names[0]).suffix not in suffixes:
        return None
    for name in names:
        if not is_plain(name):
            raise MalformedFileError(f"{index} names a file outside its folder: {quoted(name)}. Do not load it.")
    return WeightSet(name_of_set(index.name), index, [index.parent / name for name in names])


def whole(found: WeightSet) -> list[Path]:
    """Return the files of a set.

    Raises:
        MalformedFileError: the index names one that is not there.
    """
    for file in found.files:
        if not file.is_file():
            raise MalformedFileError(
                f"{found.path} names {quoted(file.name)}, which is not there. Download the missing file."
            )
    return found.files


def choose_set(folder: Path, sets: Sequence[WeightSet]) -> WeightSet:
    """Return the set that libraries take: the one of a usual name, and no variant; shards before a single file.

    Raises:
        ReaderError: none comes first; the message names what can be named.
    """
    indexed = [found for found in sets if is_index(found.path)]
    usual = [found for found in sets if found.name in USUAL_NAMES]
    plain = [found for found in indexed if not _variant(found)]
    for candidates in (sets, usual, plain, indexed):
        if len(candidates) == 1:
            return candidates[0]
    names = ", ".join(found.path.name for found in sets[:_MOST_NAMED]) + (", …" if len(sets) > _MOST_NAMED else "")
    raise ReaderError(f"{folder} holds {len(sets)} weight files: {names}. Name one of them.")


def remarks_on_variants(chosen: WeightSet, sets: Sequence[WeightSet]) -> list[str]:
    """Return sentences about the variants of the chosen set, or about its being one."""
    others = [found for found in sets if found.name.startswith(f"{chosen.name}.")]
    if others:
        listed = ", ".join(f"{_variant(found) or found.name} ({found.path})" for found in others[:_MOST_NAMED])
        return [
            f"{chosen.path.parent.name} holds these weights in variants, too: {listed}. Read was {chosen.path.name}; "
            "name the other's file in its place to have that one."
        ]
    variant = _variant(chosen)
    if not variant:
        return []
    return [f"Only the variant {variant} is here: diffusers and transformers load it with variant={variant!r}."]


def is_plain(name: str) -> bool:
    """Say whether a name leads to a file of the same folder."""
    return name == Path(name).name and name != ".." and "\\" not in name


def _variant(found: WeightSet) -> str:
    """Return the variant's name, as what follows a usual name and a dot; empty if there is none."""
    return next((found.name.removeprefix(f"{name}.") for name in USUAL_NAMES if found.name.startswith(f"{name}.")), "")
