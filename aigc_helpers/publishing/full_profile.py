"""What a chapter's header says about time and memory on the full profile, from stored results alone."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from aigc_helpers.errors import ReaderError
from aigc_helpers.paths import in_checkout

# In the checkout: ``benchmarks/gpu/full_profile.py`` writes the one, ``aigc pretrain full-profile-memory`` the other.
MEASURED = Path("data/results/full_profile.json")
ESTIMATES = Path("data/results/full_profile_memory.json")
PLACEHOLDERS = ("{{full_time}}", "{{full_memory}}")

# What the CUDA runtime keeps for itself, in bytes: no tensor, so neither an estimate nor torch counts it.
_RUNTIME = 0.5e9
_TEXTS = {
    "en": {
        "no time": "not measured on a GPU yet",
        "time": "{minutes} min ({device}; downloads come on top)",
        "estimate": "about {size:g} GB, an estimate; not measured on a GPU yet",
        "memory": "{size:g} GB ({device})",
    },
    "zh": {
        "no time": "尚未在 GPU 上测量",
        "time": "{minutes} 分钟（{device}，不含下载）",
        "estimate": "约 {size:g} GB（估算，尚未在 GPU 上测量）",
        "memory": "{size:g} GB（{device}）",
    },
}


def fill_full_profile(text: str, number: str, language: str) -> str:
    """Return a header's text with its placeholders filled for one chapter: as measured, else as estimated.

    Raises:
        ReaderError: the text asks for a memory that nobody has measured or estimated.

    Example:
        >>> fill_full_profile("| download | none |", "11", "en")
        '| download | none |'
    """
    for placeholder, fill in zip(PLACEHOLDERS, (_time, _memory), strict=True):
        if placeholder in text:
            text = text.replace(placeholder, fill(number, language))
    return text


def gigabytes(number: str) -> float:
    """Return an estimate of the memory of a GPU that a chapter needs, in GB, rounded up to half a one.

    Raises:
        ReaderError: the chapter has no estimate.
    """
    rows = json.loads((in_checkout("") / ESTIMATES).read_text(encoding="utf-8"))
    if number not in rows:
        raise ReaderError(
            f"{ESTIMATES.name} has no estimate for chapter {number}: add its largest step to "
            "pretrain/experiments/full_profile_memory.py, then run: aigc pretrain full-profile-memory"
        )
    return _rounded(rows[number]["total"])


def _rounded(size: float) -> float:
    return math.ceil((size + _RUNTIME) / 5e8) / 2


def _measured(number: str) -> tuple[str, dict[str, Any]] | None:
    """Return the device and the figures of a chapter that ran through on it."""
    file = in_checkout("") / MEASURED
    if not file.is_file():
        return None
    report = json.loads(file.read_text(encoding="utf-8"))
    figures = report["chapters"].get(number, [{}])[-1]
    return (report["device"], figures) if "peak" in figures and not report["tiny"] else None


def _time(number: str, language: str) -> str:
    measured = _measured(number)
    if measured is None:
        return _TEXTS[language]["no time"]
    device, figures = measured
    return _TEXTS[language]["time"].format(minutes=math.ceil(figures["seconds"] / 60), device=device)


def _memory(number: str, language: str) -> str:
    measured = _measured(number)
    if measured is None:
        return _TEXTS[language]["estimate"].format(size=gigabytes(number))
    device, figures = measured
    return _TEXTS[language]["memory"].format(size=_rounded(figures["peak"]), device=device)
