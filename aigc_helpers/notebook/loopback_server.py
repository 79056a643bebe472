"""A server on 127.0.0.1 for chapters and tests: files whole or from a byte on (RFC 9110), and faults on request."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


@dataclass(frozen=True)
class Request:
    """What was asked: ``GET`` or ``HEAD``, the path as it was sent, and the headers, by name in any case."""

    method: str
    path: str
    headers: Message


@dataclass(frozen=True)
class Answer:
    """What belongs to a path.

    Attributes:
        content: the whole of it; a part is cut out where one was asked for.
        tag: a file's ETag without its quotes; None for what is no file, and which no fault strikes.
        status: 200, or why there is none.
        headers: to send besides the usual ones.
    """

    content: bytes = b""
    tag: str | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Fault:
    """How one request for a file is answered; without arguments, as it should be.

    Attributes:
        status: instead of 200 or 206.
        cut_after: bytes of the answer's body after which the connection is dropped.
        ignore_range: send the whole file though a part was asked for.
        block: bytes sent at once, with ``pause`` seconds in between.
        pause: seconds.
        headers: to send, also instead of the usual ones; None leaves one out.
        content: to send instead of the file.
        etag: of every file from this request on, with its quotes.
    """

    status: int | None = None
    cut_after: int | None = None
    ignore_range: bool = False
    block: int = 1 << 16
    pause: float = 0.0
    headers: Mapping[str, str | None] = field(default_factory=dict)
    content: bytes | None = None
    etag: str | None = None


class LoopbackServer:
    """Serves what ``answer`` finds, from when it is made until ``close`` is called.

    Attributes:
        waiting: the faults that the next downloads of a file meet, one each.
        always: what all others meet.
        etag: the ETag of every file, with its quotes; None leaves each its own.
        received: every request, in order.
        sent: bytes of bodies that were sent.
    """

    def __init__(self, *faults: Fault, always: Fault | None = None) -> None:
        """Begin to serve, on a port that is free."""
        self.waiting, self.always = list(faults), always or Fault()
        self.etag: str | None = None
        self.received: list[Request] = []
        self.sent = 0
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> Self:
        """Return the server itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stop serving."""
        self.close()

    @property
    def address(self) -> str:
        """Scheme, host and port."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, request: Request) -> Answer:
        """Return what belongs to a request; each kind of server says it in its own way."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    def respond(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer the request that ``handler`` has read."""
        request = Request(handler.command, handler.path, handler.headers)
        with self._lock:
            self.received.append(request)
            answer = self.answer(request)
            fault = self._fault_of(request, answer)
            self.etag = fault.etag or self.etag
            tag = answer.tag and (self.etag or f'"{answer.tag}"')
        status, headers, body = _message(request, answer, fault, tag)
        handler.send_response(status)
        for name, value in headers.items():
            if value is not None:
                handler.send_header(name, value)
        handler.end_headers()
        if request.method != "HEAD":
            self._send(handler, body[: fault.cut_after], fault)

    def _fault_of(self, request: Request, answer: Answer) -> Fault:
        if request.method != "GET" or answer.tag is None:
            return Fault()
        return self.waiting.pop(0) if self.waiting else self.always

    def _send(self, handler: BaseHTTPRequestHandler, body: bytes, fault: Fault) -> None:
        for begin in range(0, len(body), fault.block):
            block = body[begin : begin + fault.block]
            handler.wfile.write(block)
            with self._lock:
                self.sent += len(block)
            time.sleep(fault.pause)


def _message(
    request: Request, answer: Answer, fault: Fault, tag: str | None
) -> tuple[int, dict[str, str | None], bytes]:
    """Return status, headers and body, the body not yet cut off."""
    content = answer.content if fault.content is None else fault.content
    status, begin = fault.status or answer.status, 0
    headers: dict[str, str | None] = {"Content-Type": "application/octet-stream", "ETag": tag, **answer.headers}
    part = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
    is_same_file = request.headers.get("If-Range") in (None, tag)
    if tag and part and is_same_file and not fault.ignore_range and fault.status is None:
        begin = int(part[1])
        status = 206 if begin < len(content) else 416
        headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
    body = content[begin:] if status in (200, 206) else b""
    return status, headers | {"Content-Length": str(len(body)), "Connection": "close"} | dict(fault.headers), body


def _handler_of(server: LoopbackServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.close_connection = True
            with suppress(BrokenPipeError, ConnectionResetError):  # Whoever asked was killed, or has seen enough.
                server.respond(self)

        do_HEAD = do_GET  # noqa: N815 - as http.server names it

        def log_message(self, *_: object) -> None:
            pass

    return Handler
