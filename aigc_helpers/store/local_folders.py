"""``install_folder()``: a model or adapter folder of this disk, checked, copied into our own store as a whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from aigc_helpers.errors import ReaderError, first_few
from aigc_helpers.files import make_folder, sha256_of, temporary_folder, writing_errors_explained
from aigc_helpers.formats import FIRST_BYTES, PICKLE_SUFFIXES, SAFETENSORS, container_of, read_header
from aigc_helpers.inspection import ADAPTER_CONFIG, Inspection, describe, printable, sets_in
from aigc_helpers.store.layouts import folder_for, root_of
from aigc_helpers.store.local_files import InstalledFile, refuse_changed, refuse_without_settings
from aigc_helpers.store.model_parts import is_part
from aigc_helpers.store.partial_file import downloads_folder
from aigc_helpers.store.placing import check_free_space, copy_hashed, link, locked

_TO_CONVERT = PICKLE_SUFFIXES | {".h5"}
_ADAPTER = "adapter_model"  # PEFT's name for the weights of one.
_MOST_NAMED = 10
_DEEPEST = 20


def install_folder(source: Path, *, layout: str = "aigc", to: Path | None = None) -> InstalledFile:
    """Check a folder as diffusers, PEFT or transformers writes it, and copy it to where its kind belongs.

    Only what models consist of is copied: weights, configurations, vocabularies, texts and pictures. Pickles, programs
    and whatever else lies beside them are left out. An adapter that is a pickle, as older releases of PEFT wrote it,
    becomes safetensors beside its settings.

    Args:
        source: the folder.
        layout: ``"aigc"``; the other programs read single files.
        to: as for ``install_file``.

    Raises:
        ReaderError: the folder holds no weights, malformed ones, only pickles, or links to what lies outside it; or
            another folder of that name lies there. Nothing was changed then.

    Example:
        >>> from pathlib import Path
        >>> from aigc_helpers.paths import DATA
        >>> Path("ComfyUI/models/checkpoints").mkdir(parents=True)
        >>> install_folder(DATA / "film_adapter", layout="comfyui", to=Path("ComfyUI"))
        Traceback (most recent call last):
        aigc_helpers.errors.ReaderError: ... was not installed: ComfyUI has no place for a folder of this kind ...
    """
    from aigc_helpers.formats import convert_torch_file

    _refuse_links(source)
    pickles = _pickled_adapters(source)
    if not pickles:
        return install_linked(source, layout=layout, to=to)
    with temporary_folder(downloads_folder()) as temporary:
        folder = temporary / source.resolve().name
        remarks = []
        for path in source.rglob("*"):
            target = folder / path.relative_to(source)
            if path in pickles and container_of(path, _first_bytes(path)) != SAFETENSORS:
                make_folder(target.parent)
                remarks += convert_torch_file(path, target.with_suffix(".safetensors"))
            elif path in pickles:  # By its name alone.
                link(path, target.with_suffix(".safetensors"))
            elif path.is_file():
                link(path, target)
        installed = _install_as(source, folder, layout, to)
    return replace(installed, remarks=tuple(dict.fromkeys([*remarks, *installed.remarks])))


def _pickled_adapters(source: Path) -> list[Path]:
    """Return the pickles with a PEFT adapter's settings beside them, and no safetensors."""
    return [
        path
        for config in source.rglob(ADAPTER_CONFIG)
        for path in config.parent.glob(f"{_ADAPTER}.*")
        if path.suffix.lower() in PICKLE_SUFFIXES and not path.with_suffix(".safetensors").exists()
    ]


def install_linked(source: Path, *, layout: str = "aigc", to: Path | None = None) -> InstalledFile:
    """Do what ``install_folder`` does for a folder whose links are known: what they lead to is copied."""
    root = root_of(layout, to)
    inspection = describe(source)
    target = folder_for(inspection, layout, root) / source.resolve().name
    files = sorted(path.relative_to(source) for path in _below(source) if path.is_file())
    files = [file for file in files if not any(part.startswith(".") for part in file.parts)]
    kept = [file for file in files if is_part(file, _first_bytes(source / file))]
    _refuse_pickles_alone(source, files)
    with locked(f"write {target.absolute()}"), writing_errors_explained(target):
        there = target.exists()
        if there:
            _refuse_other(source, target, kept)
        else:
            _copy(source, target, kept, inspection)
    remarks = (*inspection.remarks, *_remarks_on_left_out([file for file in files if file not in kept]))
    return InstalledFile(target, str(inspection.kind), inspection.family, None, there, remarks)


