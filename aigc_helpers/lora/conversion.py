"""``convert()``: a LoRA file from one format into another, without loss."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from aigc_helpers.arguments import existing, named
from aigc_helpers.errors import ReaderError, UnknownNameError
from aigc_helpers.formats import convert_torch_file
from aigc_helpers.inspection import (
    ADAPTER_CONFIG,
    ORIGINAL_UNET,
    Contents,
    compatibility_with,
    declared_family,
    family_of_model,
    family_of_type,
    missing_head,
    read_contents,
)
from aigc_helpers.lora.adapter import COMPONENTS, LoraAdapter, read_adapter
from aigc_helpers.lora.gguf import without_base_layers, write_gguf_adapter
from aigc_helpers.lora.gguf_base import find_base, read_base
from aigc_helpers.lora.names import Layers, plain_name
from aigc_helpers.lora.refusals import refuse_gguf
from aigc_helpers.lora.write import PEFT_FILE, refuse_if_impossible, write_diffusers, write_kohya, write_peft

Format = Literal["peft", "diffusers", "kohya", "gguf"]
FORMATS: tuple[Format, ...] = ("peft", "diffusers", "kohya", "gguf")
# Of the formats that are one file.
_SUFFIXES = {"kohya": ".safetensors", "gguf": ".gguf"}


@dataclass(frozen=True)
class Conversion:
    """What was converted.

    Attributes:
        files: that were written.
        read_as: whose names the source had.
        layers: how many, per component of the pipeline (``""`` for a model of its own).
        ranks: layers per rank.
        alphas: layers per alpha.
        family: of the models it is for; None if neither widths nor metadata nor the base tell.
        remarks: sentences about what needs care.
    """

    files: tuple[Path, ...]
    read_as: tuple[str, ...]
    layers: dict[str, int]
    ranks: dict[int, int]
    alphas: dict[float, int]
    family: str | None
    remarks: tuple[str, ...]


def convert(source: str | Path, target: str | Path, to: Format, base: str | Path | None = None) -> Conversion:
    """Convert a LoRA; every tensor keeps its bits, and every layer its alpha.

    Args:
        source: a safetensors file as diffusers, kohya's trainer or A1111's users have it, or a PEFT folder.
        target: a folder for PEFT, with ``unet/`` and ``text_encoder/`` in it if the adapter is for both; a file
            ``….safetensors`` for kohya, ``….gguf`` for GGUF; either for diffusers. An older file is replaced, and so is
            a folder with nothing in it but what ``convert`` wrote; one that holds what was trained or downloaded stays.
        to: ``"peft"``, ``"diffusers"``, ``"kohya"`` (for A1111 and ComfyUI) or ``"gguf"`` (for llama.cpp and Ollama).
        base: the model, a file or folder. Then every layer is compared with it, and kohya's names, which do not tell
            dots from underscores, are looked up in it instead of in the list of Stable Diffusion's own. GGUF needs its
            architecture and the number of its heads: a folder with ``config.json``, or a GGUF file; by default what a
            PEFT folder names as its base, if that is on this machine. There is one alpha for all layers in GGUF; where
            a layer has another one, its B is changed to make up for it, and every matrix is float32.

    Raises:
        UnknownNameError: there is no such format.
        WrongUsageError: there is no such source or base.
        ReaderError: the source is no whole LoRA, is not compatible with the base, or cannot be said in that format;
            or the target is not writable, holds the source, or is a folder with other things in it. Nothing is written
            then, and what was there stays.

    Example:
        >>> from pathlib import Path
        >>> from aigc_helpers.paths import DATA
        >>> done = convert(DATA / "loras" / "koala.safetensors", Path("koala"), "peft")
        >>> done.read_as, done.layers, done.ranks, [file.name for file in done.files]
        (('kohya',), {'unet': 32}, {8: 32}, ['adapter_model.safetensors', 'adapter_config.json'])
    """
    if to not in FORMATS:
        raise UnknownNameError("LoRA format", to, FORMATS)
    source, target = existing(source), named(target)
    base = None if base is None else existing(base)
    suffix = _SUFFIXES.get(to, target.suffix)
    if target.suffix != suffix:
        kind = "LoRA in GGUF" if to == "gguf" else f"{to} adapter"
        raise ReaderError(f"a {kind} is one file, and {target} does not end with {suffix}. Name it so.")
    if to == "peft" and (target.suffix == ".safetensors" or target.is_file()):
        raise ReaderError(f"a PEFT adapter is a folder, and {target} is a file's name. Name a folder.")
    if source.resolve().is_relative_to(target.resolve()):
        raise ReaderError(f"{target} is, or holds, what is to be converted ({source}). Name another target.")
    if base is not None and base.resolve().is_relative_to(target.resolve()):
        raise ReaderError(f"{target} is, or holds, the base ({base}). Name another target.")
    with _without_pickle(source) as readable:
        if to == "gguf":
            return _convert_to_gguf(readable, source, target, base)
        return _convert(readable, source, target, to, read_contents(base) if base else None, base)


@contextmanager
def _without_pickle(source: Path) -> Iterator[Path]:
    """Yield the source, or for a pickle as older releases of PEFT saved it a checked copy with the same settings.

    The alphas stand in adapter_config.json: whoever converted the pickle alone would lose them.
    """
    contents = read_contents(source)
    refuse_gguf(contents)
    pickles = [file for file in contents.files if file not in contents.headers]
    if not contents.adapter_config or contents.parts or not pickles:
        yield source
        return
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / source.absolute().name  # It may say the component.
        convert_torch_file(pickles[0], folder / PEFT_FILE)
        (folder / ADAPTER_CONFIG).write_text(json.dumps(contents.adapter_config), encoding="utf-8")
        try:
            yield folder
        except ReaderError as error:
            raise ReaderError(str(error).replace(str(folder), str(source))) from error


def _convert(
    readable: Path, source: Path, target: Path, to: Format, contents: Contents | None, base: Path | None
) -> Conversion:
    adapter = replace(read_adapter(readable, _layers(contents) if contents else {}), source=source)
    if contents:
        found = compatibility_with(adapter.sorted_keys(), contents, str(base))
        if not found.compatible:
            raise ReaderError(f"{source} is not for {base}: {found.reason}.")
    family = adapter.family or declared_family(adapter.metadata) or _family(contents)
    refuse_if_impossible(adapter, to, family)
    if to == "peft":
        files = write_peft(adapter, target)
    else:
        files = write_diffusers(adapter, target) if to == "diffusers" else write_kohya(adapter, target, family)
    return _report(adapter, to, files, family)


def _convert_to_gguf(readable: Path, source: Path, target: Path, base: Path | None) -> Conversion:
    adapter = without_base_layers(replace(read_adapter(readable), source=source))
    refuse_if_impossible(adapter, "gguf", adapter.family)
    model = read_base(base or find_base(adapter))
    files = write_gguf_adapter(adapter, target, model)
    return _report(adapter, "gguf", files, family_of_type(model.architecture))


def _report(adapter: LoraAdapter, to: Format, files: Sequence[Path], family: str | None) -> Conversion:
    return Conversion(
        files=tuple(files),
        read_as=adapter.key_formats,
        layers={component: len(layers) for component, layers in adapter.components.items()},
        ranks=dict(sorted(Counter(layer.rank for layer in adapter.layers).items())),
        alphas=dict(sorted(Counter(layer.alpha for layer in adapter.layers).items())),
        family=family,
        remarks=(*adapter.remarks, *_remarks(adapter, to, family)),
    )


def _layers(base: Contents) -> Layers:
    if any(name.startswith(ORIGINAL_UNET) for name in base.tensors):
        return {}  # A single file in the layout of the original repositories, which has other names.
    parts = base.components if "" not in base.components else dict.fromkeys(COMPONENTS, base.tensors)
    return {
        component: [plain_name(component, name.removesuffix(".weight")) for name in tensors if name.endswith(".weight")]
        for component, tensors in parts.items()
    }


def _family(base: Contents | None) -> str | None:
    return family_of_model(base.tensors) if base else None


def _remarks(adapter: LoraAdapter, to: Format, family: str | None) -> list[str]:
    remarks = []
    divided = Counter(layer.tensors["down"] for layer in adapter.layers if layer.tensors["down"].rows)
    fused = [count for count in divided.values() if count > 1]
    if to != "kohya" and fused:
        remarks.append(
            f"{len(fused)} layers that the original repository has in one became {sum(fused)}, as diffusers has them; "
            "each keeps the first matrix and has its own rows of the second."
        )
    if to == "peft":
        lacking = (missing_head(said, adapter.saved_modules, adapter.source) for said in adapter.said.values())
        remarks += filter(None, lacking)
    if to == "peft" and len(adapter.components) > 1:
        folders = ", ".join(f"{component}/" for component in adapter.components)
        remarks.append(f"PEFT keeps one model per folder, so there are {len(adapter.components)}: {folders}.")
    if to == "kohya" and set(adapter.components) == {"text_encoder"} and family is None:
        remarks.append(
            "Nothing says whether this text encoder is Stable Diffusion 1.x's or XL's first; its names are 1.x's "
            "(lora_te_). For XL, name the model as the base."
        )
    if to == "gguf" and len({layer.alpha for layer in adapter.layers}) > 1:
        remarks.append(
            "GGUF has one alpha for all layers, and here they differ: it got the most frequent one, and the other "
            "layers a B that makes up for it."
        )
    if to == "kohya" and adapter.has_magnitudes:
        remarks.append("A DoRA: ComfyUI applies its magnitudes (dora_scale); diffusers would drop them from this file.")
    return remarks
