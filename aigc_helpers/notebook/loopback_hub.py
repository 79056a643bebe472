"""A model hub on 127.0.0.1 for chapter 02: one repository with commits, and faults on request.

It answers what huggingface_hub asks: a file at a revision with its ETag, whole or from a byte on, and the listing of a
commit.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from aigc_helpers.notebook.loopback_server import Answer, Fault, LoopbackServer, Request

_BRANCH = "main"
_KEPT_IN_GIT = 100_000  # Bytes; of larger files git has only a pointer, and the listing their sha256.


class LoopbackHub(LoopbackServer):
    """Serves one repository from memory until ``close`` is called. ``address`` is what ``HF_ENDPOINT`` has to be.

    Attributes:
        repository: its name, ``"owner/name"``.
        commits: the files of each commit by name, oldest first. The branch ``main`` is the newest.
        requests: what was asked for, such as ``"GET model.safetensors bytes=100-"``; without listings.
        damaged: names of files that are sent with their last bit changed.
        large: names of files that are kept outside git, however small they are.
    """

    def __init__(self, repository: str, files: Mapping[str, bytes]) -> None:
        """Begin to serve ``files`` as the first commit of ``repository``, on a port that is free."""
        self.repository = repository
        self.commits: dict[str, dict[str, bytes]] = {}
        self.requests: list[str] = []
        self.damaged: set[str] = set()
        self.large: set[str] = set()
        self.commit(files)
        super().__init__()

    @property
    def cut_after(self) -> int | None:
        """Bytes after which the next file's answer breaks off; None for never."""
        return self.waiting[0].cut_after if self.waiting else None

    @cut_after.setter
    def cut_after(self, count: int | None) -> None:
        self.waiting[:1] = [Fault(cut_after=count)]

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

    def has(self, path: str) -> bool:
        """Return whether a request's path is about this hub's repository."""
        return re.match(rf"(/api/models)?/{re.escape(self.repository)}(/|\?|$)", unquote(path)) is not None

    def answer(self, request: Request) -> Answer:
        """Return a file, a listing, or why there is none."""
        if not self.has(request.path):
            return missing("Repo")
        path = unquote(urlsplit(request.path).path)
        place = path.removeprefix("/api/models").removeprefix(f"/{self.repository}").lstrip("/")
        if path.startswith("/api/models/"):
            return self._listing(place)
        revision, _, name = place.removeprefix("resolve/").partition("/")
        asked = request.headers.get("Range", "")
        self.requests.append(f"{request.method} {name} {asked}".strip())
        return self._file(self.find(revision), name)

    def _listing(self, place: str) -> Answer:
        kind, _, rest = place.partition("/")  # "", "revision/main" or "tree/main".
        revision, _, folder = rest.partition("/")
        commit = self.find(revision or _BRANCH)
        if commit is None or folder:  # No folder is listed by itself; nobody has asked for one that there is.
            return missing("Entry" if commit else "Revision")
        files = self.commits[commit]
        listing = {"id": self.repository, "sha": commit, "siblings": [{"rfilename": name} for name in files]}
        tree = [self._entry(name, content) for name, content in files.items()]
        content = json.dumps(tree if kind == "tree" else listing).encode()
        return Answer(content, headers={"Content-Type": "application/json"})

    def _file(self, commit: str | None, name: str) -> Answer:
        if commit is None or name not in self.commits[commit]:
            return missing("Entry" if commit else "Revision")
        content = self.commits[commit][name]
        # What the hub calls a file by: sha256 of a large one, git's own hash of a small one.
        tag = _sha256(content) if self._is_large(name, content) else _git_blob(content)
        if name in self.damaged:
            content = content[:-1] + bytes([content[-1] ^ 1])
        return Answer(content, tag, headers={"X-Repo-Commit": commit, "Accept-Ranges": "bytes"})

    def _entry(self, name: str, content: bytes) -> dict[str, object]:
        entry: dict[str, object] = {"type": "file", "path": name, "size": len(content), "oid": _git_blob(content)}
        if self._is_large(name, content):
            entry["lfs"] = {"oid": _sha256(content), "size": len(content), "pointerSize": 130}
        return entry

    def _is_large(self, name: str, content: bytes) -> bool:
        return name in self.large or len(content) > _KEPT_IN_GIT


def missing(what: str) -> Answer:
    """Return the hub's answer where there is no such ``"Repo"``, ``"Revision"`` or ``"Entry"``."""
    return Answer(status=404, headers={"X-Error-Code": f"{what}NotFound"})


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _git_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
