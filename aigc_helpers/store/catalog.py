"""The catalog: what exists, where it comes from, and what its files must be (catalog.toml, beside this module)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from aigc_helpers.errors import ReaderError, UnknownNameError, first_line
from aigc_helpers.profile import PROFILE_NAMES

CATALOG = Path(__file__).with_name("catalog.toml")
_SOURCE_FIELDS = {
    "bundled": {"folder"},
    "wheel": {"requirement", "folder"},
    "hub": {"repository", "revision"},
    "url": {"address"},
    "folder": {"folder"},
    "torch_hub": {"repository", "entry"},
}


class SourceError(ReaderError):
    """This source did not give the files; the next one may."""


@dataclass(frozen=True)
class AssetFile:
    """One file of an asset: its name in the asset's folder, its size in bytes, its hexadecimal sha256."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Source:
    """One place an asset can come from: ``kind`` is one of ``_SOURCE_FIELDS``, ``where`` holds that kind's fields."""

    kind: str
    where: dict[str, str]

    def __str__(self) -> str:
        """Name the place in a few words."""
        # The first field names the place; a revision, which comes second, would only make it longer.
        place = next(iter(self.where.values()))
        return f"{self.kind} {'data/' if self.kind == 'bundled' else ''}{place}"


@dataclass(frozen=True)
class Asset:
    """A model or data set on one profile (``"any"``: the same on both)."""

    name: str
    profile: str
    title: str
    licence: str
    files: tuple[AssetFile, ...]
    sources: tuple[Source, ...]

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)


def load_catalog(path: Path = CATALOG) -> list[Asset]:
    """Read the catalog.

    Raises:
        ReaderError: the file is missing, is not TOML, or an entry lacks a field.

    Example:
        >>> sorted(asset.profile for asset in load_catalog() if asset.name == "bert")
        ['embedded', 'full']
    """
    try:
        status = path.stat()
        return list(_read(path, status.st_mtime_ns, status.st_size))
    except FileNotFoundError as error:
        raise ReaderError(
            f"there is no catalog at {path}. It is part of the package: install the package again. (In a checkout this "
            "restores it: git checkout -- aigc_helpers)"
        ) from error
    except ValueError as error:  # Of TOML, or of UTF-8.
        raise ReaderError(f"{path} is not valid TOML: {error}.") from error


@lru_cache(maxsize=1)
def _read(path: Path, modified: int, size: int) -> list[Asset]:
    """Return the catalog's entries; a changed file is read again."""
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    for name, variants in tables.items():
        if not isinstance(variants, dict):
            raise ReaderError(f"{path}, entry [{name}] has a field of another form than the others.")
    return [
        _asset(path, name, profile, entry) for name, variants in tables.items() for profile, entry in variants.items()
    ]


def find_asset(name: str, profile: str, catalog: list[Asset]) -> Asset:
    """Return the asset called ``name`` for ``profile``.

    Raises:
        UnknownNameError: no asset has that name, or it has none for that profile.

    Example:
        >>> from aigc_helpers.store import load_catalog
        >>> find_asset("bert", "full", load_catalog()).sources[0].kind
        'hub'
    """
    variants = {asset.profile: asset for asset in catalog if asset.name == name}
    if not variants:
        raise UnknownNameError("asset", name, dict.fromkeys(asset.name for asset in catalog))
    if profile not in variants and "any" not in variants:
        raise UnknownNameError(f"profile of {name}", profile, variants)
    return variants.get(profile) or variants["any"]


def _asset(path: Path, name: str, profile: str, entry: dict[str, Any]) -> Asset:
    where = f"{path}, entry [{name}.{profile}]"
    if profile not in (*PROFILE_NAMES, "any"):
        raise ReaderError(f"{where}: the profile must be embedded, full or any.")
    try:
        files = tuple(AssetFile(file, fields["size"], fields["sha256"]) for file, fields in entry["files"].items())
        sources = tuple(
            Source(fields["kind"], {key: value for key, value in fields.items() if key != "kind"})
            for fields in entry["sources"]
        )
        asset = Asset(name, profile, entry["title"], entry["licence"], files, sources)
    except KeyError as error:
        raise ReaderError(f"{where} lacks the field {error}.") from error
    except (TypeError, AttributeError) as error:
        raise ReaderError(f"{where} has a field of another form than the others ({first_line(error)}).") from error
    for source in sources:
        if set(source.where) != _SOURCE_FIELDS.get(source.kind):
            raise ReaderError(f"{where}: a source of kind {source.kind!r} with the fields {sorted(source.where)}.")
    return asset
