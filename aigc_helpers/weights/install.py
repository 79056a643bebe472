"""``install()``: from an asset's name to a folder of verified files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock

from aigc_helpers.errors import ReaderError
from aigc_helpers.files import sha256_of, writing_errors_explained
from aigc_helpers.paths import DATA
from aigc_helpers.profile import current_profile
from aigc_helpers.weights.catalog import CATALOG_FILE, Asset, AssetFile, find_asset, load_catalog
from aigc_helpers.weights.sources import SourceError, fetch
from aigc_helpers.weights.store_folder import store_folder

_MEGABYTE = 1_000_000


def install(name: str, profile: str | None = None, *, data: Path = DATA) -> Path:
    """Make sure that an asset is on this machine, whole and unaltered, and return its folder.

    Every file is compared with the catalog's sha256 on every call. A file that is missing or altered is fetched into a
    temporary folder, verified there, and only then moved into place. Two processes asking for the same asset fetch it
    once.

    Args:
        name: a name from ``aigc catalog``.
        profile: ``"embedded"`` or ``"full"``; by default the profile in force.
        data: the folder that holds ``catalog.toml`` and the bundled assets.

    Raises:
        UnknownNameError: there is no such asset, or none for that profile.
        ReaderError: no source gave the right files, the disk is full, or the store is not writable. What was in place
            before stays.
    """
    asset = find_asset(name, profile or current_profile().name, load_catalog(data / CATALOG_FILE))
    folder = asset_folder(asset, data)
    missing = missing_files(asset, folder)
    if not missing:
        return folder
    if asset.sources[0].kind == "bundled":
        raise ReaderError(
            f"{folder / missing[0].name} is missing or altered (its sha256 is not the catalog's). It belongs to the "
            f"repository; this restores it: git checkout -- {folder.relative_to(data.parent).as_posix()}"
        )
    with writing_errors_explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            missing = missing_files(asset, folder)  # Another process may have been faster.
            if missing:
                _fetch_missing(asset, missing, folder)
    return folder


def asset_folder(asset: Asset, data: Path = DATA) -> Path:
    """Return where the asset's files lie once installed."""
    if asset.sources[0].kind == "bundled":
        return data / asset.sources[0].where["folder"]
    return store_folder() / asset.name / asset.profile


def missing_files(asset: Asset, folder: Path) -> list[AssetFile]:
    """Return the files of ``asset`` that are not in ``folder`` with the size and sha256 of the catalog."""
    return [file for file in asset.files if not _is_right(folder / file.name, file)]


def _is_right(path: Path, file: AssetFile) -> bool:
    return path.is_file() and path.stat().st_size == file.size and sha256_of(path) == file.sha256


def _fetch_missing(asset: Asset, missing: list[AssetFile], folder: Path) -> None:
    needed = 2 * sum(file.size for file in missing)  # The download and the unpacked copy lie side by side for a moment.
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ReaderError(
            f"{asset.name} needs {needed / _MEGABYTE:,.0f} MB while it is installed, but only "
            f"{free / _MEGABYTE:,.0f} MB are free at {folder}. Free some space, or point AIGC_HOME at a larger disk."
        )
    failures = []
    for source in asset.sources:
        # Beside the target, so that the final move is a rename within one file system.
        with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
            try:
                fetch(source, [file.name for file in missing], Path(temporary))
                _verify(missing, Path(temporary))
            except SourceError as error:
                failures.append(f"  {source}: {error}")
                continue
            for file in missing:
                os.replace(Path(temporary) / file.name, folder / file.name)
            return
    raise ReaderError(
        f"no source gave the files of {asset.name} ({asset.profile} profile):\n"
        + "\n".join(failures)
        + "\nNothing was installed. Check the connection (aigc doctor), then run the same command again."
    )


def _verify(files: list[AssetFile], folder: Path) -> None:
    for file in files:
        found = sha256_of(folder / file.name)
        if found != file.sha256:
            raise SourceError(
                f"{file.name} is not the file of the catalog: its sha256 is {found}, expected {file.sha256}. "
                "It was changed or damaged on the way, and was thrown away"
            )
