"""Files of a model hub's repository at a fixed commit: what it lists, and one of them in the cache, verified.

Files through huggingface_hub, so that its cache is shared with transformers and diffusers, and its settings hold:
``HF_ENDPOINT`` names a mirror, ``HF_TOKEN`` or ``hf auth login`` says who asks, ``HF_HUB_OFFLINE=1`` forbids asking.
What it lacks stands here: every file is hashed, a large one goes on where an earlier run stopped, and each fault is one
sentence.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from huggingface_hub import (
    constants,
    get_hf_file_metadata,
    get_token,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    FileMetadataError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    XetDownloadError,
)
from huggingface_hub.file_download import repo_folder_name

from aigc_helpers.errors import first_line
from aigc_helpers.files import sha256_of, writing_errors_explained
from aigc_helpers.formats import check_name
from aigc_helpers.store.catalog import SourceError
from aigc_helpers.store.http_faults import (
    DownloadError,
    connection_fault,
    errors_under,
    shown,
    status_fault,
    without_secrets,
)
from aigc_helpers.store.hub_listing import HubFile, Listing, RefusedError, read_listing
from aigc_helpers.store.transfer import download

# The root of what a request raises that got no answer: httpx's or httpx2's, by huggingface_hub's version.
_HTTP_ERROR: type[Exception] = HfHubHTTPError.__bases__[0]
_REPOSITORY = re.compile(r"(?:/api/models)?/(.+?)(?:/(?:resolve|revision|tree)/.*)?")  # In the path of a request.
_NO_HUB = (FileMetadataError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


def list_files(repository: str, revision: str | None = None) -> Listing:
    """Return the commit that ``revision`` (by default the newest) stands for, and its files.

    Raises:
        SourceError: the hub cannot be reached, or has no such repository or revision, or does not know who asks; or
            what answers is no hub.
        ReaderError: a listed name would lead out of its folder.
    """
    if constants.HF_HUB_OFFLINE:
        raise _offline(repository)
    with _faults_explained(repository, f"the list of files of {repository}"):
        return read_listing(_endpoint(), repository, revision)


def _endpoint() -> str:
    endpoint = constants.ENDPOINT
    if not endpoint.lower().startswith(("http://", "https://")):
        raise SourceError(
            f"HF_ENDPOINT is {without_secrets(endpoint)!r}, which is no address: it begins with no https://. Write "
            f"HF_ENDPOINT=https://{without_secrets(endpoint).rpartition('//')[2]}, or leave it away for huggingface.co"
        )
    return endpoint


def is_cached(repository: str, commit: str, file: HubFile) -> bool:
    """Say whether huggingface_hub's cache has the file; whether it is unaltered shows when it is fetched."""
    return isinstance(try_to_load_from_cache(repository, file.name, constants.HF_HUB_CACHE, commit), str)


def fetch_file(repository: str, commit: str, file: HubFile) -> Path:
    """Return where a file lies in huggingface_hub's cache, verified: the hub is asked only for what is not there.

    Raises:
        SourceError: the hub cannot be reached, does not give the file, or gives another one, which is thrown away.
        ReaderError: the disk is full, or the cache is not writable.
    """
    cached = try_to_load_from_cache(repository, file.name, constants.HF_HUB_CACHE, commit)
    if isinstance(cached, str) and not difference(Path(cached), file):
        return Path(cached)
    if constants.HF_HUB_OFFLINE:
        raise _offline(f"{repository}/{file.name}")
    if isinstance(cached, str):
        _throw_away(Path(cached))  # Else huggingface_hub, which does not look into it, would give it out again.
    path = _download(repository, commit, file)
    if fault := difference(path, file):
        _throw_away(path)
        raise SourceError(
            f"{repository}/{file.name} is not the file that was asked for: {fault}. It was changed or damaged on the "
            "way, and was thrown away"
        )
    return path


def _download(repository: str, commit: str, file: HubFile) -> Path:
    cache = Path(constants.HF_HUB_CACHE)
    with _faults_explained(repository, f"{repository}/{file.name}"), writing_errors_explained(cache):
        url = hf_hub_url(repository, file.name, revision=commit, endpoint=_endpoint())
        # Asked first, and once: where no hub is, hf_hub_download knocks six times in 24 seconds, with a log line each.
        tag = get_hf_file_metadata(url, endpoint=constants.ENDPOINT).etag
        if tag is None:
            raise FileMetadataError("no ETag")
        # huggingface_hub throws away what had arrived when a download fails (1.27 and 2.4 do: the partial file has a
        # random name), takes whatever length comes, and asks wherever Link: rel="xet-auth" leads with the reader's
        # token. Ours does not, and puts the file where the library looks for the content of that tag.
        blobs = cache / repo_folder_name(repo_id=repository, repo_type="model") / "blobs"
        blob = blobs / check_name(tag, shown(constants.ENDPOINT), folders=False)
        download(url, blob, size=file.size, sha256=file.sha256, headers=_sign_in())
        return Path(
            hf_hub_download(repository, file.name, revision=commit, cache_dir=cache, endpoint=constants.ENDPOINT)
        )


