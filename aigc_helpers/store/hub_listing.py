"""What a hub says of a repository: its commit and its files. Read within bounds, and taken only in the right shape.

Not huggingface_hub's own ``list_repo_tree``: that follows ``Link: rel="next"`` to any host with the reader's token, for
as long as there is one, and reads whatever length an answer has.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote, urljoin, urlsplit

import requests
import urllib3
from huggingface_hub.utils import build_hf_headers

from aigc_helpers.bounded_json import parse_json
from aigc_helpers.formats import UnstorableNameError, check_name, quoted
from aigc_helpers.store.http_faults import CONNECT_SECONDS, SILENCE_SECONDS, DownloadError, connection_fault

_PAUSES = (0.3, 1.0, 2.0)  # Seconds before each further try.
_MOST_PAGES = 300  # The hub puts 1,000 files on each.
_LARGEST_PAGE = 32_000_000  # Bytes.
MOST_SECONDS = 120  # For all answers together.
_BLOCK = 1 << 16
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SHA256, _GIT_BLOB = re.compile(r"[0-9a-f]{64}"), _COMMIT


@dataclass(frozen=True)
class HubFile:
    """A file of a repository: its size in bytes, and the sha256 of a large one or git's own hash of a small one."""

    name: str
    size: int
    sha256: str | None
    git_blob: str | None


class Listing(NamedTuple):
    """The files of a commit; ``left_out`` are names that not every system can store, so that they are not installed."""

    commit: str
    files: list[HubFile]
    left_out: list[str]


class RefusedError(Exception):
    """The hub answered with a status that is no success."""

    def __init__(self, status: int, headers: requests.structures.CaseInsensitiveDict[str]) -> None:
        """Keep what says why."""
        super().__init__(f"status {status}")
        self.status, self.headers = status, headers


def read_listing(endpoint: str, repository: str, revision: str | None) -> Listing:
    """Ask the hub at ``endpoint`` for the commit that ``revision`` (by default the newest) stands for, and its files.

    Raises:
        RefusedError: the hub answered with a status that is no success.
        DownloadError: it cannot be reached.
        ValueError: its answer has not the shape of a hub's.
        UnsafeNameError: a listed name would lead out of its folder.
    """
    about = f"{endpoint}/api/models/{repository}"
    place = f"{about}/revision/{quote(revision, safe='')}" if revision else about
    deadline = time.monotonic() + MOST_SECONDS
    commit = _commit(ask(place, endpoint, deadline)[0])
    files: dict[str, HubFile] = {}
    left_out: list[str] = []
    page: str | None = f"{about}/tree/{commit}?recursive=true&expand=false"
    asked, listed = 0, 0
    names: set[str] = set()
    while page:
        entries, page = ask(page, endpoint, deadline)
        asked += 1
        if not isinstance(entries, list) or not (entries or asked == 1):
            raise ValueError("a page of the listing that is no list of files")
        found = list(map(_file, entries))
        names |= {entry["path"] for entry in entries}
        if page and (asked == _MOST_PAGES or (entries and len(names) == listed)):
            raise ValueError(f"a listing without end, after {asked} pages")
        listed = len(names)
        for file in filter(None, found):
            try:
                files[check_name(file.name, f"The listing of {repository}")] = file
            except UnstorableNameError:
                left_out.append(file.name)
    return Listing(commit, list(files.values()), left_out)


def ask(url: str, endpoint: str | None, deadline: float) -> tuple[Any, str | None]:
    """Return the JSON at ``url``, and the address of the next page.

    Args:
        url: what is asked for.
        endpoint: the hub that is told who asks; None if nobody is.
        deadline: when the whole listing must be there, by ``time.monotonic``.

    Raises:
        RefusedError, DownloadError, ValueError: as for ``read_listing``.
    """
    for pause in (*_PAUSES, None):
        try:
            return _ask_once(url, endpoint, deadline)
        except DownloadError as fault:
            if not fault.passing or pause is None:
                raise
            time.sleep(max(pause, fault.wait))
        except RefusedError as fault:
            if fault.status < 500 or pause is None:
                raise
            time.sleep(pause)
    raise AssertionError("the last try returns or raises")


def _ask_once(url: str, endpoint: str | None, deadline: float) -> tuple[Any, str | None]:
    # Another host is not told who asks.
    headers = build_hf_headers(token=None if endpoint and _origin(url) == _origin(endpoint) else False)
    try:
        with requests.get(url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, SILENCE_SECONDS)) as response:
            if response.status_code != 200:
                raise RefusedError(response.status_code, response.headers)
            content = _content(response, deadline)
            following = response.links.get("next", {}).get("url")
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise connection_fault(url, error) from error
    if content.lstrip()[:1] == b"<":
        raise ValueError("a web page")
    return parse_json(content.decode("utf-8")), urljoin(url, following) if following else None


def _content(response: requests.Response, deadline: float) -> bytes:
    content = bytearray()
    for block in response.iter_content(_BLOCK):
        content += block
        if len(content) > _LARGEST_PAGE or time.monotonic() > deadline:
            raise ValueError("an answer without end")
    return bytes(content)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def _commit(answer: object) -> str:
    commit = answer.get("sha") if isinstance(answer, dict) else None
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        raise ValueError("no commit of a repository")
    return commit


def _file(entry: object) -> HubFile | None:
    """Return what an entry of the listing says, or None for a folder."""
    if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
        raise ValueError("an entry of the listing without a path")
    if entry.get("type") != "file":
        return None
    name, size, stored = entry["path"], entry.get("size"), entry.get("lfs")
    sha256 = stored.get("oid") if isinstance(stored, dict) else None
    blob = entry.get("oid")
    if type(size) is not int or size < 0:
        raise ValueError(f"no size of {quoted(name)}")
    if not (_is_hash(sha256, _SHA256) if stored else _is_hash(blob, _GIT_BLOB)):
        raise ValueError(f"no hash of {quoted(name)}")
    return HubFile(name, size, sha256, None) if stored else HubFile(name, size, None, blob)


def _is_hash(value: object, form: re.Pattern[str]) -> bool:
    return isinstance(value, str) and form.fullmatch(value) is not None
