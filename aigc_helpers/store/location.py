"""Where installed models live on this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from aigc_helpers.errors import ReaderError


def store_folder() -> Path:
    """Return the folder of installed models; nothing is created.

    ``AIGC_HOME`` names it. Without that variable it is ``aigc`` in the place where the system keeps caches.

    Raises:
        ReaderError: the name begins with the home of an account that is not there.

    Example:
        >>> (store_folder() / "loras" / "sepia.safetensors").name
        'sepia.safetensors'
    """
    chosen = os.environ.get("AIGC_HOME")
    if chosen:
        return _expanded(chosen)
    if sys.platform == "win32":
        caches = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        caches = "~/Library/Caches"
    else:
        caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return _expanded(caches) / "aigc"


def _expanded(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise ReaderError(
            f"{name} begins with the home of an account, and there is none here. Set AIGC_HOME to the whole path of "
            "the folder for installed models."
        ) from error
