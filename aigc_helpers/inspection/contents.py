"""What a weight file, or a folder as diffusers, PEFT or transformers writes it, holds: read from headers alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aigc_helpers.bounded_json import parse_json
from aigc_helpers.errors import ReaderError, first_line
from aigc_helpers.formats import (
    FIRST_BYTES,
    GGUF,
    HDF5,
    SAFETENSORS,
    MalformedFileError,
    NotAWeightFileError,
    SafetensorsHeader,
    container_of,
    quoted,
    read_gguf,
    read_header,
    read_keras_file,
    read_torch_file,
)
from aigc_helpers.inspection.adapter_keys import PIPELINE_COMPONENTS, Shaped

ADAPTER_CONFIG, CONFIG = "adapter_config.json", "config.json"
_PIPELINE = "model_index.json"
_PEFT_FOLDER = "PEFT folder"
# The names that libraries look for first; a folder may also hold variants such as model.fp16.safetensors.
USUAL_NAMES = (
    *("model", "diffusion_pytorch_model", "adapter_model", "pytorch_lora_weights", "pytorch_model"),
    "tf_model",
)
_PICKLES, _KERAS = (".bin", ".pt", ".pth", ".ckpt"), (".h5",)
_LARGEST_CONFIG = 10_000_000  # Bytes.


@dataclass
class Contents:
    """The tensors of a file or folder, without their numbers.

    Attributes:
        path: the file or folder.
        container: what it is, such as ``"safetensors"`` or ``"diffusers folder"``.
        files: the weight files read.
        components: the tensors by name, per component of a pipeline; ``""`` for anything that is no pipeline.
        headers: those of the files that are safetensors.
        metadata: of the safetensors headers, or GGUF's single values as texts.
        config: ``config.json`` beside the weights, empty if there is none.
        adapter_config: ``adapter_config.json`` beside the weights (of several parts the first's), empty if there is
            none.
        parts: of a folder with a PEFT folder for each component of a pipeline, what these hold; else empty.
        imports: what a pickle would import.
        remarks: sentences about what looks wrong.
    """

    path: Path
    container: str
    files: list[Path] = field(default_factory=list)
    components: dict[str, dict[str, Shaped]] = field(default_factory=dict)
    headers: dict[Path, SafetensorsHeader] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    adapter_config: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, Contents] = field(default_factory=dict)
    imports: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def tensors(self) -> dict[str, Shaped]:
        """All tensors; those of a pipeline with the component before the name."""
        return {
            f"{component}.{name}" if component else name: tensor
            for component, tensors in self.components.items()
            for name, tensor in tensors.items()
        }

    def part(self, component: str) -> Contents:
        """Return what belongs to one component: a part where there are several, else all."""
        return self.parts.get(component, self)


def read_contents(path: Path) -> Contents:
    """Read the headers of a weight file, or of the weight files in a folder.

    Raises:
        ReaderError: there are no weights, they are malformed or unsafe, or the file may not be read.

    Example:
        >>> from aigc_helpers import install
        >>> contents = read_contents(install("poet"))
        >>> contents.container, contents.tensors["transformer.wpe.weight"].shape
        ('transformers folder', (96, 256))
    """
    try:
        if not path.is_dir() and not path.is_file():  # Reading a pipe or a device might never end.
            raise NotAWeightFileError(f"{path} is neither a file nor a folder. Name a weight file.")
        return _read_folder(path) if path.is_dir() else _read_single(path)
    except OSError as error:
        raise ReaderError(
            f"{path} cannot be read ({first_line(error)}). Check the file and its permissions."
        ) from error


def _read_single(path: Path) -> Contents:
    contents = Contents(path, "")
    _read_file(path, "", contents)
    contents.container = contents.container or SAFETENSORS
    name = path.name.lower()
    contents.config = read_config(path.with_name(CONFIG))
    if "adapter" in name:
        contents.adapter_config = read_config(path.with_name(ADAPTER_CONFIG))
    return contents


def _read_folder(folder: Path) -> Contents:
    parts = [name for name in PIPELINE_COMPONENTS if (folder / name / ADAPTER_CONFIG).is_file()]
    if parts:
        _refuse_two_readings(folder, parts)
        return _read_parts(folder, parts)
    return _read_pipeline(folder) if (folder / _PIPELINE).is_file() else _read_model(folder)


def _refuse_two_readings(folder: Path, parts: list[str]) -> None:
    """Refuse a folder that holds adapters by component and something else: whoever reads it could mean either."""
    others = sorted(path.name for path in folder.iterdir() if path.is_file() and _is_read(path))
    if others:
        raise ReaderError(
            f"{folder} can be read in two ways: as what lies in it ({quoted(others[0])}), and as the adapters in its "
            f"folders {' and '.join(parts)}. Name the one that you mean, such as {folder / others[0]} or "
            f"{folder / parts[0]}, or move the other one away."
        )


def _is_read(path: Path) -> bool:
    weights = path.suffix == ".safetensors" or (path.stem in USUAL_NAMES and path.suffix in (*_PICKLES, *_KERAS))
    return weights or path.name in (_PIPELINE, ADAPTER_CONFIG)


def _read_parts(folder: Path, names: list[str]) -> Contents:
    contents = Contents(folder, _PEFT_FOLDER, parts={name: _read_model(folder / name) for name in names})
    contents.adapter_config = contents.parts[names[0]].adapter_config
    for name, part in contents.parts.items():
        contents.components[name] = part.tensors
        contents.files += part.files
        contents.headers |= part.headers
        contents.metadata |= part.metadata
        contents.imports += part.imports
        contents.remarks += part.remarks
    return contents


def _read_model(folder: Path) -> Contents:
    contents = Contents(folder, "")
    for path in _weight_files(folder, contents.remarks):
        _read_file(path, "", contents)
    inner = contents.container or SAFETENSORS
    contents.config, contents.adapter_config = read_config(folder / CONFIG), read_config(folder / ADAPTER_CONFIG)
    if contents.adapter_config:
        contents.container = _PEFT_FOLDER
    else:
        contents.container = "transformers folder" if "model_type" in contents.config else f"folder with {inner}"
    return contents


def _read_pipeline(folder: Path) -> Contents:
    contents = Contents(folder, "diffusers folder")
    for name, library in read_config(folder / _PIPELINE).items():
        # _class_name and the like are settings; [null, null] is a component that was left out.
        if name.startswith("_") or not isinstance(library, list) or not any(library):
            continue
        if not _is_plain(name):
            raise MalformedFileError(f"{folder / _PIPELINE} names a component outside its folder: {quoted(name)}.")
        component = folder / name
        if not component.is_dir():
            contents.remarks.append(f"{_PIPELINE} names the component {name}, and its folder is missing.")
        elif (component / CONFIG).is_file():  # Tokenizers and schedulers have other files, and no weights.
            for path in _weight_files(component, contents.remarks):
                _read_file(path, name, contents)
    if not contents.files:
        raise NotAWeightFileError(f"{folder} is a diffusers folder without any weights. Download it again, as a whole.")
    contents.container = "diffusers folder"
    return contents


def _weight_files(folder: Path, remarks: list[str]) -> list[Path]:
    for suffixes in ((".safetensors",), _PICKLES, _KERAS, (".gguf",)):
        files = sorted(path for path in folder.iterdir() if path.suffix in suffixes and path.is_file())
        if not files:
            continue
        pickles = [path.name for path in folder.iterdir() if path.suffix in _PICKLES]
        if pickles and suffixes == (".safetensors",):
            remarks.append(f"{folder.name} also holds pickles, which were not read: {', '.join(sorted(pickles)[:5])}.")
        return _shards(folder, suffixes) or [_one_of(folder, files)]
    raise NotAWeightFileError(
        f"{folder} holds no weight file (*.safetensors, *.bin, *.pt, *.ckpt, *.h5, *.gguf). Name the folder or the "
        "file that does."
    )


def _shards(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    for index in sorted(folder.glob("*.index.json")):
        places = read_config(index).get("weight_map")
        names = sorted({str(name) for name in places.values()}) if isinstance(places, dict) else []
        if not names or Path(names[0]).suffix not in suffixes:
            continue
        for name in names:
            if not _is_plain(name):
                raise MalformedFileError(f"{index} names a file outside its folder: {quoted(name)}. Do not load it.")
            if not (folder / name).is_file():
                raise MalformedFileError(
                    f"{index} names {quoted(name)}, which is not there. Download the missing file."
                )
        return [folder / name for name in names]
    return []


def _is_plain(name: str) -> bool:
    return name == Path(name).name and name != ".." and "\\" not in name


def _one_of(folder: Path, files: list[Path]) -> Path:
    usual = [path for path in files if path.stem in USUAL_NAMES]
    if len(usual) == 1 or len(files) == 1:
        return (usual or files)[0]
    names = ", ".join(path.name for path in files[:5]) + (", …" if len(files) > 5 else "")
    raise ReaderError(f"{folder} holds {len(files)} weight files: {names}. Name one of them.")


def _read_file(path: Path, component: str, contents: Contents) -> None:
    with path.open("rb") as opened:
        container = container_of(path, opened.read(FIRST_BYTES))
    tensors: dict[str, Shaped]
    if container == SAFETENSORS:
        header = read_header(path)
        contents.headers[path] = header
        contents.metadata |= header.metadata
        contents.remarks += header.remarks
        tensors = dict(header.tensors)
    elif container == GGUF:
        gguf = read_gguf(path)
        contents.metadata |= {key: str(value) for key, value in gguf.values.items()}
        contents.container, tensors = GGUF, dict(gguf.tensors)
    elif container == HDF5:
        keras = read_keras_file(path)
        contents.container, tensors = HDF5, dict(keras.tensors)
        contents.remarks += [
            *keras.remarks,
            "Keras and TensorFlow write such files. Names and shapes are those that it gets as safetensors.",
        ]
    else:
        torch_file = read_torch_file(path, container)
        contents.container, tensors = torch_file.container, dict(torch_file.tensors)
        contents.imports += torch_file.imports
        beside = ", ".join(name.rpartition(".")[2] for name in torch_file.inert)
        contents.remarks.append(
            f"A pickle: nothing was run. Beside tensors it would import {beside}, which training programs leave there "
            "and which does nothing. safetensors needs no check."
            if beside
            else "A pickle: nothing was run, and all that it would import belongs to tensors. safetensors needs no "
            "check."
        )
    contents.files.append(path)
    contents.components.setdefault(component, {}).update(tensors)


def read_config(path: Path) -> dict[str, Any]:
    """Read a configuration such as ``config.json``; an empty one if the file is not there.

    Raises:
        MalformedFileError: it is no JSON object, or larger than any configuration.

    Example:
        >>> from aigc_helpers import install
        >>> read_config(install("poet") / "config.json")["model_type"]
        'gpt2'
    """
    if not path.is_file():
        return {}
    if path.stat().st_size > _LARGEST_CONFIG:
        raise MalformedFileError(f"{path} is larger than 10 MB, and no configuration is. Download it again.")
    try:
        config = parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise MalformedFileError(f"{path} is not valid JSON ({first_line(error)}). Download it again.") from error
    if not isinstance(config, dict):
        raise MalformedFileError(f"{path} is JSON, but no object. Download it again.")
    return config
