"""How a file gets into the store or another program's folder: one process at a time, and whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from aigc_helpers.errors import ReaderError
from aigc_helpers.files import make_folder, replacing, writing_errors_explained
from aigc_helpers.store.location import store_folder

_MEGABYTE = 1_000_000
_BLOCK = 1 << 20  # Bytes; larger ones fall out of the processor's cache between hashing and writing.


@contextmanager
def locked(what: str) -> Iterator[None]:
    """Let one process at a time do ``what``, such as writing one target; the others wait.

    All locks lie in the store, so that none is left behind in a folder that belongs to another program.

    Raises:
        ReaderError: the store is not writable.
    """
    path = store_folder() / "locks" / f"{hashlib.sha256(os.fsencode(what)).hexdigest()}.lock"
    make_folder(path.parent)
    with writing_errors_explained(path):
        lock = FileLock(path)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def check_free_space(folder: Path, needed: int, what: str) -> None:
    """Make sure that ``needed`` bytes are free where ``folder``, which need not exist yet, lies.

    Raises:
        ReaderError: they are not.
    """
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise ReaderError(
            f"{what} needs {needed / _MEGABYTE:,.0f} MB while it is installed, but only {free / _MEGABYTE:,.0f} MB are "
            f"free at {folder}. Free some space, or point AIGC_HOME at a larger disk."
        )


def move(source: Path, target: Path) -> None:
    """Move a whole file to ``target`` by a rename, or by a copy beside it where that is another file system."""
    make_folder(target.parent)
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with replacing(target) as temporary:
            shutil.copyfile(source, temporary)
        source.unlink()


def link(path: Path, target: Path) -> None:
    """Let ``target`` lead to a file; where no links may be made, it is a copy."""
    make_folder(target.parent)
    try:
        target.symlink_to(path.resolve())
    except OSError:  # Windows lets only some accounts make links.
        shutil.copyfile(path, target)


def copy_hashed(source: Path, target: Path) -> str:
    """Copy the bytes of a file and return their hexadecimal sha256; they are read once for both."""
    digest = hashlib.sha256()
    block = memoryview(bytearray(_BLOCK))
    with source.open("rb", buffering=0) as read, target.open("wb", buffering=0) as written:
        while count := read.readinto(block):
            digest.update(block[:count])
            left = block[:count]
            while left:  # A disk that is nearly full takes a part, and refuses the rest.
                left = left[written.write(left) :]
    return digest.hexdigest()
