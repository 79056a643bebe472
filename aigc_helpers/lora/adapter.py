"""A LoRA, whatever file it came in: layers, their two matrices each, and alphas. Only headers are read.

Every conversion goes through this. The converters of diffusers and PEFT each turn one list of names into one other,
guess which it was, and leave alphas and magnitudes to the caller; with a plain list of layers there is nothing to
guess, and each format is read and written in one place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from aigc_helpers.errors import ReaderError
from aigc_helpers.formats import GGUF, HDF5, quoted
from aigc_helpers.inspection import (
    ADAPTER_CONFIG,
    PEFT_PREFIX,
    Adapter,
    AdapterModule,
    Contents,
    RankAndAlpha,
    adapter_of,
    declared_family,
    family_of_adapter,
    names_known_library,
    possible_families,
    read_alphas,
    read_contents,
    settings_of,
    strengths,
)
from aigc_helpers.lora.names import Layers, component_of, parts_in_model
from aigc_helpers.lora.original_layers import Part, Rows
from aigc_helpers.lora.refusals import refuse_gguf, refuse_other_methods, refuse_other_programs, refuse_pickle
from aigc_helpers.lora.settings import check_settings

COMPONENTS = ("unet", "text_encoder", "text_encoder_2")  # Of a pipeline of Stable Diffusion.
# Settings that load code or fetch a model, if a library is given the file. Nothing here does.
_NOT_FOLLOWED = {"auto_mapping": None, "megatron_core": "megatron.core"}


@dataclass(frozen=True)
class TensorInFile:
    """Where a tensor lies, and what it is: ``dtype`` as the format names it.

    ``rows`` are those that it has of the one in the file (begin and end of each run); None if all.
    """

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    rows: Rows | None = None

    def cut(self, rows: Rows) -> TensorInFile:
        """Return some rows of a whole tensor, in that order."""
        return replace(self, shape=(sum(end - begin for begin, end in rows), *self.shape[1:]), rows=rows)


@dataclass(frozen=True)
class LoraLayer:
    """What a LoRA adds to one layer: alpha / rank · up · down.

    Attributes:
        component: of a pipeline, or ``""`` for a model of its own.
        path: the layer, as today's models name it.
        alpha: its strength is alpha / rank.
        tensors: ``"down"`` (rank × inputs …), ``"up"`` (outputs × rank …), and with DoRA ``"magnitude"``.
    """

    component: str
    path: str
    alpha: float
    tensors: Mapping[str, TensorInFile]

    @property
    def rank(self) -> int:
        """Rows of the first matrix."""
        return self.tensors["down"].shape[0]


@dataclass(frozen=True)
class LoraAdapter:
    """A LoRA file or folder.

    Attributes:
        source: the file or folder.
        layers: in the order of the names in the file.
        saved_modules: tensors by name that replace the model's own, such as a classifier's head.
        key_formats: whose names the file has.
        metadata: of its header.
        settings: of PEFT's adapter_config.json; empty for other formats.
        said: the settings that hold for each component, whichever format they stand in.
        family: of the models it is for, if the widths tell.
        families: every one of models that draw that it may be for.
        remarks: sentences for the reader.
    """

    source: Path
    layers: tuple[LoraLayer, ...]
    saved_modules: Mapping[str, TensorInFile]
    key_formats: tuple[str, ...]
    metadata: Mapping[str, str]
    settings: Mapping[str, Any]
    said: Mapping[str, Mapping[str, Any]]
    family: str | None
    families: tuple[str, ...]
    remarks: tuple[str, ...]

    @cached_property
    def components(self) -> dict[str, list[LoraLayer]]:
        """The layers by component."""
        components: dict[str, list[LoraLayer]] = {}
        for layer in self.layers:
            components.setdefault(layer.component, []).append(layer)
        return components

    @property
    def has_magnitudes(self) -> bool:
        """Whether it is a DoRA."""
        return any("magnitude" in layer.tensors for layer in self.layers)

    def sorted_keys(self) -> Adapter:
        """Return it as ``aigc_helpers.inspection.compatibility`` compares it with a model."""
        modules = [
            AdapterModule(layer.component, layer.path, "", flattened=False, parts=dict(layer.tensors))
            for layer in self.layers
        ]
        return Adapter(self.key_formats, tuple(modules), dict(self.saved_modules))


def read_adapter(path: Path, layers: Layers = MappingProxyType({})) -> LoraAdapter:
    """Read the headers of a LoRA: a PEFT folder, a folder of PEFT folders by component, or a safetensors file.

    Args:
        path: the file or folder.
        layers: those of the model it is for, in which kohya's names are looked up first.

    Raises:
        ReaderError: there is no LoRA, it is damaged or a pickle, or it holds what no LoRA layer can.
    """
    contents = read_contents(path)  # It runs nothing, and goes by the content: a name may mislead.
    if not contents.parts:
        return _read_one(contents, layers)
    parts = [_read_one(part, layers) for part in contents.parts.values()]
    return LoraAdapter(
        source=path,
        layers=tuple(layer for part in parts for layer in part.layers),
        saved_modules={
            f"{name}.{key}": value
            for name, part in zip(contents.parts, parts, strict=True)
            for key, value in part.saved_modules.items()
        },
        key_formats=parts[0].key_formats,
        metadata={key: value for part in parts for key, value in part.metadata.items()},
        settings=parts[0].settings,
        said={component: said for part in parts for component, said in part.said.items()},
        family=next((part.family for part in parts if part.family), None),
        families=next((part.families for part in parts if part.families), ()),
        remarks=tuple(dict.fromkeys(remark for part in parts for remark in part.remarks)),
    )


def _read_one(contents: Contents, layers: Layers) -> LoraAdapter:
    path = contents.path
    refuse_gguf(contents)
    adapter = adapter_of(contents)
    if adapter is not None:  # Else the way through safetensors would lead to no LoRA either.
        refuse_pickle(contents)
    if set(contents.files) != set(contents.headers) and contents.container in (GGUF, HDF5):
        raise ReaderError(f"{path} is a {contents.container} file. LoRAs are read from safetensors files alone.")
    refuse_other_programs(contents)
    if adapter is None:
        raise ReaderError(f"{path} holds no LoRA: no tensor has a LoRA's name. aigc inspect {path} says what it is.")
    refuse_other_methods(path, adapter)
    guessed = {module.component or component_of(module) for module in adapter.modules}
    for module in adapter.modules:
        # Beside layers that no CLIP has, an encoder that is built as CLIP's is another model's part, such as BART's.
        module.component = module.component if "" in guessed else component_of(module)
    declared = declared_family(contents.metadata)
    families = possible_families(adapter, declared) or ((declared,) if declared else ())
    try:
        parts = parts_in_model(adapter.modules, layers, families)
    except ReaderError as error:
        raise ReaderError(f"{path}: {error}") from error
    names = [each[0].path for each in parts]  # Of a layer that is several in diffusers only kohya's formats know.
    places = _places(contents)
    remarks = [*contents.remarks, *_remarks(contents.adapter_config), *_remarks_on_words(adapter)]
    settings = {component: _settings(contents, component) for component in {each.component for each in adapter.modules}}
    read = []
    said = _said(adapter.modules, names, settings, contents)
    strengths_of = [
        said.get((module.component, _path_in_settings(module, name)))
        for module, name in zip(adapter.modules, names, strict=True)
    ]
    alphas = read_alphas(adapter.modules, strengths_of, contents)
    for module, some, stored in zip(adapter.modules, parts, alphas, strict=True):
        alpha, remark = _usual_alpha(module, stored)
        remarks += [remark] if remark else []
        tensors: dict[str, TensorInFile] = {}
        tensors |= {part: places[module.names[part]] for part in ("down", "up", "magnitude") if part in module.names}
        read += [LoraLayer(module.component, part.path, alpha, _tensors_of(part, tensors)) for part in some]
    _refuse_doubles(path, read)
    return LoraAdapter(
        source=path,
        layers=tuple(read),
        saved_modules={name.removeprefix(PEFT_PREFIX): places[name] for name in adapter.saved_modules},
        key_formats=adapter.key_formats,
        metadata=contents.metadata,
        settings=contents.adapter_config,
        said=settings,
        family=family_of_adapter(adapter, declared),
        families=families,
        remarks=tuple(dict.fromkeys(remarks)),
    )


def _tensors_of(part: Part, tensors: Mapping[str, TensorInFile]) -> dict[str, TensorInFile]:
    """Return the matrices of a part: the first one as it is, and its own rows of what has a row for each output."""
    if part.rows is None:
        return dict(tensors)
    down, up, *_ = tensors.values()
    own = {name: tensor.cut(part.rows) for name, tensor in tensors.items() if tensor.shape[:1] == up.shape[:1]}
    return {**tensors, **own, "down": down.cut(((0, down.shape[0]),))}  # A copy: no file may hold one tensor twice.


def _refuse_doubles(path: Path, layers: Sequence[LoraLayer]) -> None:
    seen: set[tuple[str, str]] = set()
    for layer in layers:
        if (layer.component, layer.path) in seen:
            raise ReaderError(f"{path} holds layer {quoted(layer.path)} twice, under two names. Tell its author.")
        seen.add((layer.component, layer.path))


def _places(contents: Contents) -> dict[str, TensorInFile]:
    return {
        name: TensorInFile(file, name, tensor.dtype, tensor.shape)
        for file, header in contents.headers.items()
        for name, tensor in header.tensors.items()
    }


def _settings(contents: Contents, component: str) -> Mapping[str, Any]:
    settings = settings_of(contents, component)
    check_settings(settings, contents.path)
    return settings


def _said(
    modules: Sequence[AdapterModule],
    names: Sequence[str],
    settings: Mapping[str, Mapping[str, Any]],
    contents: Contents,
) -> dict[tuple[str, str], RankAndAlpha]:
    """Return what the settings give to each layer, by component and by the name that PEFT matches there.

    Raises:
        ReaderError: a setting cannot be followed, or the rank is not that of the matrices.
    """
    said = {}
    for component, some in settings.items():
        paths = {
            _path_in_settings(module, name): module
            for module, name in zip(modules, names, strict=True)
            if module.component == component
        }
        for path, strength in strengths(some, list(paths), contents.path).items():
            rank = paths[path].parts["down"].shape[0]
            if strength.rank != rank:
                raise ReaderError(
                    f"{contents.path} gives the layer {quoted(path)} the rank {strength.rank}, and its matrices have "
                    f"{rank}: so its strength, alpha / rank, is not known. The settings are another file's; take those "
                    "that it was saved with."
                )
            said[component, path] = strength
    return said


def _path_in_settings(module: AdapterModule, name: str) -> str:
    return name if module.flattened else module.path


def _usual_alpha(module: AdapterModule, alpha: float | None) -> tuple[float, str]:
    rank = float(module.parts["down"].shape[0])
    if alpha is None:
        return rank, "No alpha stands in the file; it was taken as the rank, as all libraries take it."
    if alpha == 0 and "alpha" in module.names:
        return rank, "An alpha of 0 was read as alpha = rank, as kohya's programs read it."
    return alpha, ""


def _remarks_on_words(adapter: Adapter) -> list[str]:
    if not adapter.words:
        return []
    words = ", ".join(quoted(word) for word in adapter.words[:3])
    return [f"Left out: embeddings that come with it (bundle_emb), {len(adapter.words)} in all, such as {words}."]


def _remarks(settings: Mapping[str, Any]) -> list[str]:
    remarks = []
    ignored = [name for name, harmless in _NOT_FOLLOWED.items() if settings.get(name) not in (None, harmless)]
    if names_known_library(settings):
        ignored.remove("auto_mapping")
    if ignored:
        remarks.append(f"{ADAPTER_CONFIG} names code to import ({', '.join(ignored)}); nothing was imported.")
    base = settings.get("base_model_name_or_path")
    if isinstance(base, str) and base:
        remarks.append(f"{ADAPTER_CONFIG} says it was made for {quoted(base)}; nothing was fetched.")
    if settings.get("use_rslora"):
        remarks.append("Rank-stabilised (alpha / √rank): written as the plain alpha of the same strength.")
    return remarks
