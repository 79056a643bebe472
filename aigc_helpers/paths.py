"""Where the parts of the book lie on this machine."""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
CHAPTERS = REPOSITORY / "chapters"
DATA = REPOSITORY / "data"
