"""Models that do not ship with the workbook yet, but can be built."""

from __future__ import annotations

from pathlib import Path

from aigc_helpers.errors import ReaderError
from aigc_helpers.paths import DATA


def built_folder(name: str) -> Path:
    """Return the folder that ``aigc pretrain NAME`` writes.

    Raises:
        ReaderError: the model has not been built.
    """
    folder = DATA / name
    if not folder.is_dir():
        raise ReaderError(
            f"{folder} is not there: this model does not ship with the workbook yet. aigc pretrain {name} builds it, "
            "in an hour or two on two CPU cores; that can be stopped at any moment and goes on."
        )
    return folder
