"""Assets on a stick: ``bundle()`` packs installed ones into a zip with a manifest, ``install_bundle()`` unpacks it.

What is unpacked is trusted no further than the catalog of this machine reaches: a file of another size or hash, or one
that the catalog does not have, is refused.
"""

from __future__ import annotations

import hashlib
import json
import stat
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO

from aigc_helpers.arguments import named
from aigc_helpers.bounded_json import parse_json
from aigc_helpers.errors import ReaderError, WrongUsageError, first_line
from aigc_helpers.files import make_folder, replacing, temporary_folder, writing_errors_explained
from aigc_helpers.formats import ZIP_FAULTS, LimitedFile, check_name, quoted
from aigc_helpers.profile import check_profile, current_profile
from aigc_helpers.store.assets import InstalledAsset, asset_folder, install_asset, is_bundled, put_in_place
from aigc_helpers.store.catalog import CATALOG, Asset, AssetFile, find_asset, load_catalog
from aigc_helpers.store.location import store_folder
from aigc_helpers.store.placing import check_free_space, move

MANIFEST = "manifest.json"
# Licences ask that their text goes with every copy. The texts of those under which assets come from elsewhere; what is
# bundled has its own beside it, in data/.
_LICENCES = Path(__file__).with_name("licences")
_FORMAT = "aigc bundle 1"
_LARGEST_MANIFEST = 10_000_000  # Bytes.
_BLOCK = 1 << 20
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def bundle(
    names: Sequence[str], target: str | Path, *, profile: str | None = None, catalog: Path = CATALOG
) -> list[Asset]:
    """Pack assets and their licences into a zip, for machines without a network; what is missing is installed first.

    Args:
        names: of assets.
        target: the zip file; an older one is replaced when the new one is whole.
        profile: ``"embedded"`` or ``"full"``; by default the profile in force.
        catalog: as for ``install``.

    Raises:
        UnknownNameError: there is no such asset or profile, or no such asset for that profile.
        WrongUsageError: the target's name is not that of a zip.
        ReaderError: an asset lies in the repository and needs no stick; or as for ``install``.

    Example:
        >>> from pathlib import Path
        >>> bundle(["poet"], Path("stick.zip"))
        Traceback (most recent call last):
        aigc_helpers.errors.ReaderError: poet comes with the workbook's checkout ...
    """
    target = named(target)
    check_profile(profile)
    if target.suffix.lower() != ".zip":
        raise WrongUsageError(f"the bundle is a zip and is called so, such as stick.zip; {target} is no such name.")
    known = load_catalog(catalog)
    assets = [find_asset(name, profile or current_profile().name, known) for name in dict.fromkeys(names)]
    for asset in assets:
        if is_bundled(asset):
            raise ReaderError(
                f"{asset.name} comes with the workbook's checkout and is there wherever that is. It needs no stick."
            )
    folders = [install_asset(asset.name, asset.profile, catalog=catalog) for asset in assets]
    check_free_space(target.parent, sum(asset.size for asset in assets), target.name)
    # Stored, not compressed: trained numbers hardly shrink.
    with replacing(target) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        archive.writestr(MANIFEST, json.dumps(_manifest(assets), ensure_ascii=False, indent=2))
        for member, text in _licence_texts(assets).items():
            archive.write(text, member)
        for asset, folder in zip(assets, folders, strict=True):
            for file in asset.files:
                archive.write(folder / file.name, _member(asset, file))
    return assets


def install_bundle(path: Path, *, catalog: Path = CATALOG) -> tuple[InstalledAsset, ...]:
    """Verify a zip of ``bundle`` and unpack it into the store, all of it or nothing.

    Raises:
        ReaderError: the zip is damaged, was not made by ``bundle``, or holds anything but files of this catalog.
            Nothing was changed then.

    Example:
        >>> from pathlib import Path
        >>> install_bundle(Path("stick.zip"))
        Traceback (most recent call last):
        aigc_helpers.errors.ReaderError: there is no file stick.zip.
    """
    if not path.exists():
        raise ReaderError(f"there is no file {path}.")
    if not path.is_file():  # Reading a pipe or a device might never end.
        raise ReaderError(f"{path} is no file. Name the zip that aigc bundle made.")
    known = load_catalog(catalog)
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(LimitedFile(path))
        except OSError as error:
            raise ReaderError(f"{path} cannot be read ({first_line(error)}). Check its permissions.") from error
        with _damage_explained(path):
            archive = stack.enter_context(zipfile.ZipFile(opened))
        members = _members(path, archive)
        assets = _listed_assets(path, archive, members, known)
        _compare_members(path, members, assets)
        return _unpack(path, archive, assets)


@contextmanager
def _damage_explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (*ZIP_FAULTS, NotImplementedError, KeyError, IndexError, AssertionError) as error:
        raise ReaderError(
            f"{path} is a damaged zip ({first_line(error)}). Nothing was installed. Copy it to the stick again."
        ) from error


def _manifest(assets: list[Asset]) -> dict[str, object]:
    return {
        "format": _FORMAT,
        "assets": [
            {
                "name": asset.name,
                "profile": asset.profile,
                "title": asset.title,
                "licence": asset.licence,
                "sources": [asdict(source) for source in asset.sources],
                "files": {file.name: {"size": file.size, "sha256": file.sha256} for file in asset.files},
            }
            for asset in assets
        ],
    }


