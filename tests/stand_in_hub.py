"""One address for several loopback hubs, as the real hub has one for all repositories."""

from __future__ import annotations

import http.client
import re
import threading
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aigc_helpers.notebook import LoopbackHub

_PASSED_ON = ("ETag", "X-Repo-Commit", "X-Error-Code", "Accept-Ranges", "Content-Range", "Content-Length")


class HubOfRepositories:
    """Asks the hub that has the repository named in a request; of any other repository it says that there is none."""

    def __init__(self, hubs: Iterable[LoopbackHub]) -> None:
        """Begin to serve the repositories of ``hubs``, on a port that is free."""
        self.hubs = {hub.repository: hub for hub in hubs}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> HubOfRepositories:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        for hub in self.hubs.values():
            hub.close()

    @property
    def address(self) -> str:
        """What ``HF_ENDPOINT`` has to be."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def fetched(self) -> dict[str, set[str]]:
        """Return the names of the files that were fetched, by repository, and begin anew."""
        names = {}
        for repository, hub in self.hubs.items():
            requests = [request.split(" ") for request in hub.requests]
            names[repository] = {name for method, name, *_ in requests if method == "GET"}
            hub.requests.clear()
        return {repository: found for repository, found in names.items() if found}


def _handler_of(front: HubOfRepositories) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer()

        def do_HEAD(self) -> None:
            self._answer()

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self) -> None:
            path = self.path.removeprefix("/api/models")
            hub = next((hub for name, hub in front.hubs.items() if path.startswith(f"/{name}")), None)
            if hub is None:
                self._refuse("RepoNotFound")
                return
            if re.match(r"/api/models/[^/]+/[^/]+/tree/[^/]+/", self.path):
                self._refuse("EntryNotFound")  # Of a folder's listing; these repositories have none that is asked for.
                return
            connection = http.client.HTTPConnection(hub.address.removeprefix("http://"))
            asked = {name: self.headers[name] for name in ("Range", "If-Range") if name in self.headers}
            connection.request(self.command, self.path, headers=asked)
            answer = connection.getresponse()
            self._send(answer.status, {name: answer.headers[name] for name in _PASSED_ON}, answer.read())
            connection.close()

        def _refuse(self, code: str) -> None:
            self._send(404, {"X-Error-Code": code, "Content-Length": "0"}, b"")

        def _send(self, status: int, headers: dict[str, str | None], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if value is not None:
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    return Handler
