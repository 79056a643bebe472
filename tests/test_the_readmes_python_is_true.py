"""The README's Python is run: the first lines that a stranger copies must give what they promise."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

from aigc_helpers.paths import REPOSITORY


def test_the_readmes_python_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").symlink_to(REPOSITORY / "data")
    monkeypatch.chdir(tmp_path)  # It writes beside itself, and shall not do so in the checkout.
    blocks = re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 1
    test = doctest.DocTestParser().get_doctest(blocks[0], {}, "README", "README.md", 0)
    assert len(test.examples) >= 8
    report: list[str] = []
    runner = doctest.DocTestRunner()
    runner.run(test, out=report.append)
    assert not runner.failures, "".join(report)
