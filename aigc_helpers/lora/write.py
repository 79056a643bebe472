"""Writes a LoRA in the three formats, each file whole or not at all.

The tensors come out of the source as they are, one view of the mapped file each; only their names change.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aigc_helpers.errors import ReaderError, first_line
from aigc_helpers.files import remove_half_written, replacing
from aigc_helpers.formats import escaped, quoted, read_header
from aigc_helpers.inspection import (
    ADAPTER_CONFIG,
    ADAPTER_METADATA,
    PEFT_PREFIX,
    PIPELINE_COMPONENTS,
    SDXL,
    families_in,
    printable,
)
from aigc_helpers.lora.adapter import COMPONENTS, LoraAdapter, LoraLayer, TensorInFile
from aigc_helpers.lora.fusing import fused
from aigc_helpers.lora.kohya_header import WRITTEN_BY, as_library_writes, hashes_of, kohya_metadata
from aigc_helpers.lora.names import kohya_name
from aigc_helpers.lora.original_layers import has_original_names
from aigc_helpers.lora.settings import drop_null_settings, settings_for

if TYPE_CHECKING:
    import torch

Read = Callable[[TensorInFile], "torch.Tensor"]

DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"
PEFT_FILE = "adapter_model.safetensors"
_OWN_TO_FORMATS = ("format", "sshs_model_hash", "sshs_legacy_hash", ADAPTER_METADATA)  # Not true of a converted file.
# In the header of what is written into a folder: by the names alone it could as well be what somebody has trained.
_WRITTEN_BY = {WRITTEN_BY: "aigc convert"}
_MODELS = {"transformer": "a diffusion transformer of a family whose original names are not known here"}
_KEPT_SETTINGS = (
    *("base_model_name_or_path", "revision", "task_type", "fan_in_fan_out", "modules_to_save", "peft_type"),
    *("trainable_token_indices", "bias"),
)


@contextmanager
def open_tensors(adapter: LoraAdapter) -> Iterator[Read]:
    """Yield a function that reads one tensor; nothing is in memory before it is asked for.

    Raises:
        ReaderError: torch has no such dtype.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    with ExitStack() as stack:
        files: dict[Path, Any] = {}

        def read(tensor: TensorInFile) -> torch.Tensor:
            try:
                if tensor.file not in files:
                    files[tensor.file] = stack.enter_context(safe_open(tensor.file, "pt"))
                if tensor.rows is None:
                    return files[tensor.file].get_tensor(tensor.name)
                whole = files[tensor.file].get_slice(tensor.name)
                return torch.cat([whole[begin:end] for begin, end in tensor.rows])
            except (SafetensorError, AttributeError, ValueError) as error:
                raise ReaderError(
                    f"{tensor.file}: {quoted(tensor.name)} of dtype {tensor.dtype} cannot be read "
                    f"({first_line(error)})."
                ) from error

        yield read


def _older_files(target: Path) -> list[Path]:
    """Return what an earlier conversion left in a folder, which the next one is to replace as a whole.

    Raises:
        ReaderError: it holds something else, such as what was trained or downloaded.
    """
    if not target.is_dir():
        return []
    for folder in (target, *(target / name for name in PIPELINE_COMPONENTS)):
        remove_half_written(folder)
    older = []
    for folder in (target, *(target / name for name in PIPELINE_COMPONENTS)):
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if path.is_dir():
                inner = None if folder == target and path.name in PIPELINE_COMPONENTS else _first_file(path)
                if inner:
                    raise _kept(target, inner, "writes")
            elif path.name not in (PEFT_FILE, ADAPTER_CONFIG, DIFFUSERS_FILE):
                raise _kept(target, path, "writes")
            else:
                older.append(path)
    for path in [path for path in older if path.suffix == ".safetensors"] or older:
        if not _is_converted(path):
            raise _kept(target, path, "wrote: it may be what was trained or downloaded")
    return older


def _first_file(folder: Path) -> Path | None:
    """Return a file somewhere below; the folder may be a whole disk, so nothing more is looked for."""
    return next((Path(place) / files[0] for place, _, files in os.walk(folder) if files), None)


