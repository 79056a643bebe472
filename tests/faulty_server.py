"""A server on 127.0.0.1 that serves one file, with one fault per request: what real servers and networks do."""

from __future__ import annotations

import re
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Fault:
    """How one request is answered; without arguments, as it should be.

    Attributes:
        status: instead of 200 or 206.
        cut_after: bytes of the answer's body after which the connection is dropped.
        ignore_range: send the whole file though a part was asked for.
        block: bytes sent at once, with ``pause`` seconds in between.
        pause: seconds.
        headers: to send, also instead of the usual ones; None leaves one out.
        content: to send instead of the file.
        etag: from this request on.
    """

    status: int | None = None
    cut_after: int | None = None
    ignore_range: bool = False
    block: int = 1 << 16
    pause: float = 0.0
    headers: dict[str, str | None] = field(default_factory=dict)
    content: bytes | None = None
    etag: str | None = None


class FaultyServer:
    """Serves ``content`` under any path. The first requests meet ``faults``, one each; all others meet ``always``.

    ``requests`` holds the headers of each, ``sent`` the bytes of bodies that were sent.
    """

    def __init__(self, content: bytes, *faults: Fault, always: Fault | None = None) -> None:
        self.content, self.waiting, self.always = content, list(faults), always or Fault()
        self.etag = '"first"'
        self.requests: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.sent = 0
        self._counting = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                with server._counting:
                    fault = server.waiting.pop(0) if server.waiting else server.always
                    server.requests.append(dict(self.headers))
                    server.paths.append(self.path)
                server.etag = fault.etag or server.etag
                self.close_connection = True
                with suppress(BrokenPipeError, ConnectionResetError):  # The client was killed, or has seen enough.
                    server._answer(self, fault)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> FaultyServer:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def url(self, name: str = "file.bin", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self._server.server_port}/{name}"

    @property
    def ranges(self) -> list[str | None]:
        return [headers.get("Range") for headers in self.requests]

    def _answer(self, handler: BaseHTTPRequestHandler, fault: Fault) -> None:
        content = self.content if fault.content is None else fault.content
        start, status = 0, fault.status or 200
        headers: dict[str, str | None] = {"ETag": self.etag, "Content-Type": "application/octet-stream"}
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        same = handler.headers.get("If-Range") in (None, self.etag)
        if asked and same and not fault.ignore_range and fault.status is None:
            start = int(asked[1])
            status = 206 if start < len(content) else 416
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        body = content[start:] if status in (200, 206) else b""
        headers |= {"Content-Length": str(len(body)), "Connection": "close"} | fault.headers
        handler.send_response(status)
        for name, value in headers.items():
            if value is not None:
                handler.send_header(name, value)
        handler.end_headers()
        body = body[: fault.cut_after]
        for begin in range(0, len(body), fault.block):
            block = body[begin : begin + fault.block]
            handler.wfile.write(block)
            with self._counting:
                self.sent += len(block)
            time.sleep(fault.pause)
