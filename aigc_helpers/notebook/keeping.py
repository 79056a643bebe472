"""What outlives Colab's runtime: checkpoints on Google Drive, and files that the browser saves."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from aigc_helpers.colab import on_colab
from aigc_helpers.errors import WrongUsageError

# Where Colab mounts it: the folder symbol on the left, or google.colab.drive.mount("/content/drive").
MY_DRIVE = Path("/content/drive/MyDrive")


def drive_folder(name: str) -> Path | None:
    """Return a folder of that name on Google Drive, for ``fit`` and its checkpoints; None where none is mounted.

    After a lost runtime the same cell goes on where the last checkpoint was. Without a folder ``fit`` keeps none.

    Args:
        name: one training's own; the folder is ``aigc/NAME`` on the Drive, and need not exist.

    Example:
        >>> print(drive_folder("sepia"))
        None
    """
    return MY_DRIVE / "aigc" / name if on_colab() and MY_DRIVE.is_dir() else None


def offer_download(path: str | Path) -> None:
    """On Colab let the browser save a file, or a folder as a zip file; elsewhere it is where the reader is already.

    Raises:
        WrongUsageError: there is no such file or folder.

    Example:
        >>> from aigc_helpers import install
        >>> offer_download(install("film-adapter"))
    """
    path = Path(path)
    if not path.exists():
        raise WrongUsageError(f"there is no {path}: save the model first, then offer it for download.")
    if not on_colab():
        return
    from google.colab import files

    if path.is_dir():
        # It must outlive this call: the browser fetches it afterwards.
        path = Path(shutil.make_archive(str(Path(tempfile.mkdtemp()) / path.name), "zip", path))
    files.download(str(path))
