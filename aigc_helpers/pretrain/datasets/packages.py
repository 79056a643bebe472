"""Sources of the data sets: pinned packages, fetched by the reader's own package manager and checked before use.

A package manager knows the mirror that this machine is set up for, so nothing here names a host. The archive is
never unpacked onto the disk: ``read_files`` reads what a builder wants straight out of it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from aigc_helpers.errors import ReaderError
from aigc_helpers.files import make_folder, sha256_of, writing_errors_explained
from aigc_helpers.paths import REPOSITORY

# Not under version control; a second build finds its archives here and needs no network.
DEFAULT_FOLDER = REPOSITORY / "build" / "packages"

_PIP_HASH_COMPLAINT = "DO NOT MATCH THE HASHES"


def fetch_npm_package(name: str, version: str, sha256: str, folder: Path = DEFAULT_FOLDER) -> Path:
    """Return the verified archive of an npm package, fetched with ``npm pack`` unless ``folder`` has it already.

    Raises:
        ReaderError: npm is missing, the package could not be fetched, or its sha256 is not ``sha256``.
    """
    target = folder / f"{name.removeprefix('@').replace('/', '-')}-{version}.tgz"
    if _is_whole(target, sha256):
        return target
    npm = shutil.which("npm")
    if npm is None:
        raise ReaderError(
            f"npm is not installed, and {name} {version} comes from npm. Install Node.js, which brings npm, then run "
            "the same command again. (Only rebuilding a data set needs it; the book ships the built files.)"
        )
    command = [npm, "pack", f"{name}@{version}", "--ignore-scripts", "--prefer-offline", "--loglevel=error"]
    # One quick second try instead of npm's minute of waiting when the network is off.
    command += ["--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--pack-destination"]
    return _fetch(command, f"{name} {version}", "npm", sha256, target)


def fetch_python_package(
    name: str, version: str, sha256: str, folder: Path = DEFAULT_FOLDER, binary: bool = True
) -> Path:
    """Return the verified wheel (``binary``) or sdist of a Python package, fetched with ``pip download`` if needed.

    Raises:
        ReaderError: pip is missing, the package could not be fetched, or its sha256 is not ``sha256``.
    """
    start = f"{_folded(name)}-{version}"
    for known in sorted(folder.glob("*")):
        if _folded(known.name).startswith(start) and _is_whole(known, sha256):
            return known
    make_folder(folder)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        # pip has no way to fetch an sdist without asking its build backend for metadata, which runs the package's
        # code. So the hash goes into the requirement: pip compares it first and runs nothing that differs.
        requirement = Path(scratch) / "requirements.txt"
        requirement.write_text(f"{name}=={version} --hash=sha256:{sha256}\n", encoding="utf-8")
        kind = "--only-binary" if binary else "--no-binary"
        command = [sys.executable, "-P", "-m", "pip", "download", "--disable-pip-version-check", "--no-deps"]
        command += [kind, name, "--require-hashes", "--requirement", str(requirement), "--dest"]
        return _fetch(command, f"{name} {version}", "pip", sha256, folder)


def read_files(archive: Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the files in a tar archive or wheel whose whole name matches the regular expression."""
    wanted = re.compile(pattern)
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for name in opened.namelist():
                if wanted.fullmatch(name):
                    yield name, opened.read(name)
        return
    with tarfile.open(archive) as opened:
        for member in opened:
            if member.isfile() and wanted.fullmatch(member.name):
                content = opened.extractfile(member)
                assert content is not None  # it is a plain file
                yield member.name, content.read()


def _folded(name: str) -> str:
    # tiny_words and Tiny-Words are one name to pip.
    return name.lower().replace("_", "-")


def _is_whole(archive: Path, sha256: str) -> bool:
    return archive.is_file() and sha256_of(archive) == sha256


def _fetch(command: list[str], package: str, tool: str, sha256: str, target: Path) -> Path:
    """Run ``command`` with a scratch folder appended, check what it brought, and move it to ``target``.

    Where ``target`` is a folder, the file keeps its name in there.
    """
    folder = target if target.is_dir() else target.parent
    with writing_errors_explained(target):
        make_folder(folder)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            done = subprocess.run([*command, scratch], capture_output=True, text=True, cwd=scratch)
            output = f"{done.stdout}\n{done.stderr}"
            fetched = sorted(path for path in Path(scratch).iterdir() if path.is_file())
            if done.returncode == 0 and len(fetched) == 1:
                found = sha256_of(fetched[0])
                if found != sha256:
                    raise _refusal(package, sha256, found)
                final = target / fetched[0].name if target.is_dir() else target
                os.replace(fetched[0], final)
                return final
    if _PIP_HASH_COMPLAINT in output:
        got = re.search(r"Got\s+([0-9a-f]{64})", output)
        raise _refusal(package, sha256, got.group(1) if got else "another one")
    if "No module named pip" in output:
        raise ReaderError(f"pip is not installed here, and {package} is fetched with it. Run: python -m ensurepip")
    last_words = " / ".join(line.strip() for line in output.splitlines() if line.strip())[-400:]
    raise ReaderError(
        f"{tool} could not fetch {package}: is the network on, and does the mirror set up for {tool} have it? "
        f"{tool} said: {last_words or 'nothing'}"
    )


def _refusal(package: str, expected: str, found: str) -> ReaderError:
    return ReaderError(
        f"{package} is refused: its sha256 is {found}, expected {expected}. The archive was changed or damaged on its "
        "way; nothing of it was used. Try another mirror; if the hash stays different, report it."
    )
