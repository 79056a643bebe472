"""``download()``: one file over HTTP, continued where an earlier run stopped, and in place only when it is right."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import requests
import urllib3
from tqdm.auto import tqdm

from aigc_helpers.files import make_folder, sha256_of, writing_errors_explained
from aigc_helpers.formats import check_name
from aigc_helpers.store.content_names import name_of_download
from aigc_helpers.store.http_faults import (
    CONNECT_SECONDS,
    SILENCE_SECONDS,
    DownloadError,
    connection_fault,
    shown,
    status_fault,
)
from aigc_helpers.store.partial_file import PartialFile
from aigc_helpers.store.placing import check_free_space, locked, move
from aigc_helpers.terminal import visible

_PAUSES = (0.3, 1.0, 2.0, 4.0)  # Seconds before each further try; they begin anew whenever much has arrived.
_MUCH = 1 << 20  # Bytes.
_BLOCK = 1 << 18  # Bytes read at once, at most: what has arrived is written at once.
_WORTH_A_BAR = 5_000_000  # Bytes.
_PAGES = (b"<!doctype html", b"<html")
_COUNT = r"[0-9]{1,18}"  # Bytes; more digits than any disk has.
# How far a packed answer may grow: times what was sent, and bytes. Weights hardly pack at all.
_MOST_GROWTH, _ALWAYS_ADMITTED = 20, 10_000_000


def download(
    url: str,
    target: Path,
    *,
    sha256: str | None = None,
    size: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> Path:
    """Put the file at ``url`` into place, and return where it lies; one with the right sha256 may lie there already.

    What has arrived survives the process. The next call asks for the rest (``Range``) on the condition that the file
    is still the same (``If-Range``), as RFC 9110 has it. Processes that ask for the same address take turns.

    Args:
        url: ``http://`` or ``https://``; redirects are followed, and another host never sees ``Authorization``.
        target: the file to write; or a folder, which gets the file under the name that server or address give it.
        sha256: of the whole file, hexadecimal, if known.
        size: of the whole file in bytes, if known.
        headers: to send along.

    Raises:
        DownloadError: there is no such file, the connection broke off, or what arrived is another file; the message
            says which. Nothing is in place then.
        ReaderError: the disk is full or not writable, or the server gives a name that leads out of the folder.

    Example:
        >>> from pathlib import Path
        >>> from aigc_helpers.notebook import LoopbackHub
        >>> hub = LoopbackHub("someone/model", {"config.json": b"{}"})
        >>> download(f"{hub.address}/someone/model/resolve/main/config.json", Path("config.json")).read_text()
        '{}'
        >>> hub.close()
    """
    before = _state(target)
    with locked(f"download {url}"), writing_errors_explained(target):
        if target.is_file() and (_state(target) != before or (sha256 and sha256_of(target) == sha256.lower())):
            return target  # Another process was faster.
        partial = PartialFile(url)
        make_folder(partial.path.parent)
        try:
            _complete(url, partial, size, dict(headers or {}))
        except BaseException:
            partial.discard_if_useless()
            raise
        _verify(url, partial, sha256, size)
        final = target / check_name(partial.name, shown(url), folders=False) if target.is_dir() else target
        move(partial.path, final)
        partial.discard()
    return final


def _state(target: Path) -> tuple[int, int] | None:
    return (target.stat().st_mtime_ns, target.stat().st_size) if target.is_file() else None


def _complete(url: str, partial: PartialFile, size: int | None, headers: dict[str, str]) -> None:
    pauses, mark = iter(_PAUSES), partial.held
    with requests.Session() as session:
        while partial.size is None or partial.held < partial.size:
            try:
                _ask(session, url, partial, size, headers)
                return
            except DownloadError as fault:
                if partial.held >= mark + _MUCH:
                    pauses, mark = iter(_PAUSES), partial.held
                pause = next(pauses, None)
                if not fault.passing or pause is None:
                    raise
                time.sleep(max(pause, fault.wait))


def _ask(session: requests.Session, url: str, partial: PartialFile, size: int | None, headers: dict[str, str]) -> None:
    held = partial.held if partial.validator else 0
    # Without a packed transfer the bytes that arrive are the file's own, and can be counted and continued.
    asked = headers | {"Accept-Encoding": "identity"}
    if held:
        asked |= {"Range": f"bytes={held}-", "If-Range": str(partial.validator)}
    try:
        response = session.get(url, headers=asked, stream=True, timeout=(CONNECT_SECONDS, SILENCE_SECONDS))
    except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
        raise connection_fault(url, error) from error
    with response:
        if response.status_code == 200:
            _begin(url, response, partial, size)
        elif response.status_code in (206, 416) and not _continues(response, partial, held):
            partial.discard()
            raise DownloadError(f"{shown(url)} is another file than before", passing=True)
        elif response.status_code != 206:
            raise status_fault(url, response.status_code, response.headers)
        _receive(url, response, partial, size)


def _begin(url: str, response: requests.Response, partial: PartialFile, size: int | None) -> None:
    if response.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise _page(url)
    packed = response.headers.get("Content-Encoding", "identity").lower() != "identity"
    length = response.headers.get("Content-Length", "")
    total = int(length) if re.fullmatch(_COUNT, length) and not packed else None
    if size is not None and total is not None and total != size:
        partial.discard()
        raise DownloadError(
            f"{shown(url)} has {total:,} bytes, expected {size:,}: it is another file. Nothing was kept"
        )
    name = name_of_download(url, response.url, response.headers.get("Content-Disposition", ""))
    check_free_space(partial.path.parent, total or size or 0, name)
    partial.begin(None if packed else _validator(response), total, name)


def _receive(url: str, response: requests.Response, partial: PartialFile, size: int | None) -> None:
    limit = partial.size if partial.size is not None else size
    with partial.path.open("ab") as written, _progress_bar(partial, limit) as bar:
        try:
            while block := response.raw.read1(_BLOCK, decode_content=partial.validator is None):
                if not written.tell() and block.lstrip().lower().startswith(_PAGES):
                    partial.discard()
                    raise _page(url)
                written.write(block)
                written.flush()
                bar.update(len(block))
                if limit is not None and written.tell() > limit:
                    partial.discard()
                    raise DownloadError(f"{shown(url)} sends more than {limit:,} bytes: it is another file")
                if partial.validator is None and written.tell() > _MOST_GROWTH * response.raw.tell() + _ALWAYS_ADMITTED:
                    raise DownloadError(
                        f"{shown(url)} is packed, and grows to more than {_MOST_GROWTH} times what is sent: no weights "
                        "do that. Nothing was kept. Look for the file somewhere else"
                    )
        except (urllib3.exceptions.HTTPError, ValueError, OverflowError) as error:
            raise connection_fault(url, error, kept=partial.validator is not None) from error
    if partial.size is not None and partial.held < partial.size:
        too_short = ConnectionError("the answer was too short")
        raise connection_fault(url, too_short, kept=partial.validator is not None)


def _verify(url: str, partial: PartialFile, sha256: str | None, size: int | None) -> None:
    fault = ""
    held = partial.held
    if size is not None and held != size:
        fault = f"it has {held:,} bytes, expected {size:,}"
    elif sha256 is not None and (found := sha256_of(partial.path)) != sha256.lower():
        fault = f"its sha256 is {found}, expected {sha256.lower()}"
    if fault:
        partial.discard()
        raise DownloadError(
            f"{shown(url)} is not the file that was asked for: {fault}. It was changed or damaged on the way, and was "
            "thrown away"
        )


def _continues(response: requests.Response, partial: PartialFile, held: int) -> bool:
    header = response.headers.get("Content-Range", "").strip()
    said = re.fullmatch(rf"bytes ({_COUNT})-({_COUNT})/({_COUNT}|\*)", header)
    if not held or response.status_code != 206 or said is None or int(said[1]) != held:
        return False
    same = _validator(response) in (None, partial.validator)
    return same and (said[3] == "*" or partial.size is None or int(said[3]) == partial.size)


def _validator(response: requests.Response) -> str | None:
    tag = response.headers.get("ETag", "")
    # A weak tag (W/) promises the same meaning, not the same bytes.
    return tag if tag.startswith('"') else response.headers.get("Last-Modified")


def _page(url: str) -> DownloadError:
    return DownloadError(
        f"{shown(url)} is a web page, not a file: the site wants you to sign in, or has an error. Open the address in "
        "a browser to see what it says, and use the address of its download button"
    )


def _progress_bar(partial: PartialFile, total: int | None) -> tqdm:
    somebody_watches = sys.stderr.isatty() or "ipykernel" in sys.modules
    return tqdm(
        desc=visible(partial.name),
        total=total,
        initial=partial.held,
        unit="B",
        unit_scale=True,
        mininterval=1.0,
        leave=False,
        disable=not somebody_watches or (total is not None and total < _WORTH_A_BAR),
    )
