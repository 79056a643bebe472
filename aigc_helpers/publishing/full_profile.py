"""What a chapter's header says about time and memory on the full profile, from stored results alone."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from aigc_helpers.errors import ReaderError
from aigc_helpers.paths import DATA

ESTIMATES = DATA / "results" / "full_profile_memory.json"
PLACEHOLDERS = ("{{full_time}}", "{{full_memory}}")

# What the CUDA runtime keeps for itself, in bytes: no tensor, so no estimate counts it.
_RUNTIME = 0.5e9
_TEXTS = {
    "en": {
        "no time": "not measured on a GPU yet",
        "estimate": "about {size} GB, an estimate; not measured on a GPU yet",
    },
    "zh": {
        "no time": "尚未在 GPU 上测量",
        "estimate": "约 {size} GB（估算，尚未在 GPU 上测量）",
    },
}


def fill_full_profile(text: str, number: str, language: str) -> str:
    """Return a header's text with its placeholders filled for one chapter.

    Raises:
        ReaderError: the text asks for a memory that nobody has estimated.

    Example:
        >>> fill_full_profile("| time | {{full_time}} |", "11", "en")
        '| time | not measured on a GPU yet |'
    """
    if "{{full_memory}}" in text:
        text = text.replace("{{full_memory}}", _memory(number, language))
    return text.replace("{{full_time}}", _TEXTS[language]["no time"])


def gigabytes(number: str, file: Path = ESTIMATES) -> float:
    """Return the memory of a GPU that a chapter needs, the CUDA runtime's included, rounded up to half a GB.

    Raises:
        ReaderError: the chapter has no estimate.
    """
    rows: Mapping[str, Mapping[str, float]] = json.loads(file.read_text(encoding="utf-8"))
    if number not in rows:
        raise ReaderError(
            f"{file.name} has no estimate for chapter {number}: add its largest step to "
            "pretrain/experiments/full_profile_memory.py, then run: aigc pretrain full-profile-memory"
        )
    return math.ceil((rows[number]["total"] + _RUNTIME) / 5e8) / 2


def _memory(number: str, language: str) -> str:
    return _TEXTS[language]["estimate"].format(size=f"{gigabytes(number):g}")