def _licence_texts(assets: list[Asset]) -> dict[str, Path]:
    texts = {f"licences/{asset.licence}.txt": _LICENCES / f"{asset.licence}.txt" for asset in assets}
    return {member: text for member, text in texts.items() if text.is_file()}


def _member(asset: Asset, file: AssetFile) -> str:
    return f"{asset.name}/{asset.profile}/{file.name}"


def _title(asset: Asset) -> str:
    return f"{asset.name} ({asset.profile})"


def _members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        name = check_name(member.orig_filename, str(path))
        if name in members:
            raise _refused(path, f"holds {quoted(name)} twice")
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
            raise _refused(path, f"holds {quoted(name)}, which is a link or a device")
        if member.compress_type not in _PACKED:
            raise _refused(path, f"holds {quoted(name)}, packed as aigc bundle never packs")
        members[name] = member
    return members


def _listed_assets(
    path: Path, archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], catalog: list[Asset]
) -> list[Asset]:
    if MANIFEST not in members:
        raise ReaderError(
            f"{path} was not made by aigc bundle: it has no {MANIFEST}. If there is a weight file in it, unpack it and "
            "install that file."
        )
    with _damage_explained(path), archive.open(members[MANIFEST]) as opened:
        text = opened.read(_LARGEST_MANIFEST)
    try:
        manifest = parse_json(text.decode("utf-8"))
        if manifest["format"] != _FORMAT:
            raise _refused(path, f"is of the format {quoted(manifest['format'])}, not {quoted(_FORMAT)}")
        entries = [(entry["name"], entry["profile"], entry["files"]) for entry in manifest["assets"]]
    except (ValueError, KeyError, TypeError) as error:
        raise _refused(path, f"has a {MANIFEST} that makes no sense ({first_line(error)})") from error
    if not entries:
        raise _refused(path, f"has a {MANIFEST} that names no asset")
    known = {(asset.name, asset.profile): asset for asset in catalog if not is_bundled(asset)}
    assets = []
    for name, profile, files in entries:
        asset = known.get((name, profile)) if isinstance(name, str) and isinstance(profile, str) else None
        if asset is None:
            raise _refused(path, f"holds {quoted(name)} ({quoted(profile)}), which the catalog here does not have")
        if files != {file.name: {"size": file.size, "sha256": file.sha256} for file in asset.files}:
            raise _refused(path, f"holds another version of {_title(asset)} than the catalog here")
        if asset in assets:
            raise _refused(path, f"has a {MANIFEST} that names {_title(asset)} twice")
        assets.append(asset)
    return assets


def _compare_members(path: Path, members: dict[str, zipfile.ZipInfo], assets: list[Asset]) -> None:
    expected = {_member(asset, file): file.size for asset in assets for file in asset.files}
    for name in set(members) - set(expected) - {MANIFEST, *_licence_texts(assets)}:
        raise _refused(path, f"holds {quoted(name)}, which its {MANIFEST} does not name")
    for name, size in expected.items():
        if name not in members:
            raise _refused(path, f"lacks {quoted(name)}")
        if members[name].file_size != size:
            raise _refused(path, f"holds {quoted(name)} with {members[name].file_size:,} bytes, expected {size:,}")


def _unpack(path: Path, archive: zipfile.ZipFile, assets: list[Asset]) -> tuple[InstalledAsset, ...]:
    store = store_folder()
    with writing_errors_explained(store):
        make_folder(store)
        check_free_space(store, sum(asset.size for asset in assets), path.name)
        with temporary_folder(store) as temporary:
            # Everything is verified before anything is in place.
            for asset in assets:
                for file in asset.files:
                    _extract(path, archive, _member(asset, file), file, temporary)

            def deliver(asset: Asset, missing: list[AssetFile], folder: Path) -> None:
                for file in missing:
                    move(temporary / _member(asset, file), folder / file.name)

            for asset in assets:
                put_in_place(asset, deliver)
    return tuple(InstalledAsset(asset.name, asset.profile, asset_folder(asset)) for asset in assets)


def _extract(path: Path, archive: zipfile.ZipFile, name: str, file: AssetFile, folder: Path) -> None:
    target = folder / name
    make_folder(target.parent)
    digest, left = hashlib.sha256(), file.size
    with _damage_explained(path):
        packed = archive.open(name)
    with packed, target.open("wb") as written:
        # However much the zip would give: never more than the catalog says.
        while left and (block := _read(path, packed, min(_BLOCK, left))):
            digest.update(block)
            written.write(block)
            left -= len(block)
        more = _read(path, packed, 1)
    if left or more or digest.hexdigest() != file.sha256:
        raise _refused(
            path, f"holds {quoted(name)} with other bytes: its sha256 is {digest.hexdigest()}, expected {file.sha256}"
        )


def _read(path: Path, packed: IO[bytes], size: int) -> bytes:
    with _damage_explained(path):
        return packed.read(size)


def _refused(path: Path, fault: str) -> ReaderError:
    return ReaderError(f"{path} {fault}. Nothing was installed. Make it again: aigc bundle NAME {path.name}")
