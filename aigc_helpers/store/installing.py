"""``install()``: whatever can be named, verified, and put where it belongs."""

from __future__ import annotations

import re
from pathlib import Path

from aigc_helpers.errors import WrongUsageError
from aigc_helpers.profile import current_profile
from aigc_helpers.store.addresses import install_address, is_address
from aigc_helpers.store.assets import InstalledAsset, install_asset
from aigc_helpers.store.bundles import install_bundle
from aigc_helpers.store.catalog import load_catalog
from aigc_helpers.store.http_faults import shown
from aigc_helpers.store.layouts import OUR_OWN
from aigc_helpers.store.local_files import InstalledFile, install_file
from aigc_helpers.store.local_folders import install_folder
from aigc_helpers.store.location import store_folder

_WEIGHT_FILE = re.compile(r"\.(safetensors|ckpt|pth?|bin|gguf|h5|zip)$", re.IGNORECASE)


def install(
    source: str | Path,
    profile: str | None = None,
    *,
    sha256: str | None = None,
    layout: str = OUR_OWN,
    to: Path | None = None,
    trusted: bool = False,
) -> Path:
    """Put a model, data set or weight file on this machine, verified, and return its folder or file.

    Args:
        source: a name of the catalog (``aigc catalog``); a weight file, a folder, or a zip of ``aigc bundle``;
            ``http(s)://…``; or ``hub:owner/name[@revision][/file]``. A name of the catalog comes first.
        profile: ``"embedded"`` or ``"full"``, for a name of the catalog; by default the profile in force.
        sha256: what the file must have, when nobody else knows.
        layout: ``"aigc"`` (our own store), ``"a1111"``, ``"forge"`` or ``"comfyui"``.
        to: the folder of A1111 or ComfyUI.
        trusted: that a repository of PyTorch Hub may run its code here, if it is the source.

    Returns:
        the folder of an asset or model, or the file; for a bundle the store that its assets are in.

    Raises:
        UnknownNameError: there is no such asset, or none for that profile.
        WrongUsageError: an argument that this kind of source does not take.
        ReaderError: the source was refused, or could not be had; what was in place before stays.

    Example:
        >>> install("film-adapter").name
        'film_adapter'
    """
    installed = install_any(source, profile, sha256=sha256, layout=layout, to=to, trusted=trusted)
    if isinstance(installed, InstalledFile):
        return installed.path
    return installed[0].folder if len(installed) == 1 else store_folder()


def install_any(
    source: str | Path,
    profile: str | None = None,
    *,
    sha256: str | None = None,
    layout: str = OUR_OWN,
    to: Path | None = None,
    trusted: bool = False,
) -> InstalledFile | tuple[InstalledAsset, ...]:
    """Do what ``install`` does, and return all that is known: a file's facts, or each asset's folder.

    Example:
        >>> (asset,) = install_any("film-adapter")
        >>> print(asset)
        film-adapter (embedded)
    """
    name, path = str(source), Path(source)
    if is_address(name):
        return install_address(name, sha256=sha256, layout=layout, to=to)
    if _is_asset(name, path):
        _refuse_file_arguments(sha256, layout, "an asset of the catalog")
        profile = profile or current_profile().name
        return (InstalledAsset(name, profile, install_asset(name, profile, trusted=trusted)),)
    if "://" in name:
        raise WrongUsageError(f"{shown(name)} is no address to install from. Such begin with https://, http:// or hub:")
    if not path.exists():
        raise WrongUsageError(f"there is no file or folder {name}.")
    if path.is_dir():
        if sha256:
            raise WrongUsageError("a folder has no sha256. Name the file.")
        return install_folder(path, layout=layout, to=to)
    if path.suffix.lower() == ".zip":
        _refuse_file_arguments(sha256, layout, "a bundle")
        return install_bundle(path)
    return install_file(path, sha256=sha256, layout=layout, to=to)


def _is_asset(name: str, path: Path) -> bool:
    """Say whether this is, or is meant to be, a name of the catalog, which is read only if it can be one."""
    if "/" in name or "\\" in name or _WEIGHT_FILE.search(name):
        return False
    # A name of the catalog comes first, wherever the call is made; ./name is the folder.
    return not path.exists() or name in {asset.name for asset in load_catalog()}


def _refuse_file_arguments(sha256: str | None, layout: str, what: str) -> None:
    if sha256 or layout != OUR_OWN:
        raise WrongUsageError(
            f"--sha256, --layout and --to are for single files; {what} has its own hashes and its own place."
        )
