"""A model hub on 127.0.0.1 for chapter 02: one repository with commits, and faults on request.

It answers what huggingface_hub asks: a file at a revision with its ETag, whole or from a byte on (RFC 9110, ``Range``
and ``If-Range``), and the listing of a commit.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

_BRANCH = "main"
_KEPT_IN_GIT = 100_000  # Bytes; of larger files git has only a pointer, and the listing their sha256.


class LoopbackHub:
    """Serves one repository from memory until ``close`` is called.

    Attributes:
        repository: its name, ``"owner/name"``.
        commits: the files of each commit by name, oldest first. The branch ``main`` is the newest.
        requests: what was asked for, such as ``"GET model.safetensors bytes=100-"``; without listings.
        cut_after: bytes after which the next file's answer breaks off; None for never.
        damaged: names of files that are sent with their last bit changed.
    """

    def __init__(self, repository: str, files: Mapping[str, bytes]) -> None:
        """Begin to serve ``files`` as the first commit of ``repository``, on a port that is free."""
        self.repository = repository
        self.commits: dict[str, dict[str, bytes]] = {}
        self.requests: list[str] = []
        self.cut_after: int | None = None
        self.damaged: set[str] = set()
        self.commit(files)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def address(self) -> str:
        """What ``HF_ENDPOINT`` has to be."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def commit(self, files: Mapping[str, bytes]) -> str:
        """Add or replace ``files``, and return the new commit, to which ``main`` moves; equal files, equal commit."""
        newest = list(self.commits.values())[-1] if self.commits else {}
        contents = {**newest, **files}
        digest = hashlib.sha1(" ".join(self.commits).encode(), usedforsecurity=False)
        for name in sorted(contents):
            digest.update(name.encode() + hashlib.sha256(contents[name]).digest())
        self.commits[digest.hexdigest()] = contents
        return digest.hexdigest()

    def find(self, revision: str) -> str | None:
        """Return the commit that a branch or a commit's name stands for; None if there is none."""
        if revision == _BRANCH:
            return list(self.commits)[-1]
        return revision if revision in self.commits else None

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


def _handler_of(hub: LoopbackHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer()

        def do_HEAD(self) -> None:
            self._answer()

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self) -> None:
            path = unquote(urlsplit(self.path).path)
            if path.startswith(f"/api/models/{hub.repository}"):
                self._list(path)
            elif path.startswith(f"/{hub.repository}/resolve/"):
                revision, _, name = path.removeprefix(f"/{hub.repository}/resolve/").partition("/")
                self._give(hub.find(revision), name)
            else:
                self._send(404, b"", {"X-Error-Code": "RepoNotFound"})

        def _list(self, path: str) -> None:
            asked = re.fullmatch(r"(/revision|/tree)?/?([^/]*)", path.removeprefix(f"/api/models/{hub.repository}"))
            commit = hub.find(asked[2] or _BRANCH) if asked else None
            if asked is None or commit is None:
                self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
                return
            files = hub.commits[commit]
            listing = {"id": hub.repository, "sha": commit, "siblings": [{"rfilename": name} for name in files]}
            tree = [_entry(name, content) for name, content in files.items()]
            self._send(200, json.dumps(tree if asked[1] == "/tree" else listing).encode(), {})

        def _give(self, commit: str | None, name: str) -> None:
            asked = self.headers.get("Range", "")
            hub.requests.append(f"{self.command} {name} {asked}".strip())
            if commit is None or name not in hub.commits[commit]:
                self._send(404, b"", {"X-Error-Code": "EntryNotFound" if commit else "RevisionNotFound"})
                return
            content = hub.commits[commit][name]
            tag = f'"{_entry_hash(content)}"'
            headers = {"ETag": tag, "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
            if name in hub.damaged:
                content = content[:-1] + bytes([content[-1] ^ 1])
            part = re.fullmatch(r"bytes=(\d+)-", asked)
            if part and int(part[1]) < len(content) and self.headers.get("If-Range") in (None, tag):
                first = int(part[1])
                headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
                self._send(206, content[first:], headers)
            else:
                self._send(200, content, headers)

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            if hub.cut_after is not None and "ETag" in headers:
                body, hub.cut_after = body[: hub.cut_after], None
                self.close_connection = True
            with suppress(BrokenPipeError, ConnectionResetError):  # Whoever asked has gone away.
                self.wfile.write(body)

    return Handler


def _entry(name: str, content: bytes) -> dict[str, object]:
    entry: dict[str, object] = {"type": "file", "path": name, "size": len(content), "oid": _git_blob(content)}
    if len(content) > _KEPT_IN_GIT:
        entry["lfs"] = {"oid": _entry_hash(content), "size": len(content), "pointerSize": 130}
    return entry


def _entry_hash(content: bytes) -> str:
    """Return what the hub calls a file by: sha256 of a large one, git's own hash of a small one."""
    return hashlib.sha256(content).hexdigest() if len(content) > _KEPT_IN_GIT else _git_blob(content)


def _git_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
