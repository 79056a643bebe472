"""Where installed models live on this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def store_folder() -> Path:
    """Return the folder of installed models; nothing is created.

    ``AIGC_HOME`` names it. Without that variable it is ``aigc`` in the place where the system keeps caches.

    Example:
        >>> (store_folder() / "loras" / "sepia.safetensors").name
        'sepia.safetensors'
    """
    chosen = os.environ.get("AIGC_HOME")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        caches = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        caches = "~/Library/Caches"
    else:
        caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(caches).expanduser() / "aigc"
