"""``install_file()``: a weight file or folder of this disk, checked, put where its kind belongs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from aigc_helpers.errors import ReaderError
from aigc_helpers.files import replacing, sha256_of, temporary_folder, writing_errors_explained
from aigc_helpers.formats import GGUF, HDF5, PICKLE_SUFFIXES, SAFETENSORS
from aigc_helpers.inspection import ADAPTER_CONFIG, CONFIG, Inspection, describe
from aigc_helpers.store.layouts import folder_for, refuse_hypernetwork, remarks_on_place, root_of
from aigc_helpers.store.partial_file import downloads_folder
from aigc_helpers.store.placing import check_free_space, copy_hashed, locked, move

_PICKLES = ("torch zip", "legacy pickle")
_SUFFIXES = {SAFETENSORS: ".safetensors", GGUF: ".gguf"}
_FACTS = ("container", "kind", "key_format", "family", "size", "tensors", "parameters", "dtypes", "adapter")
_OF_WEIGHTS = {*_SUFFIXES.values(), ".h5", ".sft", ".pti", *PICKLE_SUFFIXES}


@dataclass(frozen=True)
class InstalledFile:
    """What was installed, and where.

    Attributes:
        path: where it lies now.
        kind: such as LoRA or full checkpoint.
        family: such as Stable Diffusion 1.x; None if not known.
        sha256: of the file where it lies now; None for a folder.
        already_there: whether exactly this lay there before.
        remarks: sentences about what looks wrong or needs care.
    """

    path: Path
    kind: str
    family: str | None
    sha256: str | None
    already_there: bool
    remarks: tuple[str, ...]


def install_file(
    source: Path, *, sha256: str | None = None, layout: str = "aigc", to: Path | None = None
) -> InstalledFile:
    """Check a weight file, and put a copy where its kind belongs.

    A pickle (``.ckpt``, ``.pt``, ``.bin``) or a Keras file (``.h5``) becomes safetensors on the way.

    Args:
        source: the file.
        sha256: what the file as given must have, hexadecimal.
        layout: ``"aigc"``, ``"a1111"``, ``"forge"`` or ``"comfyui"``.
        to: the other program's folder; None for our own store.

    Raises:
        ReaderError: the file is none, unsafe, malformed or another one than ``sha256`` says; its kind has no place in
            that layout; or another file of that name lies there. Nothing was changed then.

    Example:
        >>> from pathlib import Path
        >>> from aigc_helpers.paths import DATA
        >>> Path("ComfyUI/models/checkpoints").mkdir(parents=True)
        >>> done = install_file(DATA / "loras/sepia.safetensors", layout="comfyui", to=Path("ComfyUI"))
        >>> print(done.kind, done.path.as_posix())
        LoRA ComfyUI/models/loras/sepia.safetensors
    """
    root = root_of(layout, to)
    with as_safetensors(source) as (path, inspection):
        if path == source:
            return place(path, inspection, layout, root, sha256=sha256)
        _compare(source, sha256_of(source) if sha256 else None, sha256)
        return place(path, inspection, layout, root, keep=False)


@contextmanager
def as_safetensors(source: Path) -> Iterator[tuple[Path, Inspection]]:
    """Yield a file that is fit to be installed, and what it is: the file itself, or a safetensors file made from it.

    Raises:
        ReaderError: the file is none, unsafe or malformed.
    """
    inspection = describe(source)
    refuse_hypernetwork(inspection)
    if inspection.container not in (*_PICKLES, HDF5):
        yield source, inspection
        return
    if inspection.adapter:
        refuse_without_settings(source)
    with temporary_folder(downloads_folder()) as temporary:
        converted = temporary / f"{source.stem}.safetensors"
        remarks = _convert(source, converted, inspection.container)
        inspection = describe(converted)
        # The path of the source, for the messages; the other one vanishes.
        yield converted, replace(inspection, path=source, remarks=(*remarks, *inspection.remarks))


def refuse_without_settings(pickle: Path) -> None:
    """Refuse the pickle of a PEFT adapter on its own: its alphas stand in the settings beside it.

    Raises:
        ReaderError: the message names the command that installs both.
    """
    if (pickle.parent / ADAPTER_CONFIG).is_file():
        raise ReaderError(
            f"{pickle} is a pickle, and the settings that give the adapter its strength stand in {ADAPTER_CONFIG} "
            f"beside it. Install both: aigc install {pickle.parent}"
        )


def place(
    path: Path, inspection: Inspection, layout: str, root: Path, *, sha256: str | None = None, keep: bool = True
) -> InstalledFile:
    """Put an inspected file into the folder of its kind, without overwriting anything.

    Args:
        path: the file.
        inspection: what it is.
        layout: ``"aigc"``, ``"a1111"``, ``"forge"`` or ``"comfyui"``.
        root: the folder that has the layout.
        sha256: what the file must have, hexadecimal.
        keep: whether ``path`` stays; otherwise the file is moved.

    Raises:
        ReaderError: as for ``install_file``.
    """
    target = folder_for(inspection, layout, root) / _name_by_content(path, inspection.container)
    with locked(f"write {target.absolute()}"), writing_errors_explained(target):
        there = target.exists()
        if there:
            digest = _compare(path, sha256_of(path), sha256)
            _refuse_other(target, sha256_of(target), digest)
        elif keep:
            digest = _copy(path, target, inspection, sha256)
        else:
            digest = _compare(path, sha256_of(path), sha256)
            move(path, target)
    remarks = (*inspection.remarks, *remarks_on_place(inspection, layout))
    return InstalledFile(target, str(inspection.kind), inspection.family, digest, there, remarks)


def _copy(path: Path, target: Path, inspection: Inspection, sha256: str | None) -> str:
    """Copy a file, and put the copy in place if it is still what was inspected; returns its sha256."""
    check_free_space(target.parent, path.stat().st_size, path.name)
    with replacing(target) as unfinished:
        digest = _compare(path, copy_hashed(path, unfinished), sha256)
        # What an inspection takes from beside the file; it lies in a hidden folder, and vanishes with it.
        for name in (CONFIG, ADAPTER_CONFIG):
            if path.with_name(name).is_file():
                copy_hashed(path.with_name(name), unfinished.with_name(name))
        refuse_changed(path, inspection, describe(unfinished))
    return digest


def refuse_changed(source: Path, before: Inspection, copied: Inspection) -> None:
    """Refuse a copy that is another file or folder than the one that was checked.

    Raises:
        ReaderError: the source was changed in between.
    """
    if any(getattr(before, fact) != getattr(copied, fact) for fact in _FACTS):
        raise ReaderError(
            f"{source} was changed while it was being copied, so the copy is not what was checked. Nothing was "
            "installed. Wait until whatever writes it has finished, then run the same command again."
        )


def _name_by_content(path: Path, container: str) -> str:
    """Return a file's name with the suffix of what it holds: programs go by the suffix, not by the content."""
    suffix = _SUFFIXES.get(container, path.suffix)
    if path.suffix == suffix:  # A1111 does not list X.SAFETENSORS.
        return path.name
    return (path.stem if path.suffix.lower() in _OF_WEIGHTS else path.name) + suffix


def _convert(source: Path, target: Path, container: str) -> list[str]:
    if container == HDF5:
        from aigc_helpers.formats import convert_keras_file

        return convert_keras_file(source, target)
    from aigc_helpers.formats import convert_torch_file

    return convert_torch_file(source, target)


def _compare(path: Path, found: str | None, expected: str | None) -> str:
    if expected is not None and found != expected.lower():
        raise ReaderError(
            f"{path.name} is not the file that was asked for: its sha256 is {found}, expected {expected.lower()}. "
            "Nothing was installed. Download it again, or check where the sha256 comes from."
        )
    return found or ""


def _refuse_other(target: Path, found: str, new: str) -> None:
    if found != new:
        raise ReaderError(
            f"another file lies at {target}: its sha256 is {found}, that of the new one {new}. Nothing was "
            "overwritten. Rename one of the two, then run the same command again."
        )
