"""``install_address()``: a weight file from an address or a model hub, downloaded, checked, put where it belongs."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from aigc_helpers.errors import ReaderError, first_few
from aigc_helpers.files import make_folder, sha256_of, temporary_folder, write_text, writing_errors_explained
from aigc_helpers.formats import quoted
from aigc_helpers.store.catalog import SourceError
from aigc_helpers.store.http_faults import without_secrets
from aigc_helpers.store.layouts import LAYOUTS, OUR_OWN, root_of
from aigc_helpers.store.local_files import InstalledFile, as_safetensors, install_file, place
from aigc_helpers.store.local_folders import install_linked
from aigc_helpers.store.location import store_folder
from aigc_helpers.store.partial_file import address_hash, downloads_folder
from aigc_helpers.store.placing import check_free_space, locked
from aigc_helpers.store.transfer import download

if TYPE_CHECKING:
    from aigc_helpers.store.hub_listing import HubFile

_MOST_NAMED = 5
_HUB_ADDRESS = re.compile(r"hub:(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[^/@]+))?(/(?P<file>.+))?", re.IGNORECASE)


def is_address(source: str) -> bool:
    """Say whether this is an address to download from, and no path and no name."""
    return source.lower().startswith(("http://", "https://", "hub:"))


def install_address(
    address: str, *, sha256: str | None = None, layout: str = "aigc", to: Path | None = None
) -> InstalledFile:
    """Download a weight file and install it as ``install_file`` does; what lies there already is not fetched again.

    Args:
        address: ``http://…``, ``https://…``, or ``hub:owner/name[@revision][/file]``. A repository of the hub without
            a file is installed as a whole: one set of safetensors, configurations and vocabularies.
        sha256: of the file at that address, hexadecimal, if known.
        layout: ``"aigc"``, ``"a1111"``, ``"forge"`` or ``"comfyui"``.
        to: the other program's folder; None for our own store.

    Raises:
        ReaderError: the download failed, or as for ``install_file``. Nothing was changed then.

    Example:
        >>> install_address("hub:someone")
        Traceback (most recent call last):
        aigc_helpers.errors.ReaderError: 'hub:someone' is no address on the hub. ...
    """
    if not address.lower().startswith("hub:"):
        return _install_url(address, layout, to, sha256)
    parts = _HUB_ADDRESS.fullmatch(address)
    if parts is None:
        printed = without_secrets(address)
        raise ReaderError(f"{printed!r} is no address on the hub. They look so: hub:owner/name@revision/file")
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


def _install_url(url: str, layout: str, to: Path | None, sha256: str | None) -> InstalledFile:
    root = root_of(layout, to)
    folder = downloads_folder() / address_hash(url)
    with locked(f"install {url}"), writing_errors_explained(folder):
        if before := _installed_before(url, sha256):
            return install_file(before, layout=layout, to=to)
        path = _downloaded(url, folder, sha256)
        return _install_fetched(url, path, sha256_of(path), layout, root, folder)


def _install_fetched(
    address: str, path: Path, sha256: str, layout: str, root: Path, folder: Path | None = None
) -> InstalledFile:
    """Place what came from an address, and note it for the next time; ``folder`` is ours, and goes in the end."""
    with ExitStack() as stack:
        try:
            checked, inspection = stack.enter_context(as_safetensors(path))
        except ReaderError:
            if folder:
                shutil.rmtree(folder)  # What is no weight file, or an unsafe one, is not kept.
            raise
        # The hub's cache stays as it is; a download of ours, or what a pickle became, is moved.
        installed = place(checked, inspection, layout, root, keep=not folder and checked == path)
        note = _InstalledBefore(sha256, str(installed.path), str(installed.sha256))
        write_text(_notes(address), json.dumps(asdict(note)))
    if folder:
        shutil.rmtree(folder)
    return installed


def _installed_before(address: str, sha256: str | None) -> Path | None:
    """Return what an address gave earlier, if it still lies there unaltered, and is what is wanted."""
    try:
        before = _InstalledBefore(**json.loads(_notes(address).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    path = Path(before.path)
    wanted = sha256 is None or sha256.lower() == before.sha256
    return path if wanted and path.is_file() and sha256_of(path) == before.installed_sha256 else None


def _notes(address: str) -> Path:
    return downloads_folder() / f"{address_hash(address)}.installed.json"


def _downloaded(url: str, folder: Path, sha256: str | None) -> Path:
    make_folder(folder)
    # Whole, and left by an earlier run that found its place taken.
    kept = next(folder.iterdir(), None)
    if kept and (sha256 is None or sha256_of(kept) == sha256.lower()):
        return kept
    if kept:
        kept.unlink()
    return download(url, folder, sha256=sha256)


def _install_hub_file(
    repository: str, revision: str | None, name: str, sha256: str | None, layout: str, to: Path | None
) -> InstalledFile:
    from aigc_helpers.store.hub import fetch_file, list_files

    root = root_of(layout, to)
    commit, files, left_out = list_files(repository, revision)
    listed = next((file for file in files if file.name == name), None)
    if name in left_out:
        raise SourceError(
            f"{quoted(name)} of {repository} is no name on some system, so it is not installed under it. Download it "
            "from its page under another name, then: aigc install THAT_FILE"
        )
    if listed is None:
        raise SourceError(f"{repository} has no file {name}. It has: {', '.join(file.name for file in files[:30])}")
    if sha256 and listed.sha256 and sha256.lower() != listed.sha256:
        raise SourceError(f"the hub lists {name} with the sha256 {listed.sha256}, expected {sha256.lower()}")
    address = f"hub:{repository}@{commit}/{name}"
    with locked(f"install {address}"), writing_errors_explained(downloads_folder()):
        if before := _installed_before(address, sha256):
            return install_file(before, layout=layout, to=to)
        path = fetch_file(repository, commit, listed)
        found = listed.sha256 or sha256_of(path)
        if sha256 and found != sha256.lower():
            raise SourceError(f"the sha256 of {repository}/{name} is {found}, expected {sha256.lower()}")
        return _install_fetched(address, path, found, layout, root)


def _install_repository(repository: str, revision: str | None, layout: str, to: Path | None) -> InstalledFile:
    from aigc_helpers.store.hub import fetch_file, is_cached, list_files
    from aigc_helpers.store.hub_selection import needed_files, which_file

    commit, files, left_out = list_files(repository, revision)
    if layout != OUR_OWN:
        raise which_file(repository, files, f"{LAYOUTS[layout].program} reads single files")
    needed = needed_files(repository, files)
    name = repository.replace("/", "--")
    downloads = downloads_folder()
    with locked(f"install hub:{repository}@{commit}"), writing_errors_explained(downloads):
        installed = {file.name: _installed_copy(name, file) for file in needed}
        missing = [file for file in needed if not installed[file.name] and not is_cached(repository, commit, file)]
        # In the hub's cache, and in our store.
        check_free_space(downloads, 2 * sum(file.size for file in missing), repository)
        with temporary_folder(downloads) as temporary:
            folder = temporary / name
            for file in needed:
                # Each one arrives whole, so that an interrupted run goes on with the next.
                path = installed[file.name] or fetch_file(repository, commit, file)
                _link(path, folder / file.name)
            installed_folder = install_linked(folder, layout=layout, to=to)
    return replace(installed_folder, remarks=(*installed_folder.remarks, *_remark_on_names(left_out)))


def _remark_on_names(left_out: list[str]) -> list[str]:
    if not left_out:
        return []
    names = first_few(left_out, _MOST_NAMED, quoted)
    return [f"Left out, for it is no name on some system: {names}."]


def _installed_copy(name: str, file: HubFile) -> Path | None:
    from aigc_helpers.store.hub import difference

    for kind in LAYOUTS[OUR_OWN].folders.values():
        path = store_folder() / kind / name / file.name
        if path.is_file() and not difference(path, file):
            return path
    return None


def _link(path: Path, target: Path) -> None:
    make_folder(target.parent)
    try:
        target.symlink_to(path.resolve())
    except OSError:  # Windows lets only some accounts make links.
        shutil.copyfile(path, target)
