"""Once a GPU has measured a chapter, its header says so, with the device's name; before that, that nobody has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aigc_helpers.publishing import full_profile

ROW = "| {{full_time}} | {{full_memory}} |"
FIGURES = {"seconds": 95, "error": None, "peak": 6_900_000_000}


def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **more: object) -> None:
    """Store what the GPU script writes, for chapter 11."""
    file = tmp_path / "full_profile.json"
    stored = {"device": "Tesla T4", "tiny": False, "chapters": {"11": [FIGURES]}} | more
    file.write_text(json.dumps(stored), encoding="utf-8")
    monkeypatch.setattr(full_profile, "MEASURED", file)


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("en", "| 2 min (Tesla T4; downloads come on top) | 7.5 GB (Tesla T4) |"),
        ("zh", "| 2 分钟（Tesla T4，不含下载） | 7.5 GB（Tesla T4） |"),
    ],
)
def test_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, language: str, expected: str):
    report(tmp_path, monkeypatch)
    assert full_profile.fill_full_profile(ROW, "11", language) == expected


@pytest.mark.parametrize(
    "more",
    [
        {"tiny": True},
        {"chapters": {}},
        {"chapters": {"11": [{"not_run": "the time was over"}]}},
        {"chapters": {"11": [{"seconds": 3, "error": "OutOfMemoryError"}]}},
    ],
    ids=["tiny models", "another chapter", "no time", "a fault"],
)
def test_what_was_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, object]):
    report(tmp_path, monkeypatch, **more)
    filled = full_profile.fill_full_profile(ROW, "11", "en")
    assert filled.startswith("| not measured on a GPU yet | about ")
    assert "an estimate" in filled
