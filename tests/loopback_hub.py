"""The smallest hub that huggingface_hub is content with: one repository, files by name, on 127.0.0.1."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

COMMIT = "0123456789012345678901234567890123456789"


class LoopbackHub:
    """Serves ``/{repository}/resolve/{revision}/{file}`` and the listing; remembers what was asked in ``requested``.

    ``large`` are the files that the hub keeps outside git, so that the listing has their sha256; ``listed`` stands in
    the listing instead of the real names, and ``page`` is sent in place of any listing, and ``file_page`` in
    place of any file. A request without ``token``, if there is one, is turned away with ``code``. ``fetched`` are the
    files whose bytes were asked for. ``cut_after`` bytes of the next file the connection breaks off.
    """

    def __init__(
        self,
        files: dict[str, bytes],
        *,
        large: set[str] | None = None,
        listed: dict[str, bytes] | None = None,
        page: bytes | None = None,
        file_page: bytes | None = None,
        token: str | None = None,
        code: str = "GatedRepo",
    ) -> None:
        self.requested: list[str] = []
        self.fetched: list[str] = []
        self.cut_after: int | None = None
        self._cache = tempfile.TemporaryDirectory()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self._answer(with_body=False)

            def do_GET(self) -> None:
                self._answer(with_body=True)

            def _answer(self, with_body: bool) -> None:
                hub.requested.append(self.path)
                if token and self.headers.get("Authorization") != f"Bearer {token}":
                    return self._send(401, b"", {"X-Error-Code": code})
                if self.path.startswith("/api/models/"):
                    entries = [_entry(name, content, large or set()) for name, content in (listed or files).items()]
                    answer = entries if "/tree/" in self.path else {"id": "someone/tiny", "sha": COMMIT}
                    return self._send(200, json.dumps(answer).encode() if page is None else page, {})
                place = unquote(self.path).partition("/resolve/")[2].partition("/")
                content = files.get(place[2])
                if content is None:
                    return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
                if file_page is not None:  # With status 200, as a hotel's network does.
                    return self._send(200, file_page if with_body else b"", {"Content-Type": "text/html"})
                if with_body:
                    hub.fetched.append(f"{place[2]} {self.headers.get('Range', '')}".strip())
                tag = f'"{hashlib.sha256(content).hexdigest()}"'
                headers = {"X-Repo-Commit": place[0], "ETag": tag}
                part = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
                if not part or not with_body:
                    return self._send(200, content, headers)
                start = int(part[1])
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
                return self._send(206, content[start:], headers)

            def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(body))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "HEAD":
                    return
                if hub.cut_after is not None and "ETag" in headers:
                    body, hub.cut_after = body[: hub.cut_after], None
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> LoopbackHub:
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._cache.cleanup()

    @property
    def cache(self) -> Path:
        """huggingface_hub's cache while this hub serves: no test writes into the one of whoever runs it."""
        return Path(self._cache.name)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def serve_to(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Point huggingface_hub here; its addresses are constants read at import time."""
        import huggingface_hub.constants as constants

        monkeypatch.setattr(constants, "ENDPOINT", self.address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(self.cache))
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", self.address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def _entry(name: str, content: bytes, large: set[str]) -> dict[str, object]:
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    entry: dict[str, object] = {"type": "file", "path": name, "size": len(content), "oid": blob}
    if name in large:
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return entry