def _is_converted(path: Path) -> bool:
    try:
        return read_header(path).metadata.items() >= _WRITTEN_BY.items()
    except (ReaderError, OSError):
        return False


def _kept(target: Path, path: Path, why: str) -> ReaderError:
    return ReaderError(
        f"{target} holds {quoted(path.relative_to(target).as_posix())}, which no conversion {why}, so the folder is "
        "not replaced. Nothing was written. Name another one."
    )


def _remove(older: Sequence[Path], written: Sequence[Path], target: Path) -> None:
    """Remove what would be read together with the new files."""
    for path in set(older) - set(written):
        path.unlink()
        if path.parent != target and not any(path.parent.iterdir()):
            path.parent.rmdir()


def write_peft(adapter: LoraAdapter, target: Path) -> list[Path]:
    """Write a folder as PEFT's save_pretrained does; a folder within it per component if there are several."""
    older = _older_files(target)
    with open_tensors(adapter) as read, ExitStack() as written:
        folders = []
        for component, layers in adapter.components.items():
            # A second text encoder's names are those of a first: only the folder's name tells them apart.
            several = len(adapter.components) > 1 or component in ("text_encoder_2", "text_encoder_3")
            folders.append((target / component if several else target, *_peft_content(adapter, layers, read)))
        for folder, tensors, text in folders:  # Not before the last of them is known to be possible.
            written.enter_context(replacing(folder / ADAPTER_CONFIG)).write_text(text + "\n", encoding="utf-8")
            _save(tensors, written.enter_context(replacing(folder / PEFT_FILE)), _carried(adapter))
    files = [folder / name for folder, *_ in folders for name in (PEFT_FILE, ADAPTER_CONFIG)]
    _remove(older, files, target)
    return files


def _peft_content(adapter: LoraAdapter, layers: Sequence[LoraLayer], read: Read) -> tuple[dict[str, torch.Tensor], str]:
    """Return what PEFT's two files hold for one component: the tensors by name, and the configuration."""
    from peft import LoraConfig

    has_magnitudes = any("magnitude" in layer.tensors for layer in layers)
    kept = {name: adapter.settings[name] for name in _KEPT_SETTINGS if adapter.settings.get(name)}
    try:
        config = LoraConfig(**settings_for(layers, use_dora=has_magnitudes) | kept, inference_mode=True)
    except (ValueError, TypeError) as error:
        raise ReaderError(
            f"{adapter.source} has a setting in {ADAPTER_CONFIG} that PEFT does not take "
            f"({printable(first_line(error))}). Mend it, and convert again. Nothing was written."
        ) from error
    plain = {key: sorted(each) if isinstance(each, set) else each for key, each in config.to_dict().items()}
    tensors = {}
    for layer in layers:
        tensors[f"{PEFT_PREFIX}{layer.path}.lora_A.weight"] = read(layer.tensors["down"])
        tensors[f"{PEFT_PREFIX}{layer.path}.lora_B.weight"] = read(layer.tensors["up"])
        if "magnitude" in layer.tensors:
            tensors[f"{PEFT_PREFIX}{layer.path}.lora_magnitude_vector"] = peft_magnitude(layer, read)
    tensors |= {PEFT_PREFIX + name: read(tensor) for name, tensor in adapter.saved_modules.items()}
    return tensors, json.dumps(drop_null_settings(plain), indent=2, sort_keys=True, ensure_ascii=False)