def _sign_in() -> dict[str, str]:
    token = get_token()
    return {"Authorization": f"Bearer {token}"} if token else {}


def difference(path: Path, file: HubFile) -> str:
    """Say how the content of ``path`` differs from what the hub or the catalog lists; empty if it does not."""
    size = path.stat().st_size
    if size != file.size:
        return f"it has {size:,} bytes, expected {file.size:,}"
    if file.sha256 is not None and (found := sha256_of(path)) != file.sha256.lower():
        return f"its sha256 is {found}, expected {file.sha256.lower()}"
    if file.git_blob is not None and (found := _git_blob(path)) != file.git_blob.lower():
        return f"its git blob is {found}, expected {file.git_blob.lower()}"
    return ""


def _git_blob(path: Path) -> str:
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    digest.update(path.read_bytes())
    return digest.hexdigest()


def _throw_away(path: Path) -> None:
    content = path.resolve()  # A link in snapshots/ leads to the content in blobs/.
    path.unlink()
    content.unlink(missing_ok=True)


@contextmanager
def _faults_explained(repository: str, what: str) -> Iterator[None]:
    """Turn what huggingface_hub raises into one sentence.

    Raises:
        SourceError: there was a fault.
    """
    try:
        yield
    except DownloadError as error:
        raise SourceError(f"the hub did not give {what}: {error}") from error
    except (_HTTP_ERROR, RefusedError, EntryNotFoundError, XetDownloadError, ImportError, *_NO_HUB) as error:
        raise SourceError(f"the hub did not give {what}: {_fault(repository, error)}") from error


def _fault(repository: str, error: BaseException) -> str:
    if isinstance(error, LocalEntryNotFoundError) and error.__cause__:
        return _fault(repository, error.__cause__)  # "Not in the cache" says nothing: why could it not be had?
    if isinstance(error, HfHubHTTPError):
        return _refusal(repository, error.response.status_code, error.response.headers)
    if isinstance(error, RefusedError):
        return _refusal(repository, error.status, error.headers)
    if isinstance(error, _NO_HUB):
        return (
            f"{shown(constants.ENDPOINT)} gave something else ({without_secrets(first_line(error))}). Open the address "
            "in a browser: a network may ask you to sign in first. HF_ENDPOINT may name no hub"
        )
    return str(connection_fault(constants.ENDPOINT, error))


def refusal_under(error: BaseException) -> str | None:
    """Return why the hub turned away whoever asked, and what to do about it, from what another library made of it.

    transformers and diffusers raise an ``OSError`` of their own, which says neither what to accept nor how to sign in.
    None if the error has another cause.

    Example:
        >>> refusal_under(OSError("the disk is full")) is None
        True
    """
    for each in errors_under(error):
        if isinstance(each, HfHubHTTPError) and each.response.status_code in (401, 403):
            path = unquote(urlsplit(str(each.response.url)).path).removeprefix(urlsplit(constants.ENDPOINT).path)
            found = _REPOSITORY.fullmatch(path)
            repository = found[1] if found else path
            reason = _refusal(repository, each.response.status_code, each.response.headers)
            return f"the hub did not give {repository}: {reason}"
    return None


def _refusal(repository: str, status: int, headers: Mapping[str, str]) -> str:
    hub, code = shown(constants.ENDPOINT), headers.get("X-Error-Code")
    page = f"{hub}/{repository}"
    if status == 401 and get_token():
        return (
            f"it does not accept your token (401). Make a new one at {hub}/settings/tokens and sign in: hf auth login, "
            "or HF_TOKEN"
        )
    if code == "GatedRepo":
        return f"it is gated ({status}). Accept its licence at {page}, and sign in: hf auth login, or HF_TOKEN"
    if code == "RepoNotFound" or status == 401:  # The hub says 401 of whatever it does not show.
        return f"there is no such repository, or it is private ({status}). Check its name; or sign in: hf auth login"
    if code == "RevisionNotFound":
        return f"there is no such revision ({status}). {page} lists its branches and commits"
    if code == "EntryNotFound":
        return f"there is no such file ({status}). {page}/tree/main lists those there are"
    return str(status_fault(page, status, headers))


def _offline(what: str) -> SourceError:
    return SourceError(f"HF_HUB_OFFLINE is set, so the hub was not asked for {what}")
