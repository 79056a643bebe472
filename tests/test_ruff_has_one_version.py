"""The commit hook formats with the ruff that the tests check with; two versions would undo each other's lines."""

from __future__ import annotations

import re

from aigc_helpers.paths import REPOSITORY


def test_the_hook_has_the_pinned_version() -> None:
    pinned = re.findall(r"^ruff==(\S+)$", (REPOSITORY / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    hook = (REPOSITORY / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert len(pinned) == 1
    assert re.findall(r"/ruff-pre-commit\n +rev: v(\S+)", hook) == pinned
