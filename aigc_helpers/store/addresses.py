"""``install_address()``: a weight file from an address or a model hub, downloaded, checked, put where it belongs."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

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
from aigc_helpers.store.placing import check_free_space, link, locked
from aigc_helpers.store.transfer import download

if TYPE_CHECKING:
    from aigc_helpers.store.hub_listing import HubFile, Listing

_MOST_NAMED = 5
_HUBS = ("hub:", "modelscope:")
_HUB_ADDRESS = re.compile(
    r"(?P<hub>hub|modelscope):(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[^/@]+))?(/(?P<file>.+))?", re.IGNORECASE
)

_ADDRESS_OF_PAGE = re.compile(
    r"https?://(www\.)?modelscope\.(cn|ai)/models/(?P<repository>[\w.-]+/[\w.-]+)"
    r"(/(summary|files)?|/(resolve|file/view)/(?P<revision>[^/?#]+)/(?P<file>[^?#]+))?([?#].*)?",
    re.IGNORECASE,
)


class _Repository(NamedTuple):
    """A repository of a hub, at a revision.

    Attributes:
        address: as a reader writes it, without revision and file.
        name: ``owner/name``.
        list_files: gives what it lists.
        fetch_file: gives where a file of a commit lies, verified.
        is_here: says whether a file of a commit need not be fetched.
        folder_of: gives the folder of a commit that is ours and goes when it is installed; None if there is none.
    """

    address: str
    name: str
    list_files: Callable[[], Listing]
    fetch_file: Callable[[str, HubFile], Path]
    is_here: Callable[[str, HubFile], bool]
    folder_of: Callable[[str], Path | None]


def is_address(source: str) -> bool:
    """Say whether this is an address to download from, and no path and no name."""
    return source.lower().startswith(("http://", "https://", *_HUBS))


def install_address(
    address: str, *, sha256: str | None = None, layout: str = "aigc", to: Path | None = None
) -> InstalledFile:
    """Download a weight file and install it as ``install_file`` does; what lies there already is not fetched again.

    Args:
        address: ``http://…``, ``https://…``, ``hub:owner/name[@revision][/file]``, or the same with ``modelscope:``. A
            repository without a file is installed as a whole: one set of safetensors, configurations and vocabularies.
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
    address = _address_of_page(address) or address
    if not address.lower().startswith(_HUBS):
        return _install_url(address, layout, to, sha256)
    parts = _HUB_ADDRESS.fullmatch(address)
    if parts is None:
        printed, hub = without_secrets(address), address.partition(":")[0].lower()
        raise ReaderError(f"{printed!r} is no address on the hub. They look so: {hub}:owner/name@revision/file")
    repository = _repository(parts["hub"].lower(), parts["repository"], parts["revision"])
    if parts["file"]:
        return _install_file_of(repository, parts["file"], sha256, layout, to)
    if sha256:
        raise ReaderError("a whole repository has no sha256: each file is compared with the hub's listing.")
    return _install_repository(repository, layout, to)


def _address_of_page(url: str) -> str | None:
    """Return the ``modelscope:`` address for that of a page of the site; None for any other."""
    found = _ADDRESS_OF_PAGE.fullmatch(url)
    if not found:
        return None
    file = f"@{found['revision']}/{found['file']}" if found["file"] else ""
    return f"modelscope:{found['repository']}{file}"


def _repository(hub: str, name: str, revision: str | None) -> _Repository:
    if hub == "modelscope":
        from aigc_helpers.store import modelscope

        def fetch_file(commit: str, file: HubFile) -> Path:
            return modelscope.fetch_file(name, revision, file, modelscope.folder_of(name, commit))

        def is_here(commit: str, file: HubFile) -> bool:
            return (modelscope.folder_of(name, commit) / file.name).is_file()

        return _Repository(
            f"modelscope:{name}",
            name,
            partial(modelscope.list_files, name, revision),
            fetch_file,
            is_here,
            partial(modelscope.folder_of, name),
        )
    from aigc_helpers.store import hub as hugging_face

    return _Repository(
        f"hub:{name}",
        name,
        partial(hugging_face.list_files, name, revision),
        partial(hugging_face.fetch_file, name),
        partial(hugging_face.is_cached, name),
        lambda _: None,
    )


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


def _install_file_of(
    repository: _Repository, name: str, sha256: str | None, layout: str, to: Path | None
) -> InstalledFile:
    root = root_of(layout, to)
    commit, files, left_out = repository.list_files()
    listed = next((file for file in files if file.name == name), None)
    if name in left_out:
        raise SourceError(
            f"{quoted(name)} of {repository.name} is no name on some system, so it is not installed under it. Download "
            "it from its page under another name, then: aigc install THAT_FILE"
        )
    if listed is None:
        has = ", ".join(file.name for file in files[:30])
        raise SourceError(f"{repository.name} has no file {name}. It has: {has}")
    if sha256 and listed.sha256 and sha256.lower() != listed.sha256:
        raise SourceError(f"the hub lists {name} with the sha256 {listed.sha256}, expected {sha256.lower()}")
    address = f"{repository.address}@{commit}/{name}"
    with locked(f"install {address}"), writing_errors_explained(downloads_folder()):
        if before := _installed_before(address, sha256):
            return install_file(before, layout=layout, to=to)
        path = repository.fetch_file(commit, listed)
        found = listed.sha256 or sha256_of(path)
        if sha256 and found != sha256.lower():
            raise SourceError(f"the sha256 of {repository.name}/{name} is {found}, expected {sha256.lower()}")
        return _install_fetched(address, path, found, layout, root, repository.folder_of(commit))


def _install_repository(repository: _Repository, layout: str, to: Path | None) -> InstalledFile:
    from aigc_helpers.store.hub_selection import needed_files, which_file

    commit, files, left_out = repository.list_files()
    if layout != OUR_OWN:
        raise which_file(repository.address, files, f"{LAYOUTS[layout].program} reads single files")
    needed = needed_files(repository.address, files)
    name = repository.name.replace("/", "--")
    downloads = downloads_folder()
    with locked(f"install {repository.address}@{commit}"), writing_errors_explained(downloads):
        installed = {file.name: _installed_copy(name, file) for file in needed}
        missing = [file for file in needed if not installed[file.name] and not repository.is_here(commit, file)]
        # Where it is downloaded to, and in our store.
        check_free_space(downloads, 2 * sum(file.size for file in missing), repository.name)
        with temporary_folder(downloads) as temporary:
            folder = temporary / name
            for file in needed:
                # Each one arrives whole, so that an interrupted run goes on with the next.
                path = installed[file.name] or repository.fetch_file(commit, file)
                link(path, folder / file.name)
            installed_folder = install_linked(folder, layout=layout, to=to)
        own = repository.folder_of(commit)
        if own and own.exists():
            shutil.rmtree(own)
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
