"""``install_folder()``: a model or adapter folder of this disk, checked, copied into our own store as a whole."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from aigc_helpers.errors import ReaderError
from aigc_helpers.files import sha256_of, writing_errors_explained
from aigc_helpers.formats import PICKLE_SUFFIXES
from aigc_helpers.inspection import describe
from aigc_helpers.store.layouts import folder_for, root_of
from aigc_helpers.store.local_files import InstalledFile, refuse_without_settings
from aigc_helpers.store.placing import check_free_space, copy_hashed, locked

_LEFT_OUT = PICKLE_SUFFIXES | {".py"}  # What could run code when it is loaded.


def install_folder(source: Path, *, layout: str = "aigc", to: Path | None = None) -> InstalledFile:
    """Check a folder as diffusers, PEFT or transformers writes it, and copy it to where its kind belongs.

    Pickles and programs beside the weights are left out.

    Args:
        source: the folder.
        layout: ``"aigc"``; the other programs read single files.
        to: as for ``install_file``.

    Raises:
        ReaderError: the folder holds no weights, malformed ones, or only pickles; or another folder of that name lies
            there. Nothing was changed then.

    Example:
        >>> from pathlib import Path
        >>> from aigc_helpers.paths import DATA
        >>> install_folder(DATA / "film_adapter", layout="comfyui")
        Traceback (most recent call last):
        aigc_helpers.errors.ReaderError: ... was not installed: ComfyUI has no place for a folder of this kind ...
    """
    root = root_of(layout, to)
    inspection = describe(source)
    target = folder_for(inspection, layout, root) / source.resolve().name
    files = sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file())
    files = [file for file in files if not any(part.startswith(".") for part in file.parts)]
    kept = [file for file in files if file.suffix not in _LEFT_OUT]
    _refuse_pickles_alone(source, files)
    with locked(f"write {target.absolute()}"), writing_errors_explained(target):
        there = target.exists()
        if there:
            _refuse_other(source, target, kept)
        else:
            _copy(source, target, kept)
    left_out = [str(file) for file in files if file not in kept]
    remarks = [f"Left out, for loading it could run code: {', '.join(left_out)}."] if left_out else []
    return InstalledFile(target, str(inspection.kind), inspection.family, None, there, (*inspection.remarks, *remarks))


def _refuse_pickles_alone(source: Path, files: list[Path]) -> None:
    safe = {file.parent for file in files if file.suffix == ".safetensors"}
    for file in files:
        if file.suffix in PICKLE_SUFFIXES and file.parent not in safe:
            refuse_without_settings(source / file)
            raise ReaderError(
                f"{source / file} is a pickle, and there are no safetensors beside it. Convert it first; "
                f"this does: aigc install {source / file}"
            )


def _copy(source: Path, target: Path, files: list[Path]) -> None:
    check_free_space(target, sum((source / file).stat().st_size for file in files), target.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as temporary:
        whole = Path(temporary) / target.name
        for file in files:
            (whole / file).parent.mkdir(parents=True, exist_ok=True)
            copy_hashed(source / file, whole / file)
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
