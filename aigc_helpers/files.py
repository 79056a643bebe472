"""Files that are either whole or not there: checksums, and writing beside the target before renaming."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aigc_helpers.errors import ReaderError

_SUFFIX = ".part"
_REMEDIES = {
    errno.ENOSPC: "The disk is full: free some space",
    errno.EDQUOT: "Your disk quota is used up: free some space",
    errno.EFBIG: "The file is larger than this account or file system allows: free some space",
    errno.EROFS: "The folder is read-only: choose a writable one",
    errno.EACCES: "You may not write there: choose a folder of your own",
    errno.EPERM: "You may not write there: choose a folder of your own",
}


@contextmanager
def writing_errors_explained(target: Path) -> Iterator[None]:
    """Turn the operating system's refusal to write ``target`` into a sentence with a remedy.

    Raises:
        ReaderError: the disk is full, a quota is reached, or the folder is not writable.
    """
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0)
        if remedy is None:
            raise
        raise ReaderError(
            f"could not write {target} ({os.strerror(error.errno or 0)}). {remedy}, then run the same command again. "
            "(AIGC_HOME names the folder for installed models.) That file or folder is as it was."
        ) from error


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``target``; on success it takes the target's place, on failure it vanishes.

    The rename is atomic, so another process sees the old file or the new one, never a part, and a crash, a full
    disk or ``kill -9`` leaves the older good file as it was.

    Raises:
        ReaderError: the disk is full or the folder is not writable.
    """
    with writing_errors_explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=_SUFFIX)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb+") as written:
                os.fsync(written.fileno())
            temporary.chmod(0o644)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def replacing_files(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder; on success each file written there takes its place in ``folder``, whole or not at all.

    For libraries that save by writing into a folder. Nothing in ``folder`` changes before all has been saved.

    Raises:
        ReaderError: the disk is full or the folder is not writable.
    """
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)
        for path in sorted(path for path in Path(temporary).rglob("*") if path.is_file()):
            with replacing(folder / path.relative_to(temporary)) as unfinished:
                unfinished.write_bytes(path.read_bytes())


def remove_half_written(folder: Path) -> None:
    """Delete what a killed process was writing in ``folder``; only for a folder that nobody else writes to."""
    for leftover in folder.glob(f".*{_SUFFIX}"):
        leftover.unlink()


def write_text(target: Path, text: str) -> None:
    """Write ``text`` as UTF-8 with Unix line ends, whole or not at all."""
    with replacing(target) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def sha256_of(path: Path) -> str:
    """Return the hexadecimal sha256 of a file, read in constant memory."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
