"""Packages: a changed archive is refused, a good one is kept, and every failure says what to do. No network needed."""

import hashlib
import io
import os
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from aigc_helpers.errors import ReaderError
from aigc_helpers.pretrain.datasets.packages import fetch_npm_package, fetch_python_package, read_files

WRONG = "0" * 64


def archive_of(path: Path, files: dict[str, bytes]) -> str:
    with tarfile.open(path, "w:gz") as opened:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            opened.addfile(member, io.BytesIO(content))
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """Put an npm on the path that "packs" a local archive, and return that archive's sha256."""
    if os.name == "nt":
        pytest.skip("the stand-in for npm is a script with a first line that Windows does not read")
    original = tmp_path / "original.tgz"
    sha256 = archive_of(original, {"package/icons.json": b"{}", "package/README.md": b"read me"})
    programs = tmp_path / "programs"
    programs.mkdir()
    script = programs / "npm"
    script.write_text(
        f"#!{sys.executable}\n"
        "import pathlib, shutil, sys\n"
        f"pathlib.Path({str(tmp_path / 'calls')!r}).open('a').write(sys.argv[2] + '\\n')\n"
        "if 'missing' in sys.argv[2]:\n"
        "    sys.exit('npm error code ENOTFOUND')\n"
        f"shutil.copy({str(original)!r}, pathlib.Path(sys.argv[-1], 'packed.tgz'))\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    return sha256


def test_npm_archive_is_fetched_once_and_read(npm, tmp_path):
    folder = tmp_path / "packages"
    archive = fetch_npm_package("@scope/icons", "1.0.0", npm, folder)
    assert archive == folder / "scope-icons-1.0.0.tgz"
    assert list(read_files(archive, r"package/\w+\.json")) == [("package/icons.json", b"{}")]
    assert fetch_npm_package("@scope/icons", "1.0.0", npm, folder) == archive
    assert (tmp_path / "calls").read_text() == "@scope/icons@1.0.0\n"


def test_changed_npm_archive_is_refused_and_not_kept(npm, tmp_path):
    folder = tmp_path / "packages"
    with pytest.raises(ReaderError, match=f"icons 1.0.0 is refused: its sha256 is {npm}, expected {WRONG}"):
        fetch_npm_package("icons", "1.0.0", WRONG, folder)
    assert list(folder.iterdir()) == []


def test_archive_damaged_on_disk_is_fetched_again(npm, tmp_path):
    archive = fetch_npm_package("icons", "1.0.0", npm, tmp_path / "packages")
    archive.write_bytes(archive.read_bytes()[:-1])
    fetch_npm_package("icons", "1.0.0", npm, tmp_path / "packages")
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == npm


def test_npm_failure_passes_on_what_npm_said(npm, tmp_path):
    with pytest.raises(ReaderError, match="is the network on.*ENOTFOUND"):
        fetch_npm_package("missing", "1.0.0", npm, tmp_path / "packages")


def test_missing_npm_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ReaderError, match="npm is not installed.*Install Node.js"):
        fetch_npm_package("icons", "1.0.0", WRONG, tmp_path / "packages")


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """Let pip find one wheel in a local folder and no network; return the wheel's sha256."""
    index = tmp_path / "index"
    index.mkdir()
    path = index / "tiny_words-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr("tiny_words/words.txt", "spring")
        opened.writestr("tiny_words-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-words\nVersion: 1.0\n")
        opened.writestr("tiny_words-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        opened.writestr("tiny_words-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_wheel_is_fetched_by_pip_and_kept(wheel, tmp_path, monkeypatch):
    folder = tmp_path / "packages"
    archive = fetch_python_package("tiny-words", "1.0", wheel, folder)
    assert list(read_files(archive, r".*\.txt")) == [("tiny_words/words.txt", b"spring")]
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "gone"))
    assert fetch_python_package("tiny-words", "1.0", wheel, folder) == archive


def test_changed_wheel_is_refused(wheel, tmp_path):
    folder = tmp_path / "packages"
    with pytest.raises(ReaderError, match=f"tiny-words 1.0 is refused: its sha256 is {wheel}"):
        fetch_python_package("tiny-words", "1.0", WRONG, folder)
    assert list(folder.iterdir()) == []


def test_changed_sdist_is_refused_before_its_code_runs(tmp_path, monkeypatch):
    index = tmp_path / "index"
    index.mkdir()
    witness = tmp_path / "it ran"
    setup = f"open({str(witness)!r}, 'w').close()\n".encode()
    archive_of(index / "tiny_words-1.0.tar.gz", {"tiny_words-1.0/setup.py": setup})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    with pytest.raises(ReaderError, match="refused"):
        fetch_python_package("tiny-words", "1.0", WRONG, tmp_path / "packages", binary=False)
    assert not witness.exists()
