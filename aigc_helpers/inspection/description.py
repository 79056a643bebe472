"""``describe()``: what a weight file is, from its header alone, so that the size of the file does not matter."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aigc_helpers.files import sha256_of
from aigc_helpers.formats import (
    GGUF,
    count_non_finite,
    dtypes_not_checked,
    hash_file,
    quoted,
)
from aigc_helpers.inspection.adapter_facts import AdapterFacts, describe_adapter, remarks_on_adapter
from aigc_helpers.inspection.adapter_keys import Adapter, Shaped
from aigc_helpers.inspection.adapter_parts import adapter_of
from aigc_helpers.inspection.compatibility import Compatibility, compatibility_with_file
from aigc_helpers.inspection.contents import Contents, read_contents
from aigc_helpers.inspection.family import (
    added_part,
    declared_family,
    family_of_adapter,
    family_of_class,
    family_of_embedding,
    family_of_model,
    family_of_type,
    is_textual_inversion,
    part_of_model,
)
from aigc_helpers.inspection.family_table import SDXL
from aigc_helpers.inspection.quantisation import quantisation
from aigc_helpers.inspection.training_metadata import in_plain_words, printable
from aigc_helpers.terminal import visible

_ONE_ARCHITECTURE = (
    "Names and widths tell the architecture of Stable Diffusion XL, not the model: Pony, Illustrious and others share "
    "it. The file's page names the one it was trained on."
)


@dataclass(frozen=True)
class Inspection:
    """What a weight file or folder is.

    Attributes:
        path: the file or folder.
        container: safetensors, torch zip, legacy pickle, GGUF, HDF5, or a diffusers, PEFT or transformers folder.
        kind: such as LoRA, full checkpoint or VAE; None if the names of the tensors do not tell.
        key_format: how an adapter names its layers; None for anything else.
        family: such as BERT or Stable Diffusion XL; None if neither shapes nor metadata tell.
        size: bytes of all weight files.
        tensors: how many.
        parameters: how many numbers they hold.
        dtypes: tensors per dtype.
        adapter: ranks, alphas and layers of an adapter; None for anything else.
        training: what the metadata say, in plain words.
        imports: what a pickle would import; all of it belongs to tensors, or the file would have been refused.
        hashes: per file sha256, and for safetensors kohya's sshs_model_hash; empty unless asked for.
        compatibility: for an adapter, each model it was compared with.
        remarks: sentences about what looks wrong or needs care.
    """

    path: Path
    container: str
    kind: str | None
    key_format: str | None
    family: str | None
    size: int
    tensors: int
    parameters: int
    dtypes: dict[str, int]
    adapter: AdapterFacts | None
    training: dict[str, str]
    imports: tuple[str, ...]
    hashes: dict[str, dict[str, str]] = field(default_factory=dict)
    compatibility: tuple[Compatibility, ...] = ()
    remarks: tuple[str, ...] = ()


def describe(path: Path, *, read_numbers: bool = False, bases: Mapping[str, Path] | None = None) -> Inspection:
    """Say what a weight file is, and for an adapter with which of ``bases`` it is compatible.

    Only headers are read, and no pickle is run.

    Args:
        path: a weight file, or a folder as diffusers, PEFT or transformers writes it.
        read_numbers: also read the whole file, in constant memory: for its hashes, and for NaN and infinite numbers.
        bases: models to compare an adapter with, a title each.

    Raises:
        ReaderError: the file holds no weights, is malformed, or is unsafe to load; the message says which, and what
            to do.

    Example:
        >>> from aigc_helpers import install
        >>> adapter = describe(install("tune-adapter"), bases={"poet": install("poet")})
        >>> adapter.kind, adapter.family, adapter.adapter.ranks, adapter.compatibility[0].compatible
        ('LoRA', 'GPT-2', {8: 4}, True)
    """
    contents = read_contents(path)
    tensors = contents.tensors
    adapter = None if added_part(tensors) else adapter_of(contents)
    facts = describe_adapter(adapter, contents) if adapter else None
    declared = declared_family(contents.metadata)
    is_gguf = contents.container == GGUF  # An adapter's family, too, is what it names as its architecture.
    shapes_say = family_of_adapter(adapter, declared) if adapter and not is_gguf else _family(contents)
    remarks = [*contents.remarks, *_remarks_on_embedding(tensors)]
    if not adapter and (quantised := quantisation(tensors, contents.config)):
        remarks.append(quantised)
    if SDXL in (shapes_say, declared):
        remarks.append(_ONE_ARCHITECTURE)
    if adapter and facts:
        remarks += remarks_on_adapter(adapter, facts, contents)
    if shapes_say and declared and shapes_say != declared:
        remarks.append(f"The metadata speak of {declared}, but the shapes are those of {shapes_say}.")
    hashes = {}
    if read_numbers:
        hashes = _hashes(contents)
        remarks += _numbers_that_are_none(contents)
        remarks += _compare_stored_hash(contents, hashes)
    return Inspection(
        path=path,
        container=contents.container,
        kind=facts.kind if facts else _kind(contents, shapes_say),
        key_format=", ".join(adapter.key_formats) if adapter else None,
        family=shapes_say or declared,
        size=sum(file.stat().st_size for file in contents.files),
        tensors=len(tensors),
        parameters=sum(math.prod(tensor.shape) for tensor in tensors.values()),
        dtypes=dict(Counter(tensor.dtype for tensor in tensors.values()).most_common()),
        adapter=facts,
        training=_training(contents),
        imports=tuple(dict.fromkeys(contents.imports)),
        hashes=hashes,
        compatibility=_compatibility(adapter, bases or {}),
        remarks=tuple(visible(remark) for remark in dict.fromkeys(remarks)),
    )


def _remarks_on_embedding(tensors: Mapping[str, Shaped]) -> list[str]:
    if not is_textual_inversion(tensors) or not any(name.startswith("text_encoders_") for name in tensors):
        return []
    return [
        "A1111 and ComfyUI look for a word's embeddings under clip_l and clip_g, and here they are called "
        "text_encoders_0 and so on, as diffusers' training writes them: they find none. diffusers' "
        "load_textual_inversion takes them, one encoder at a time."
    ]


def _family(contents: Contents) -> str | None:
    if contents.container == GGUF:
        return family_of_model(contents.tensors) or family_of_type(contents.metadata.get("general.architecture"))
    if is_textual_inversion(contents.tensors):
        return family_of_embedding(contents.tensors)
    # The configuration first: Mistral and Qwen name their layers as Llama does.
    by_configuration = family_of_class(contents.config.get("_class_name")) or family_of_type(
        contents.config.get("model_type")
    )
    return by_configuration or family_of_model(contents.tensors)


def _kind(contents: Contents, family: str | None) -> str | None:
    if contents.adapter_config.get("peft_type"):
        return f"PEFT {printable(str(contents.adapter_config.get('peft_type')))}"
    if is_textual_inversion(contents.tensors):
        return "textual inversion"
    if contents.container == "diffusers folder":
        return "full checkpoint"
    if contents.container == GGUF and contents.metadata.get("general.type") == "adapter":
        return "LoRA"
    return part_of_model(contents.tensors, family)


def _training(contents: Contents) -> dict[str, str]:
    told = in_plain_words(contents.metadata)
    for key, words in (("base_model_name_or_path", "made for"), ("task_type", "task")):
        value = contents.adapter_config.get(key)
        if isinstance(value, str) and value:
            told[words] = printable(value)
    return told


def _compatibility(adapter: Adapter | None, bases: Mapping[str, Path]) -> tuple[Compatibility, ...]:
    if adapter is None:
        return ()
    return tuple(compatibility_with_file(adapter, base, title) for title, base in bases.items())


def _hashes(contents: Contents) -> dict[str, dict[str, str]]:
    root = contents.path if contents.path.is_dir() else contents.path.parent
    return {
        file.relative_to(root).as_posix(): (
            hash_file(file, contents.headers[file])._asdict()
            if file in contents.headers
            else {"sha256": sha256_of(file)}
        )
        for file in contents.files
    }


def _numbers_that_are_none(contents: Contents) -> list[str]:
    remarks = []
    for path, header in contents.headers.items():
        found = count_non_finite(path, header)
        if found:
            name, count = next(iter(found.items()))
            others = f", and {len(found) - 1} more tensors hold some" if len(found) > 1 else ""
            remarks.append(
                f"{path.name}: {count:,} of the numbers in {quoted(name)} are NaN or infinite{others}. "
                "Whatever is computed with them is NaN, too: a training that diverged, or a damaged file."
            )
        if dtypes_not_checked(header):
            remarks.append(f"{path.name}: NaN was not looked for in {', '.join(dtypes_not_checked(header))}.")
    return remarks


def _compare_stored_hash(contents: Contents, hashes: dict[str, dict[str, str]]) -> list[str]:
    stored = contents.metadata.get("sshs_model_hash")
    computed = [each["sshs_model_hash"] for each in hashes.values() if "sshs_model_hash" in each]
    if not stored or len(computed) != 1 or stored == computed[0]:
        return []
    return ["The tensors are not those that the trainer hashed: sshs_model_hash in the metadata is another one."]
