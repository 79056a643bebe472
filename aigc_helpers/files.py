"""Files that are either whole or not there: checksums, and writing beside the target before renaming."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from aigc_helpers.errors import ReaderError

if sys.platform != "win32":
    import fcntl

_SUFFIX = ".aigc-part"  # Of the hidden folders for what is not finished.
_CLAIM = ".in-use"  # In each of them; locked as long as the process lives.
_REMEDIES = {
    errno.ENOSPC: "The disk is full: free some space",
    errno.EDQUOT: "Your disk quota is used up: free some space",
    errno.EFBIG: "The file is larger than this account or file system allows: free some space",
    errno.EROFS: "The folder is read-only: choose a writable one",
    errno.EACCES: "You may not write there: choose a folder of your own",
    errno.EPERM: "You may not write there: choose a folder of your own",
    errno.EISDIR: "A folder lies there: choose another name",
    errno.ENAMETOOLONG: "The name is too long for this file system: choose a shorter one",
}


@contextmanager
def writing_errors_explained(target: Path) -> Iterator[None]:
    """Turn the operating system's refusal to write ``target`` into a sentence with a remedy.

    Raises:
        ReaderError: the disk is full, a quota is reached, the folder is not writable, or a file lies where a folder is
            needed.
    """
    try:
        yield
    except ReaderError:
        raise
    except Exception as error:
        refused = _refusal_by_the_system(error)
        if refused is None:
            raise
        remedy = _REMEDIES.get(refused.errno or 0)
        in_the_way = _in_the_way(target, refused)
        if in_the_way:
            remedy = f"{in_the_way} is a file where a folder is needed: choose another place, or rename that file"
        if remedy is None:
            raise
        raise ReaderError(
            f"could not write {target} ({os.strerror(refused.errno or 0)}). {remedy}, then run the same command again. "
            "(AIGC_HOME names the folder for installed models.) That file or folder is as it was."
        ) from error


def _refusal_by_the_system(error: Exception) -> OSError | None:
    """Return the system's own error; libraries in Rust, such as safetensors, hide it in the text of theirs."""
    if isinstance(error, OSError):
        return error
    told = re.search(r"\(os error (\d+)\)", str(error))
    return OSError(int(told[1]), os.strerror(int(told[1]))) if told else None


def _in_the_way(target: Path, error: OSError) -> Path | None:
    """Return the file above ``target`` that keeps it from being made; each system has an error of its own for that."""
    above = [*([target] if isinstance(error, FileExistsError) else []), *target.absolute().parents]
    return next((path for path in above if os.path.lexists(path) and not path.is_dir()), None)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; what is there stays.

    Raises:
        ReaderError: a file lies in the way, or the place is not writable.
    """
    with writing_errors_explained(folder):
        folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a temporary path near ``target``; on success it takes the target's place, on failure it vanishes.

    The rename is atomic, so another process sees the old file or the new one, never a part, and a crash, a full
    disk or ``kill -9`` leaves the older good file as it was.

    Raises:
        ReaderError: the disk is full or the folder is not writable.
    """
    with writing_errors_explained(target), temporary_folder(target.parent) as folder:
        temporary = folder / target.name  # With its name, for some libraries go by the suffix.
        temporary.touch()
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        os.replace(temporary, target)


@contextmanager
def replacing_files(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder; on success each file written there takes its place in ``folder``, whole or not at all.

    For libraries that save by writing into a folder. Nothing in ``folder`` changes before all has been saved.

    Raises:
        ReaderError: the disk is full or the folder is not writable.
    """
    with writing_errors_explained(folder), tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)
        for path in sorted(path for path in Path(temporary).rglob("*") if path.is_file()):
            with replacing(folder / path.relative_to(temporary)) as unfinished:
                unfinished.write_bytes(path.read_bytes())


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Yield a hidden folder in ``parent``, on the same file system, which vanishes in the end.

    On failure folders vanish, too, that were made for it and hold nothing else. After ``kill -9`` it stays; the next
    one who asks for such a folder in ``parent`` removes it.

    Raises:
        ReaderError: ``parent`` cannot be made, or is not writable.
    """
    new = [above for above in (parent, *parent.absolute().parents) if not os.path.lexists(above)]
    make_folder(parent)
    remove_half_written(parent)
    # Under another name until it is locked: else another process might remove it.
    renamed = sys.platform != "win32"  # There a folder with an open file keeps its name, and cannot be removed.
    with writing_errors_explained(parent):
        folder = Path(tempfile.mkdtemp(dir=parent, prefix=".", suffix=_SUFFIX + "-new" * renamed))
    whole = False
    try:
        with (folder / _CLAIM).open("wb") as claim:
            with suppress(OSError):  # Not every network's file system has locks; nothing is removed there.
                _lock(claim)
            if renamed:
                folder = folder.rename(folder.with_suffix(_SUFFIX))
            yield folder
        whole = True
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for made in [] if whole else new:
            with suppress(OSError):  # It holds something.
                made.rmdir()


def remove_half_written(folder: Path) -> None:
    """Delete what killed processes were writing in ``folder``; what a living one writes is left alone."""
    for leftover in folder.glob(f".*{_SUFFIX}"):
        # Another account's, or on Windows another process's, which has it open: not ours to delete.
        with suppress(OSError):
            with (leftover / _CLAIM).open("rb+") as claim:
                _lock(claim)
            (leftover / _CLAIM).unlink()
            shutil.rmtree(leftover)


def _lock(opened: BinaryIO) -> None:
    """Lock a file until it is closed, or its process ends, however that happens.

    Raises:
        OSError: another process holds the lock.
    """
    if sys.platform != "win32":  # There a file that is open cannot be deleted, which serves as well.
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)


def write_text(target: Path, text: str) -> None:
    """Write ``text`` as UTF-8 with Unix line ends, whole or not at all."""
    with replacing(target) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def sha256_of(path: Path) -> str:
    """Return the hexadecimal sha256 of a file, read in constant memory."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
