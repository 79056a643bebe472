"""``inspect()``: what a weight file is, and with which of the installed models it is compatible."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from aigc_helpers.arguments import existing
from aigc_helpers.inspection import Inspection, describe
from aigc_helpers.paths import only_the_package_is_here
from aigc_helpers.store.assets import asset_folder, is_bundled, is_here
from aigc_helpers.store.catalog import Asset, load_catalog


def inspect(path: str | Path, *, read_numbers: bool = False, bases: Sequence[str | Path] = ()) -> Inspection:
    """Say what a weight file is, and for an adapter with which installed models it is compatible.

    Only headers are read, and no pickle is run.

    Args:
        path: a weight file, or a folder as diffusers, PEFT or transformers writes it.
        read_numbers: also read the whole file, in constant memory: for its hashes, and for NaN and infinite numbers.
        bases: models to compare an adapter with, besides the installed ones.

    Raises:
        WrongUsageError: there is no such file or folder, or no such base.
        ReaderError: the file holds no weights, is malformed, or is unsafe to load; the message says which, and what
            to do.

    Example:
        >>> from aigc_helpers import install
        >>> inspect(install("film-adapter")).family
        'BERT'
    """
    path = existing(path)
    compared = {_title(asset): asset_folder(asset) for asset in _models() if is_here(asset)}
    compared |= {str(base): existing(base) for base in bases}
    inspection = describe(path, read_numbers=read_numbers, bases=compared)
    if inspection.adapter is None:
        return inspection
    return dataclasses.replace(inspection, remarks=(*inspection.remarks, *_remarks_on_absent_models()))


def _remarks_on_absent_models() -> list[str]:
    """Say which models of the catalog no adapter was compared with, because they lie in a checkout that is not here."""
    absent = [_title(asset) for asset in _models() if is_bundled(asset) and not is_here(asset)]
    if not absent:
        return []
    return [f"Not compared with {', '.join(absent)}: data/ is in the checkout, and {only_the_package_is_here()}"]


def _models() -> list[Asset]:
    return [asset for asset in load_catalog() if any(Path(file.name).name == "config.json" for file in asset.files)]


def _title(asset: Asset) -> str:
    return asset.name if asset.profile == "any" else f"{asset.name} ({asset.profile})"
