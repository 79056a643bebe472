"""Files of a repository on ModelScope: what it lists, and one of them, verified by the listing's size and sha256.

Two requests of its public interface, as ModelScope's own library makes them: the listing of a revision, and a file of
it. No account is used; what needs one is downloaded in a browser.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlencode

from aigc_helpers.errors import first_line
from aigc_helpers.formats import UnstorableNameError, check_name, quoted
from aigc_helpers.store.catalog import SourceError
from aigc_helpers.store.http_faults import DownloadError, status_fault, without_secrets
from aigc_helpers.store.hub_listing import MOST_SECONDS, HubFile, Listing, RefusedError, ask
from aigc_helpers.store.partial_file import address_hash, downloads_folder
from aigc_helpers.store.transfer import download

ENDPOINT = "https://www.modelscope.cn"
_BRANCH = "master"
_SHA256 = re.compile(r"[0-9a-f]{64}")


def list_files(repository: str, revision: str | None) -> Listing:
    """Return the files of a revision (by default ``master``); as the commit, what tells this listing from others.

    Raises:
        SourceError: ModelScope cannot be reached, does not show the repository, or gives something else.
        ReaderError: a listed name would lead out of its folder.
    """
    place = f"{_about(repository)}/files?{urlencode({'Revision': revision or _BRANCH, 'Recursive': 'true'})}"
    with _faults_explained(repository):
        answer, _ = ask(place, None, time.monotonic() + MOST_SECONDS)
        listed = [file for entry in _entries(answer) if (file := _file(entry))]
    files: dict[str, HubFile] = {}
    left_out: list[str] = []
    for file in listed:
        try:
            files[check_name(file.name, f"The listing of {repository}")] = file
        except UnstorableNameError:
            left_out.append(file.name)
    digest = hashlib.sha256(repr(sorted((file.name, file.sha256) for file in listed)).encode())
    return Listing(digest.hexdigest(), list(files.values()), left_out)


def fetch_file(repository: str, revision: str | None, file: HubFile, folder: Path) -> Path:
    """Return where a file lies in ``folder``, verified; what lies there already is not fetched again.

    Raises:
        SourceError: it cannot be had, or is another one.
    """
    query = urlencode({"Revision": revision or _BRANCH, "FilePath": file.name}, quote_via=quote)
    try:
        return download(f"{_about(repository)}?{query}", folder / file.name, size=file.size, sha256=file.sha256)
    except DownloadError as error:
        raise SourceError(f"ModelScope did not give {repository}/{file.name}: {error}") from error


def folder_of(repository: str, commit: str) -> Path:
    """Return where the files of a listing lie until they are installed."""
    return downloads_folder() / address_hash(f"modelscope:{repository}@{commit}")


def _about(repository: str) -> str:
    return f"{ENDPOINT}/api/v1/models/{repository}/repo"


def _entries(answer: object) -> list[object]:
    data = answer.get("Data") if isinstance(answer, dict) else None
    entries = data.get("Files") if isinstance(data, dict) else None
    if not isinstance(entries, list):
        raise ValueError("no list of files")
    return entries


def _file(entry: object) -> HubFile | None:
    """Return what an entry of the listing says, or None for a folder."""
    if not isinstance(entry, dict) or not isinstance(entry.get("Path"), str):
        raise ValueError("an entry of the listing without a path")
    if entry.get("Type") == "tree":
        return None
    name, size, sha256 = entry["Path"], entry.get("Size"), entry.get("Sha256")
    if type(size) is not int or size < 0:
        raise ValueError(f"no size of {quoted(name)}")
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256.lower()):
        raise ValueError(f"no sha256 of {quoted(name)}")
    return HubFile(name, size, sha256.lower(), None)


@contextmanager
def _faults_explained(repository: str) -> Iterator[None]:
    """Turn what a listing raises into one sentence.

    Raises:
        SourceError: there was a fault.
    """
    page = f"{ENDPOINT}/models/{repository}"
    try:
        yield
    except RefusedError as error:
        if error.status in (401, 403):
            fault = (
                f"it is private or gated ({error.status}), and no account is used here. Accept its licence at {page}, "
                "download the file in the browser, then: aigc install THAT_FILE"
            )
        elif error.status == 404:
            fault = f"there is no such repository or revision (404). Check its name at {page}"
        else:
            fault = str(status_fault(page, error.status, error.headers))
        raise SourceError(f"ModelScope did not give the list of files of {repository}: {fault}") from error
    except DownloadError as error:
        raise SourceError(f"ModelScope did not give the list of files of {repository}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise SourceError(
            f"ModelScope gave something else than the list of files of {repository} "
            f"({without_secrets(first_line(error))}). Open {page} in a browser: a network may ask you to sign in first"
        ) from error