def write_diffusers(adapter: LoraAdapter, target: Path) -> list[Path]:
    """Write one file as pipeline.save_lora_weights does, with its metadata."""
    older: list[Path] = []
    file = target
    if target.suffix != ".safetensors":
        older, file = _older_files(target), target / DIFFUSERS_FILE
    settings: dict[str, Any] = {}
    with open_tensors(adapter) as read:
        tensors = {}
        for component, layers in adapter.components.items():
            has_magnitudes = any("magnitude" in layer.tensors for layer in layers)
            own = settings_for(layers, use_dora=has_magnitudes)
            settings |= {f"{component}.{name}": value for name, value in own.items()}
            # For a text encoder diffusers still writes its older names, and reads only them if out_proj has no LoRA.
            down, up = (
                ("lora_A.weight", "lora_B.weight")
                if component in ("unet", "transformer")
                else ("lora_linear_layer.down.weight", "lora_linear_layer.up.weight")
            )
            for layer in layers:
                stem = f"{component}.{layer.path}"
                tensors[f"{stem}.{down}"] = read(layer.tensors["down"])
                tensors[f"{stem}.{up}"] = read(layer.tensors["up"])
                if "magnitude" in layer.tensors:
                    tensors[f"{stem}.lora_magnitude_vector"] = peft_magnitude(layer, read)
        metadata = _carried(adapter) | {ADAPTER_METADATA: json.dumps(settings, indent=2, sort_keys=True)}
        with replacing(file) as unfinished:
            _save(tensors, unfinished, metadata)
    _remove(older, [file], target)
    return [file]


def write_kohya(adapter: LoraAdapter, target: Path, family: str | None) -> list[Path]:
    """Write one file with the names and the header that A1111 and ComfyUI look for."""
    draws = adapter.components.get("transformer", [])
    is_sdxl = not draws and (family == SDXL or "text_encoder_2" in adapter.components)
    with open_tensors(adapter) as read:
        tensors = {}
        stems: dict[str, str] = {}
        for layer in adapter.layers:
            if layer.component == "transformer":
                continue
            stem = kohya_name(layer.component, layer.path, is_sdxl=is_sdxl or bool(draws))
            if stem in stems:
                raise ReaderError(
                    f"{adapter.source}: the layers {quoted(stems[stem])} and {quoted(layer.path)} would both be called "
                    f"{quoted(stem)} by kohya, whose names have underscores for dots. Nothing was written. PEFT's "
                    "format keeps them apart."
                )
            stems[stem] = layer.path
            down = read(layer.tensors["down"])
            tensors[f"{stem}.lora_down.weight"], tensors[f"{stem}.lora_up.weight"] = down, read(layer.tensors["up"])
            tensors[f"{stem}.alpha"] = _exact(layer.alpha, down.dtype)
            if "magnitude" in layer.tensors:
                tensors[f"{stem}.dora_scale"] = _kohya_magnitude(layer, read)
        families = adapter.families or families_in(family)
        for one in fused(draws, families, adapter.source, read, lambda layer: _magnitude_or_none(layer, read)):
            stem = f"lora_unet_{one.name}"
            tensors[f"{stem}.lora_down.weight"], tensors[f"{stem}.lora_up.weight"] = one.down, one.up
            tensors[f"{stem}.alpha"] = _exact(one.alpha, one.down.dtype)
            if one.magnitude is not None:
                tensors[f"{stem}.dora_scale"] = one.magnitude
        with replacing(target) as unfinished:
            _save(tensors, unfinished, kohya_metadata(adapter, SDXL if is_sdxl else family, target.stem))
            _change_metadata(unfinished, hashes_of(unfinished))
    return [target]


def _exact(alpha: float, dtype: torch.dtype) -> torch.Tensor:
    """Return alpha as a tensor of the matrices' dtype, or of the first wider one that holds it exactly."""
    import torch

    exact = (torch.tensor(alpha, dtype=each) for each in (dtype, torch.float32, torch.float64))
    return next(tensor for tensor in exact if tensor.item() == alpha)


