"""Why a download fails, each fault in one line with what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit, urlunsplit

from aigc_helpers.errors import first_line
from aigc_helpers.store.catalog import SourceError

CONNECT_SECONDS, SILENCE_SECONDS = 10, 30
_KEPT = "What has arrived is kept: run the same command again to go on"
_STATUSES = {
    401: "wants to know who asks (401). Sign in: for the hub with hf auth login or HF_TOKEN; other sites take a token "
    "in the address",
    403: "does not give you this file (403). If the model is gated, accept its licence on its page, and sign in: "
    "hf auth login",
    404: "has no such file (404). Check the address, the name and the revision",
    410: "has no such file any more (410). Look for another address",
    429: f"asks for fewer requests (429). Wait some minutes. {_KEPT}",
}
_PASSING = {408, 429, 500, 502, 503, 504}
_LONGEST_WAIT = 30.0  # Seconds that a server may ask for before the reader is told instead.


class DownloadError(SourceError):
    """A download that failed.

    Attributes:
        passing: whether another try may help.
        wait: seconds that the server asks for before it.
    """

    def __init__(self, message: str, *, passing: bool = False, wait: float = 0.0) -> None:
        """Say what failed."""
        super().__init__(message)
        self.passing, self.wait = passing, wait


def shown(url: str) -> str:
    """Return an address as it may be printed: without the password or token that it may hold."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "…" if parts.query else "", ""))


def status_fault(url: str, status: int, headers: Mapping[str, str]) -> DownloadError:
    """Explain an answer that is no file, by its status and headers."""
    reason = _STATUSES.get(status, f"answered with status {status}. Check the address")
    if status >= 500:
        reason = f"has a fault of its own ({status}). Try again later. {_KEPT}"
    asked = headers.get("Retry-After", "")
    wait = float(asked) if asked.isdecimal() else 0.0
    return DownloadError(
        f"{_host(url)} {reason}. Address: {shown(url)}", passing=status in _PASSING and wait <= _LONGEST_WAIT, wait=wait
    )


def connection_fault(url: str, error: BaseException) -> DownloadError:
    """Explain a request that got no answer, or whose answer broke off.

    Args:
        url: what was asked for.
        error: of requests, or of the library under huggingface_hub: httpx or httpx2, by its version.
    """
    host, names = _host(url), _names_of(error)
    if "ProxyError" in names:
        return DownloadError(f"the proxy did not lead to {host}. Check HTTPS_PROXY, HTTP_PROXY and NO_PROXY")
    if "SSLError" in names:
        return DownloadError(
            f"{host} could not prove who it is ({first_line(error)}). Check this machine's clock; behind a company's "
            "proxy, REQUESTS_CA_BUNDLE names the file with its certificate"
        )
    if "ConnectTimeout" in names:
        return DownloadError(f"{host} did not answer within {CONNECT_SECONDS} seconds. Check the connection")
    if names & {"ReadTimeout", "ReadTimeoutError"}:
        return DownloadError(f"{host} sent nothing for {SILENCE_SECONDS} seconds. {_KEPT}", passing=True)
    if names & {"gaierror", "NameResolutionError"}:
        return DownloadError(f"{host} cannot be found: no network, or a wrong address. Check the connection")
    if "ConnectionRefusedError" in names:
        return DownloadError(f"{host} refused the connection. Check the address and the connection")
    if "TooManyRedirects" in names:
        return DownloadError(f"{host} redirects in a circle. Check the address")
    if names & {"InvalidURL", "InvalidSchema", "UnsupportedProtocol"}:
        return DownloadError(f"{shown(url)} is no address, or leads to none ({first_line(error)})")
    return DownloadError(f"the connection to {host} broke off. {_KEPT}", passing=True)


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def _names_of(error: BaseException) -> set[str]:
    """Return the names of all classes of an error and of those under it.

    Names, because the libraries agree on them and on nothing else: each wraps the errors of the one below, down to the
    system's; some as the cause, some as an argument or "reason".
    """
    seen: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        each = waiting.pop()
        if isinstance(each, BaseException) and each not in seen:
            seen.append(each)
            waiting += [each.__cause__, each.__context__, getattr(each, "reason", None), *each.args]
    return {kind.__name__ for each in seen for kind in type(each).__mro__}
