"""``install()``: from an asset's name to a folder of verified files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from aigc_helpers.errors import ReaderError
from aigc_helpers.files import make_folder, sha256_of, temporary_folder, writing_errors_explained
from aigc_helpers.paths import in_checkout
from aigc_helpers.profile import current_profile
from aigc_helpers.project import find_checkout
from aigc_helpers.store.catalog import CATALOG, Asset, AssetFile, SourceError, find_asset, load_catalog
from aigc_helpers.store.location import store_folder
from aigc_helpers.store.placing import check_free_space, locked, move
from aigc_helpers.store.sources import fetch

_MEGABYTE = 1_000_000


@dataclass(frozen=True)
class InstalledAsset:
    """An asset of the catalog on this machine.

    Attributes:
        name: the one in the catalog.
        profile: ``"embedded"``, ``"full"`` or ``"any"``.
        folder: where its files lie.
    """

    name: str
    profile: str
    folder: Path

    def __str__(self) -> str:
        """Name both, as errors and reports do."""
        return f"{self.name} ({self.profile})"


def install_asset(name: str, profile: str | None = None, *, trusted: bool = False, catalog: Path = CATALOG) -> Path:
    """Make sure that an asset is on this machine, whole and unaltered, and return its folder.

    Every file is compared with the catalog's sha256 on every call. A file that is missing or altered is fetched into a
    temporary folder, verified there, and only then moved into place. Two processes asking for the same asset fetch it
    once. A download that was interrupted goes on where it stopped.

    Args:
        name: a name from ``aigc catalog``.
        profile: ``"embedded"`` or ``"full"``; by default the profile in force.
        trusted: that a repository of PyTorch Hub may run its code here, if it is the source.
        catalog: the file to look it up in.

    Raises:
        UnknownNameError: there is no such asset, or none for that profile.
        ReaderError: no source gave the right files, the disk is full, or the store is not writable; what was in place
            before stays. Or the asset lies in the checkout, and there is none.

    Example:
        >>> sorted(path.name for path in install_asset("tune-adapter").glob("*.safetensors"))
        ['adapter_model.safetensors']
    """
    asset = find_asset(name, profile or current_profile().name, load_catalog(catalog))
    folder = asset_folder(asset)
    missing = missing_files(asset, folder)
    if missing and is_bundled(asset):
        raise ReaderError(
            f"{folder / missing[0].name} is missing or altered (its sha256 is not the catalog's). It belongs to the "
            f"repository; this restores it: git checkout -- {_bundled_path(asset)}"
        )
    if missing:
        put_in_place(asset, partial(_fetch_from_sources, trusted=trusted))
    return folder


def is_bundled(asset: Asset) -> bool:
    """Say whether the asset lies in the repository, so that it is never installed.

    Example:
        >>> from aigc_helpers.store import find_asset, load_catalog
        >>> is_bundled(find_asset("poet", "embedded", load_catalog()))
        True
    """
    return asset.sources[0].kind == "bundled"


def is_here(asset: Asset) -> bool:
    """Say whether the asset's files are on this machine.

    Presence, not integrity: hashing every file would make a listing slow. ``install`` verifies.

    Example:
        >>> from aigc_helpers.store import find_asset, load_catalog
        >>> is_here(find_asset("poet", "embedded", load_catalog()))
        True
    """
    if is_bundled(asset) and find_checkout() is None:
        return False
    folder = asset_folder(asset)
    return all((folder / file.name).is_file() for file in asset.files)


def asset_folder(asset: Asset) -> Path:
    """Return where the asset's files lie once installed.

    Raises:
        ReaderError: it lies in the checkout, and there is none.
    """
    return in_checkout(_bundled_path(asset)) if is_bundled(asset) else store_folder() / asset.name / asset.profile


def _bundled_path(asset: Asset) -> str:
    return f"data/{asset.sources[0].where['folder']}"


def missing_files(asset: Asset, folder: Path) -> list[AssetFile]:
    """Return the files of ``asset`` that are not in ``folder`` with the size and sha256 of the catalog."""
    return [file for file in asset.files if not _is_right(folder / file.name, file)]


def put_in_place(asset: Asset, deliver: Callable[[Asset, list[AssetFile], Path], None]) -> list[AssetFile]:
    """Let ``deliver`` write the missing files of an asset into a temporary folder, verified, and move them from there.

    Returns:
        the files that were missing.

    Raises:
        ReaderError: ``deliver`` failed, the disk is full, or the store is not writable. Nothing was changed then.
    """
    folder = asset_folder(asset)
    with locked(f"install {folder}"), writing_errors_explained(folder):
        missing = missing_files(asset, folder)  # Another process may have been faster.
        if not missing:
            return []
        # The download and the unpacked copy lie side by side for a moment.
        check_free_space(folder, 2 * sum(file.size for file in missing), asset.name)
        make_folder(folder)
        # Beside the target, so that the final move is a rename within one file system.
        with temporary_folder(folder.parent) as temporary:
            deliver(asset, missing, temporary)
            for file in missing:
                move(temporary / file.name, folder / file.name)
    return missing


def verify(files: list[AssetFile], folder: Path) -> None:
    """Compare files with the catalog.

    Raises:
        SourceError: one of them is another file; the message has both hashes.
    """
    for file in files:
        found = sha256_of(folder / file.name)
        if found != file.sha256:
            raise SourceError(
                f"{file.name} is not the file of the catalog: its sha256 is {found}, expected {file.sha256}. "
                "It was changed or damaged on the way, and was thrown away"
            )


def _is_right(path: Path, file: AssetFile) -> bool:
    return path.is_file() and path.stat().st_size == file.size and sha256_of(path) == file.sha256


def _fetch_from_sources(asset: Asset, missing: list[AssetFile], temporary: Path, trusted: bool) -> None:
    failures = []
    for number, source in enumerate(asset.sources):
        delivered = temporary / str(number)
        make_folder(delivered)
        try:
            fetch(source, missing, delivered, trusted=trusted)
            verify(missing, delivered)
        except SourceError as error:
            failures.append(f"  {source}: {error}")
            continue
        for file in missing:
            move(delivered / file.name, temporary / file.name)
        return
    raise ReaderError(
        f"no source gave the files of {asset.name} ({asset.profile} profile):\n"
        + "\n".join(failures)
        + "\nNothing was installed. Check the connection (aigc doctor), then run the same command again.\n"
        + _how_to_carry(asset, missing)
    )


def _how_to_carry(asset: Asset, missing: list[AssetFile]) -> str:
    there = [file.name for file in asset.files if file not in missing]
    needed = ", ".join(f"{file.name} ({file.size / _MEGABYTE:,.1f} MB)" for file in missing)
    option = "" if asset.profile == "any" else f" --profile {asset.profile}"
    return (
        f"Already here: {', '.join(there) or 'none of its files'}. Missing: {needed}.\n"
        "Without a network, bring it over on a stick:\n"
        f"  where there is a network:  aigc bundle {asset.name} stick.zip{option}\n"
        "  here:                      aigc install stick.zip"
    )
