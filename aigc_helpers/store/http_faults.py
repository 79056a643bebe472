"""Why a download fails, each fault in one line with what to do about it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit, urlunsplit

from aigc_helpers.store.catalog import SourceError

CONNECT_SECONDS, SILENCE_SECONDS = 10, 30
_KEPT = "What has arrived is kept, and the next try goes on from there"
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
_NO_ADDRESS = {"InvalidURL", "InvalidSchema", "MissingSchema", "UnsupportedProtocol", "LocationValueError"}
_NO_SOCKS = ("dependencies for SOCKS", "SOCKS proxy")  # As requests, and as httpx says it.
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
    try:
        parts = urlsplit(url)
        host, is_whole = _host_and_port(parts), parts.hostname is not None
    except ValueError:
        host, is_whole = "", False
    if not is_whole:  # Nobody knows which part of it is a password.
        return f"{url.partition(':')[0]}://…"
    path = re.sub(r"[^/]*@", "…@", parts.path)
    return urlunsplit((parts.scheme, host, path, "…" if parts.query else "", ""))


def without_secrets(text: str) -> str:
    """Return a text with each address in it as it may be printed.

    Example:
        >>> without_secrets("no file at https://me:password@example.org/api/7?type=Model&token=secret")
        'no file at https://example.org/api/7?…'
    """
    return re.sub(r"[A-Za-z][\w+.-]*://[^\s'\"<>]*", lambda found: shown(found[0]), text)


def _host_and_port(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]


def status_fault(url: str, status: int, headers: Mapping[str, str]) -> DownloadError:
    """Explain an answer that is no file, by its status and headers."""
    reason = _STATUSES.get(status, f"answered with status {status}. Check the address")
    if status >= 500:
        reason = f"has a fault of its own ({status}). Try again later. {_KEPT}"
    asked = headers.get("Retry-After", "")
    wait = float(asked) if asked.isdecimal() else 0.0  # Of too many digits: infinite.
    return DownloadError(
        f"{_host(url)} {reason}. Address: {shown(url)}", passing=status in _PASSING and wait <= _LONGEST_WAIT, wait=wait
    )


def connection_fault(url: str, error: BaseException, *, kept: bool = True) -> DownloadError:
    """Explain a request that got no answer, or whose answer broke off.

    Args:
        url: what was asked for.
        error: of requests, or of the library under huggingface_hub: httpx or httpx2, by its version.
        kept: whether the next run goes on with what has arrived.
    """
    host, names = _host(url), _names_of(error)
    next_time = _KEPT if kept else "It lets no download go on, so the next try begins anew"
    if any(words in str(each) for words in _NO_SOCKS for each in errors_under(error)):
        return DownloadError(
            "HTTPS_PROXY, HTTP_PROXY or ALL_PROXY names a SOCKS proxy, and the packages for one are not installed. "
            "Run: pip install PySocks socksio. Or name a proxy that begins with http://"
        )
    if "InvalidProxyURL" in names:
        return DownloadError(
            "HTTPS_PROXY, HTTP_PROXY or ALL_PROXY is no address of a proxy. Such one is http://proxy.example.org:8080"
        )
    if "ProxyError" in names:
        return DownloadError(f"the proxy did not lead to {host}. Check HTTPS_PROXY, HTTP_PROXY and NO_PROXY")
    if "SSLError" in names:
        return DownloadError(
            f"{host} could not prove who it is ({_certificate_fault(error)}). Check this machine's clock; behind a "
            "company's proxy, REQUESTS_CA_BUNDLE names the file with its certificate"
        )
    if "ConnectTimeout" in names:
        return DownloadError(f"{host} did not answer within {CONNECT_SECONDS} seconds. Check the connection")
    if names & {"ReadTimeout", "ReadTimeoutError"}:
        return DownloadError(f"{host} sent nothing for {SILENCE_SECONDS} seconds. {next_time}", passing=True)
    if names & {"gaierror", "NameResolutionError"}:
        return DownloadError(f"{host} cannot be found: no network, or a wrong address. Check the connection")
    if "ConnectionRefusedError" in names:
        return DownloadError(f"{host} refused the connection. Check the address and the connection")
    if "TooManyRedirects" in names:
        return DownloadError(f"{host} redirects in a circle. Check the address")
    if names & _NO_ADDRESS or isinstance(error, ValueError):  # Python's own, of a port, of brackets, of letters.
        # The libraries' own words have the address in full.
        return DownloadError(f"{shown(url)} is no address, or leads to none. Check its host, its port and its spelling")
    return DownloadError(f"the connection to {host} broke off. {next_time}", passing=True)


def _host(url: str) -> str:
    try:
        return _host_and_port(urlsplit(url)) or shown(url)
    except ValueError:
        return shown(url)


def _certificate_fault(error: BaseException) -> str:
    """Return what the system says of a certificate; what the libraries make of it has the address in full."""
    of_the_system = [each for each in errors_under(error) if type(each).__module__ == "ssl"]
    return without_secrets(str(of_the_system[-1])[:200]) if of_the_system else "its certificate was not accepted"


def _names_of(error: BaseException) -> set[str]:
    """Return the names of all classes of an error and of those under it.

    Names, because the libraries agree on them and on nothing else: each wraps the errors of the one below, down to the
    system's; some as the cause, some as an argument or "reason".
    """
    return {kind.__name__ for each in errors_under(error) for kind in type(each).__mro__}


def errors_under(error: BaseException) -> list[BaseException]:
    """Return an error and those it came from, whether as cause, context, reason or argument."""
    seen: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        each = waiting.pop()
        if isinstance(each, BaseException) and each not in seen:
            seen.append(each)
            waiting += [each.__cause__, each.__context__, getattr(each, "reason", None), *each.args]
    return seen
