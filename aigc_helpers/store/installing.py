"""``install()``: whatever can be named, verified, and put where it belongs."""

from __future__ import annotations

import re
from pathlib import Path

from aigc_helpers.arguments import check_sha256, existing, named
from aigc_helpers.errors import WrongUsageError
from aigc_helpers.inspection import is_index
from aigc_helpers.profile import check_profile, current_profile
from aigc_helpers.store.addresses import install_address, is_address
from aigc_helpers.store.assets import InstalledAsset, install_asset
from aigc_helpers.store.bundles import install_bundle
from aigc_helpers.store.catalog import load_catalog
from aigc_helpers.store.http_faults import shown, without_secrets
from aigc_helpers.store.layouts import OUR_OWN, root_of
from aigc_helpers.store.local_files import InstalledFile, install_file
from aigc_helpers.store.local_folders import install_folder, install_shards
from aigc_helpers.store.location import store_folder

_WEIGHT_FILE = re.compile(r"\.(safetensors|ckpt|pth?|bin|gguf|h5|zip)$", re.IGNORECASE)


def install(
    source: str | Path,
    profile: str | None = None,
    *,
    sha256: str | None = None,
    layout: str = OUR_OWN,
    to: str | Path | None = None,
    trusted: bool = False,
) -> Path:
    """Put a model, data set or weight file on this machine, verified, and return its folder or file.

    Args:
        source: a name of the catalog (``aigc catalog``); a weight file, a folder, the index of a folder's
            shards (where it holds several sets), or a zip of ``aigc bundle``;
            ``http(s)://…``; ``hub:owner/name[@revision][/file]``; or ``modelscope:…``, likewise. A name of the catalog
            comes first.
        profile: ``"embedded"`` or ``"full"``, for a name of the catalog; by default the profile in force.
        sha256: what the file must have, when nobody else knows.
        layout: ``"aigc"`` (our own store), ``"a1111"``, ``"forge"`` or ``"comfyui"``.
        to: the folder of A1111 or ComfyUI.
        trusted: that a repository of PyTorch Hub may run its code here, if it is the source.

    Returns:
        the folder of an asset or model, or the file; for a bundle the store that its assets are in.

    Raises:
        UnknownNameError: there is no such asset, or none for that profile.
        WrongUsageError: there is no such file or folder, an argument makes no sense, or this kind of source does not
            take it.
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
    to: str | Path | None = None,
    trusted: bool = False,
) -> InstalledFile | tuple[InstalledAsset, ...]:
    """Do what ``install`` does, and return all that is known: a file's facts, or each asset's folder.

    Example:
        >>> (asset,) = install_any("film-adapter")
        >>> print(asset)
        film-adapter (embedded)
    """
    name, path, to = str(source), named(source), None if to is None else named(to)
    check_profile(profile)
    if sha256 is not None:
        check_sha256(sha256)
    is_asset = not is_address(name) and _is_asset(name, path)
    if (profile or trusted) and not is_asset:
        raise WrongUsageError(
            "a profile, and trust in code, are for names of the catalog (aigc catalog); "
            f"{without_secrets(name)} is none."
        )
    if is_address(name):
        return install_address(name, sha256=sha256, layout=layout, to=to)
    if is_asset:
        _refuse_file_arguments(sha256, layout, to, "an asset of the catalog")
        profile = profile or current_profile().name
        return (InstalledAsset(name, profile, install_asset(name, profile, trusted=trusted)),)
    if "://" in name:
        raise WrongUsageError(
            f"{shown(name)} is no address to install from. Such begin with https://, http://, hub: or modelscope:"
        )
    if existing(path).is_dir():
        if sha256:
            raise WrongUsageError("a folder has no sha256. Name the file.")
        return install_folder(path, layout=layout, to=to)
    if is_index(path):
        if sha256:
            raise WrongUsageError("a set of shards has no sha256: each file has its own.")
        return install_shards(path, layout=layout, to=to)
    if path.suffix.lower() == ".zip":
        _refuse_file_arguments(sha256, layout, to, "a bundle")
        return install_bundle(path)
    return install_file(path, sha256=sha256, layout=layout, to=to)


def _is_asset(name: str, path: Path) -> bool:
    """Say whether this is, or is meant to be, a name of the catalog, which is read only if it can be one."""
    if "/" in name or "\\" in name or _WEIGHT_FILE.search(name):
        return False
    # A name of the catalog comes first, wherever the call is made; ./name is the folder.
    return not path.exists() or name in {asset.name for asset in load_catalog()}


def _refuse_file_arguments(sha256: str | None, layout: str, to: Path | None, what: str) -> None:
    root_of(layout, to)
    if sha256 or layout != OUR_OWN:
        raise WrongUsageError(
            f"sha256, layout and to are for single files; {what} has its own hashes and its own place."
        )
