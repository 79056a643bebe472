"""JSON objects beside weights: configurations and indexes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aigc_helpers.bounded_json import parse_json
from aigc_helpers.errors import first_line
from aigc_helpers.formats import MalformedFileError

_LARGEST = 10_000_000  # Bytes.


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a file; an empty one if there is no such file.

    Raises:
        MalformedFileError: it is too large, or holds no JSON object.

    Example:
        >>> from aigc_helpers import install
        >>> read_object(install("poet") / "config.json")["model_type"]
        'gpt2'
    """
    if not path.is_file():
        return {}
    if path.stat().st_size > _LARGEST:
        raise MalformedFileError(f"{path} is larger than 10 MB, and no configuration is. Download it again.")
    try:
        config = parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise MalformedFileError(f"{path} is not valid JSON ({first_line(error)}). Download it again.") from error
    if not isinstance(config, dict):
        raise MalformedFileError(f"{path} is JSON, but no object. Download it again.")
    return config
