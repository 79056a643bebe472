"""Python files that happen to lie where a command is called are not run: that folder may be full of downloads."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from aigc_helpers.cli import main
from aigc_helpers.errors import ReaderError
from aigc_helpers.paths import REPOSITORY
from aigc_helpers.store.catalog import Source, SourceError
from aigc_helpers.store.sources import fetch
from aigc_helpers.store.torch_hub import fetch_from_torch_hub


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file that programs in the working folder would create."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "canary"
    program = f"open({str(path)!r}, 'w').close()\n"
    (tmp_path / "owner" / "name").mkdir(parents=True)
    for name in ("pip.py", "jupyterlab.py", "owner/name/hubconf.py"):
        (tmp_path / name).write_text(program, encoding="utf-8")
    return path


def test_pip_is_the_one_that_is_installed(tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    source = Source("wheel", {"requirement": "nothing-that-exists==1", "folder": "x"})
    with pytest.raises(SourceError, match="pip could not fetch"):
        fetch(source, [], tmp_path, trusted=False)
    assert not canary.exists()


def test_jupyterlab_is_the_one_that_is_installed(canary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jupyterlab")

    def call(command: list[str], env: dict[str, str]) -> int:
        return subprocess.run([*command, "--version"], capture_output=True, env=env).returncode

    monkeypatch.setattr(subprocess, "call", call)
    main(["lab", "--no-browser"])
    assert not canary.exists()


def test_no_module_is_started_with_the_working_folder_on_its_path() -> None:
    started = [
        (path.relative_to(REPOSITORY).as_posix(), line.strip())
        for path in (REPOSITORY / "aigc_helpers").rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r'sys\.executable, .*"-m"', line) and '"-P"' not in line
    ]
    assert started == []


def test_a_folder_that_has_a_repository_s_name_is_not_that_repository(tmp_path: Path, canary: Path) -> None:
    for trusted_name in ("owner/name", "owner/name:v1"):
        with pytest.raises(ReaderError, match="would download owner/name.* and run its hubconf.py"):
            fetch_from_torch_hub(trusted_name, "entry", tmp_path / "model.safetensors", trusted=False)
    assert not canary.exists()


def test_a_folder_named_as_one_is_that_folder(tmp_path: Path, canary: Path) -> None:
    with pytest.raises(ReaderError, match="could not give entry"):
        fetch_from_torch_hub("./owner/name", "entry", tmp_path / "model.safetensors", trusted=False)
    assert canary.exists()