def _install_as(source: Path, folder: Path, layout: str, to: Path | None) -> InstalledFile:
    """Install a temporary folder; messages name what it was made from."""
    try:
        return install_linked(folder, layout=layout, to=to)
    except ReaderError as error:
        raise ReaderError(str(error).replace(str(folder), str(source))) from error


def install_shards(index: Path, *, layout: str = "aigc", to: Path | None = None) -> InstalledFile:
    """Install a folder with one of the sets of shards in it, which its index names, and without the others.

    Args:
        index: such as ``diffusion_pytorch_model.safetensors.index.fp16.json``.
        layout: as for ``install_folder``.
        to: as for ``install_file``.

    Raises:
        ReaderError: it names no safetensors, or as for ``install_folder``.
    """
    folder = index.absolute().parent
    _refuse_links(folder)
    sets = sets_in(folder, sorted({".safetensors", *_TO_CONVERT}))
    chosen = next((found for found in sets if found.path.name == index.name), None)
    if chosen is None:
        raise ReaderError(f"{index} names no weight files (weight_map). Nothing was installed. Name the folder.")
    left_out = {path for found in sets for path in (found.path, *found.files)} - {chosen.path, *chosen.files}
    with temporary_folder(downloads_folder()) as temporary:
        for path in folder.rglob("*"):
            if path.is_file() and path not in left_out:
                link(path, temporary / folder.name / path.relative_to(folder))
        return _install_as(index, temporary / folder.name, layout, to)


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as opened:
        return opened.read(FIRST_BYTES)


def _remarks_on_left_out(files: list[Path]) -> list[str]:
    if not files:
        return []
    named = first_few(files, _MOST_NAMED, lambda file: printable(file.as_posix()))
    return [f"Left out, for loading it could run code, or it is no part of a model: {named}."]


def _refuse_links(source: Path) -> None:
    """Refuse links to what lies outside: whoever made the folder might have the copy of a private file sent on."""
    inside = [source.resolve()]
    if source.resolve().parent.name == "snapshots":
        # The hub's own cache: a folder per commit, whose files are links to the blobs beside all of them.
        inside.append(source.resolve().parent.parent / "blobs")
    for path in _below(source):
        target = Path(os.path.realpath(path)) if path.is_symlink() else None
        if target and not any(target.is_relative_to(folder) for folder in inside):
            raise ReaderError(
                f"{path} is a link to {target}, which lies outside the folder. Nothing was installed. If you "
                "know that file and want it copied, put it there in place of the link, then run the same command again."
            )
        if target and path.is_dir():
            raise ReaderError(
                f"{path} is a link to another folder. Nothing was installed. Put that folder there in place of the "
                "link, then run the same command again."
            )


def _below(folder: Path, depth: int = 0) -> Iterator[Path]:
    """Yield what lies in a folder and in those below it; links are not followed.

    Raises:
        ReaderError: they lie in one another deeper than those of any model.
    """
    if depth > _DEEPEST:
        raise ReaderError(f"{folder} lies {depth} folders deep, as no part of a model does. Name the model's folder.")
    for path in folder.iterdir():
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _below(path, depth + 1)


def _refuse_pickles_alone(source: Path, files: list[Path]) -> None:
    safe = {file.parent for file in files if file.suffix == ".safetensors"}
    for file in files:
        if file.suffix.lower() in _TO_CONVERT and file.parent not in safe:
            if file.suffix.lower() in PICKLE_SUFFIXES:
                refuse_without_settings(source / file)
            what = "a Keras file" if file.suffix.lower() == ".h5" else "a pickle"
            raise ReaderError(
                f"{source / file} is {what}, and there are no safetensors beside it. Convert it first; "
                f"this does: aigc install {source / file}"
            )


def _copy(source: Path, target: Path, files: list[Path], inspection: Inspection) -> None:
    """Copy the files, and put the copy in place if it is still what was inspected."""
    check_free_space(target, sum((source / file).stat().st_size for file in files), target.name)
    with temporary_folder(target.parent) as temporary:
        whole = temporary / target.name
        for file in files:
            make_folder((whole / file).parent)
            copy_hashed(source / file, whole / file)
            if file.suffix.lower() == ".safetensors":
                read_header(whole / file)  # Also of those that were not inspected, such as variants.
        refuse_changed(source, inspection, describe(whole))
        os.replace(whole, target)


def _refuse_other(source: Path, target: Path, files: list[Path]) -> None:
    for file in files:
        there = target / file
        found, new = sha256_of(there) if there.is_file() else "none, for it is missing", sha256_of(source / file)
        if found != new:
            raise ReaderError(
                f"another folder lies at {target}: the sha256 of {file} is {found}, that of the new one {new}. Nothing "
                "was overwritten. Rename one of the two, then run the same command again."
            )
