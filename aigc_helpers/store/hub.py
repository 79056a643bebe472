"""Files of a model hub's repository at a fixed commit: what it lists, and one of them on the disk.

The hub is the one that huggingface_hub speaks to: ``HF_ENDPOINT`` names a mirror, ``HF_TOKEN`` or ``hf auth login``
says who asks, ``HF_HUB_OFFLINE=1`` forbids asking.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests
from huggingface_hub import constants, get_token, hf_hub_url, try_to_load_from_cache

from aigc_helpers.bounded_json import parse_json
from aigc_helpers.errors import first_line
from aigc_helpers.files import sha256_of
from aigc_helpers.formats import check_name
from aigc_helpers.store.catalog import SourceError
from aigc_helpers.store.http_faults import (
    CONNECT_SECONDS,
    SILENCE_SECONDS,
    DownloadError,
    connection_fault,
    status_fault,
)
from aigc_helpers.store.transfer import download


@dataclass(frozen=True)
class HubFile:
    """A file of a repository: its size in bytes, and the sha256 of a large one or git's own hash of a small one."""

    name: str
    size: int
    sha256: str | None
    git_blob: str | None


def list_files(repository: str, revision: str | None = None) -> tuple[str, list[HubFile]]:
    """Return the commit that ``revision`` (by default the newest) stands for, and its files.

    Raises:
        SourceError: the hub cannot be reached, or has no such repository or revision.
        ReaderError: a listed name would lead out of its folder.
    """
    if constants.HF_HUB_OFFLINE:
        raise _offline(repository)
    address = f"{constants.ENDPOINT}/api/models/{repository}"
    answer = _ask(f"{address}/revision/{quote(revision, safe='')}" if revision else address)
    files: list[HubFile] = []
    try:
        commit = _content(answer)["sha"]
        page = f"{address}/tree/{commit}?recursive=true"
        while page:
            answer = _ask(page)
            files += [_file(entry, repository) for entry in _content(answer) if entry["type"] == "file"]
            page = answer.links.get("next", {}).get("url")  # A long listing comes in pages.
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(
            f"{constants.ENDPOINT} gave something else than the list of files of {repository} ({first_line(error)}). "
            "Open the address in a browser: a network may ask you to sign in first. HF_ENDPOINT may name no hub."
        ) from error
    return commit, files


def _content(answer: requests.Response) -> Any:  # noqa: ANN401 - whatever the hub says.
    return parse_json(answer.content.decode("utf-8"))


def _file(entry: dict[str, Any], repository: str) -> HubFile:
    name = check_name(entry["path"], f"The listing of {repository}")
    sha256 = (entry.get("lfs") or {}).get("oid")
    return HubFile(name, entry["size"], sha256, None if sha256 else entry["oid"])


def fetch_file(repository: str, commit: str, file: HubFile, target: Path) -> None:
    """Write one file to ``target``: from huggingface_hub's cache if it is there unaltered, else from the hub.

    Raises:
        SourceError: the hub cannot be reached, or gives another file.
    """
    cached = try_to_load_from_cache(repository, file.name, constants.HF_HUB_CACHE, commit)
    if isinstance(cached, str) and file.sha256 and sha256_of(Path(cached)) == file.sha256:
        shutil.copyfile(cached, target)
        return
    if constants.HF_HUB_OFFLINE:
        raise _offline(f"{repository}/{file.name}")
    try:
        download(
            file_address(repository, commit, file.name),
            target,
            size=file.size,
            sha256=file.sha256,
            git_blob=file.git_blob,
            headers=sign_in(),
        )
    except DownloadError as error:
        raise SourceError(f"the hub did not give {repository}/{file.name}: {error}") from error


def file_address(repository: str, commit: str, name: str) -> str:
    """Return the address of a file on the hub, or on the mirror that ``HF_ENDPOINT`` names."""
    return hf_hub_url(repository, name, revision=commit, endpoint=constants.ENDPOINT)


def sign_in() -> dict[str, str]:
    """Return the header that says who asks; empty for a guest."""
    token = get_token()
    return {"Authorization": f"Bearer {token}"} if token else {}


def _ask(url: str) -> requests.Response:
    # Not through huggingface_hub: its errors are those of httpx or httpx2, by its version.
    try:
        answer = requests.get(url, headers=sign_in(), timeout=(CONNECT_SECONDS, SILENCE_SECONDS))
    except requests.RequestException as error:
        raise connection_fault(url, error) from error
    if answer.status_code != 200:
        raise status_fault(url, answer)
    return answer


def _offline(what: str) -> SourceError:
    return SourceError(f"HF_HUB_OFFLINE is set, so the hub was not asked for {what}")
