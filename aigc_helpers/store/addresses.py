"""``install_address()``: a weight file from an address or a model hub, downloaded, checked, put where it belongs."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from aigc_helpers.errors import ReaderError
from aigc_helpers.files import sha256_of, write_text, writing_errors_explained
from aigc_helpers.formats import PICKLE_SUFFIXES
from aigc_helpers.store.catalog import SourceError
from aigc_helpers.store.layouts import root_of
from aigc_helpers.store.local_files import InstalledFile, as_safetensors, install_file, place
from aigc_helpers.store.local_folders import install_folder
from aigc_helpers.store.partial_file import address_hash, downloads_folder
from aigc_helpers.store.placing import check_free_space, locked
from aigc_helpers.store.transfer import download

_HUB_ADDRESS = re.compile(r"hub:(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[^/@]+))?(/(?P<file>.+))?", re.IGNORECASE)
_OTHER_FORMATS = PICKLE_SUFFIXES | {".h5", ".msgpack", ".onnx", ".ot", ".pb", ".py", ".tflite", ".mlmodel"}


def is_address(source: str) -> bool:
    """Say whether this is an address to download from, and no path and no name."""
    return source.lower().startswith(("http://", "https://", "hub:"))


def install_address(
    address: str, *, sha256: str | None = None, layout: str = "aigc", to: Path | None = None
) -> InstalledFile:
    """Download a weight file and install it as ``install_file`` does; what lies there already is not fetched again.

    Args:
        address: ``http://…``, ``https://…``, or ``hub:owner/name[@revision][/file]``. A repository of the hub without
            a file is installed as a whole, but for the same weights in other formats.
        sha256: of the file at that address, hexadecimal, if known.
        layout: ``"aigc"``, ``"a1111"`` or ``"comfyui"``.
        to: the other program's folder; None for our own store.

    Raises:
        ReaderError: the download failed, or as for ``install_file``. Nothing was changed then.
    """
    if not address.lower().startswith("hub:"):
        return _install_url(address, layout, to, sha256)
    parts = _HUB_ADDRESS.fullmatch(address)
    if parts is None:
        raise ReaderError(f"{address!r} is no address on the hub. They look so: hub:owner/name@revision/file")
    if parts["file"]:
        return _install_hub_file(parts["repository"], parts["revision"], parts["file"], sha256, layout, to)
    if sha256:
        raise ReaderError("a whole repository has no sha256: each file is compared with the hub's listing.")
    return _install_repository(parts["repository"], parts["revision"], layout, to)


@dataclass(frozen=True)
class _InstalledBefore:
    """What an address gave earlier: the download's sha256, and path and sha256 of the file that was installed."""

    sha256: str
    path: str
    installed_sha256: str


def _install_url(
    url: str,
    layout: str,
    to: Path | None,
    sha256: str | None,
    git_blob: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> InstalledFile:
    root = root_of(layout, to)
    folder = downloads_folder() / address_hash(url)
    notes = folder.with_suffix(".installed.json")
    with locked(f"install {url}"), writing_errors_explained(folder), ExitStack() as stack:
        before = _read(notes)
        if before and (sha256 is None or sha256.lower() == before.sha256):
            return install_file(Path(before.path), layout=layout, to=to)
        path = _downloaded(url, folder, sha256, git_blob, headers)
        fetched = sha256_of(path)
        try:
            checked, inspection = stack.enter_context(as_safetensors(path))
        except ReaderError:
            shutil.rmtree(folder)  # What is no weight file, or an unsafe one, is not kept.
            raise
        installed = place(checked, inspection, layout, root, keep=False)
        write_text(notes, json.dumps(asdict(_InstalledBefore(fetched, str(installed.path), str(installed.sha256)))))
        shutil.rmtree(folder)
    return installed


def _read(notes: Path) -> _InstalledBefore | None:
    try:
        before = _InstalledBefore(**json.loads(notes.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    path = Path(before.path)
    return before if path.is_file() and sha256_of(path) == before.installed_sha256 else None


def _downloaded(
    url: str, folder: Path, sha256: str | None, git_blob: str | None, headers: Mapping[str, str] | None
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    # Whole, and left by an earlier run that found its place taken.
    kept = next(folder.iterdir(), None)
    if kept and (sha256 is None or sha256_of(kept) == sha256.lower()):
        return kept
    if kept:
        kept.unlink()
    return download(url, folder, sha256=sha256, git_blob=git_blob, headers=headers)


def _install_hub_file(
    repository: str, revision: str | None, name: str, sha256: str | None, layout: str, to: Path | None
) -> InstalledFile:
    from aigc_helpers.store.hub import file_address, list_files, sign_in

    commit, files = list_files(repository, revision)
    listed = next((file for file in files if file.name == name), None)
    if listed is None:
        raise SourceError(f"{repository} has no file {name}. It has: {', '.join(file.name for file in files[:30])}")
    if sha256 and listed.sha256 and sha256.lower() != listed.sha256:
        raise SourceError(f"the hub lists {name} with the sha256 {listed.sha256}, expected {sha256.lower()}")
    url = file_address(repository, commit, name)
    return _install_url(url, layout, to, sha256 or listed.sha256, listed.git_blob, sign_in())


def _install_repository(repository: str, revision: str | None, layout: str, to: Path | None) -> InstalledFile:
    from aigc_helpers.store.hub import fetch_file, list_files

    commit, files = list_files(repository, revision)
    wanted = [file for file in files if Path(file.name).suffix not in _OTHER_FORMATS and not file.name.startswith(".")]
    if not any(file.name.endswith((".safetensors", ".gguf")) for file in wanted):
        pickles = [file.name for file in files if Path(file.name).suffix in PICKLE_SUFFIXES]
        raise SourceError(
            f"{repository} holds no safetensors. Its pickles are converted one by one: "
            + (f"aigc install hub:{repository}@{commit}/{pickles[0]}" if pickles else "it has none, either")
        )
    folder = downloads_folder() / address_hash(f"hub:{repository}@{commit}")
    with locked(f"install {folder}"), writing_errors_explained(folder):
        check_free_space(folder, 2 * sum(file.size for file in wanted), repository)
        for file in wanted:
            target = folder / file.name
            if not target.is_file():  # Each one arrives whole, so that an interrupted run goes on with the next.
                target.parent.mkdir(parents=True, exist_ok=True)
                fetch_file(repository, commit, file, target)
        installed = install_folder(folder, layout=layout, to=to, name=repository.replace("/", "--"))
        shutil.rmtree(folder)
    return installed
