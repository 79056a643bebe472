"""A server on 127.0.0.1 that serves one file, with one fault per request: what real servers and networks do."""

from __future__ import annotations

from email.message import Message

from aigc_helpers.notebook.loopback_server import Answer, Fault, LoopbackServer, Request

__all__ = ["Fault", "FaultyServer"]


class FaultyServer(LoopbackServer):
    """Serves ``content`` under any path."""

    def __init__(self, content: bytes, *faults: Fault, always: Fault | None = None) -> None:
        super().__init__(*faults, always=always)
        self.content = content
        self.etag = '"first"'

    def answer(self, request: Request) -> Answer:
        return Answer(self.content, tag="first")

    def url(self, name: str = "file.bin", host: str = "127.0.0.1") -> str:
        return self.address.replace("127.0.0.1", host) + f"/{name}"

    @property
    def requests(self) -> list[Message]:
        return [request.headers for request in self.received]

    @property
    def paths(self) -> list[str]:
        return [request.path for request in self.received]

    @property
    def ranges(self) -> list[str | None]:
        return [headers.get("Range") for headers in self.requests]