def refuse_if_impossible(adapter: LoraAdapter, to: str, family: str | None) -> None:
    """Refuse what the format has no names for.

    Args:
        adapter: to be converted.
        to: the format.
        family: of the models it is for.

    Raises:
        ReaderError: a layer of another model, or a tensor that is no LoRA's.
    """
    others = [component for component in adapter.components if component]
    if others and to == "gguf":
        draws = "draws" if others[0] in ("unet", "transformer") else "reads prompts"
        raise ReaderError(
            f"{adapter.source} is for a model that {draws} ({escaped(others[0])}), and a LoRA in GGUF is for a "
            "language model: llama.cpp and Ollama load it. Nothing was written. Converted to peft, it stays usable "
            "with PEFT."
        )
    has_names = to == "diffusers" or has_original_names(adapter.families or families_in(family))
    named = (*COMPONENTS, "transformer") if has_names else COMPONENTS
    others = [component for component in adapter.components if component not in named]
    if others and to not in ("peft", "gguf"):
        model = _MODELS.get(others[0], others[0]) or "a model of its own, not for a pipeline"
        raise ReaderError(
            f"{adapter.source} is for {escaped(model)}. {to.capitalize()}'s format has names only for the UNet and the "
            "text encoders of Stable Diffusion, and for transformers of known families. Converted to peft, it stays "
            "usable with PEFT."
        )
    if to == "peft" and "" in adapter.components and len(adapter.components) > 1:
        raise ReaderError(
            f"{adapter.source} is for {' and '.join(filter(None, adapter.components))} and for a model of its own as "
            "well: PEFT keeps one model per folder, and only a component has a name for one. Nothing was written. Tell "
            "its author."
        )
    from_peft = bool(adapter.settings)  # What PEFT wrote, PEFT's format takes back.
    trained = [name for name in ("trainable_token_indices", "modules_to_save") if adapter.settings.get(name)]
    if adapter.settings.get("bias") not in (None, "none"):
        trained.append("bias")
    if to != "peft" and trained:
        raise ReaderError(
            f"{adapter.source} was trained with more than LoRA's matrices ({', '.join(trained)}), for which only "
            "PEFT's format has names. Nothing was written. Converted to peft, it stays usable with PEFT."
        )
    if adapter.saved_modules and (to != "peft" or not from_peft):
        names = ", ".join(escaped(name) for name in list(adapter.saved_modules)[:3])
        raise ReaderError(
            f"{adapter.source} also holds tensors that are no LoRA's ({len(adapter.saved_modules)}, the first: "
            f"{names}), and {to}'s format has no place for them. Nothing was written."
        )


def peft_magnitude(layer: LoraLayer, read: Read) -> torch.Tensor:
    """Return a DoRA's magnitudes as PEFT keeps them: outputs, or 1 × outputs × 1 × 1 for a convolution.

    Raises:
        ReaderError: they are one per input; PEFT and diffusers have one per output.
    """
    magnitude, outputs = read(layer.tensors["magnitude"]), layer.tensors["up"].shape[0]
    kernel = len(layer.tensors["down"].shape) - 2
    per_output = (outputs, *[1] * (1 + kernel))
    as_in_peft = (1, outputs, *[1] * kernel) if kernel else (outputs,)
    if tuple(magnitude.shape) not in (per_output, as_in_peft, (outputs,)):
        raise ReaderError(
            f"layer {quoted(layer.path)} is a DoRA with one magnitude per input (dora_scale {list(magnitude.shape)}); "
            "PEFT and diffusers know only one per output. A1111 and ComfyUI load the file as it is."
        )
    return magnitude.reshape(as_in_peft)


def _magnitude_or_none(layer: LoraLayer, read: Read) -> torch.Tensor | None:
    return _kohya_magnitude(layer, read) if "magnitude" in layer.tensors else None


def _kohya_magnitude(layer: LoraLayer, read: Read) -> torch.Tensor:
    magnitude = peft_magnitude(layer, read)
    return magnitude.reshape(-1, *[1] * (len(layer.tensors["down"].shape) - 1))


def _carried(adapter: LoraAdapter) -> dict[str, str]:
    carried = {key: value for key, value in adapter.metadata.items() if key not in _OWN_TO_FORMATS}
    return {"format": "pt"} | dict(sorted((carried | _WRITTEN_BY).items()))


def _save(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata)
    _change_metadata(path, {})


def _change_metadata(path: Path, changes: Mapping[str, str]) -> None:
    """Put texts of the same length into the header, and all in order: the library writes them in a random one."""
    with path.open("rb+") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(length))
        header["__metadata__"] = dict(sorted((header["__metadata__"] | changes).items()))
        text = as_library_writes(header).ljust(length)
        if len(text) == length:
            opened.seek(8)
            opened.write(text)
