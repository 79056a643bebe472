"""A download that is not finished: its bytes and what the server said of them, kept on the disk between runs."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from aigc_helpers.files import write_text
from aigc_helpers.store.location import store_folder


def downloads_folder() -> Path:
    """Return where unfinished downloads lie; nothing is created."""
    return store_folder() / "downloads"


def address_hash(url: str) -> str:
    """Return the name under which a download is kept: an address may hold a password, so it is not written down."""
    return hashlib.sha256(os.fsencode(url)).hexdigest()


class PartialFile:
    """What has arrived from one address.

    Attributes:
        path: the bytes.
        validator: the server's strong ETag, or its Last-Modified; with neither, nothing can be continued.
        size: of the whole file in bytes, if the server said so.
        name: the file's name as the server or the address gives it.
    """

    def __init__(self, url: str) -> None:
        """Take up what an earlier run left, if it left anything that can be continued."""
        self.path = downloads_folder() / f"{address_hash(url)}.partial"
        self._notes = self.path.with_suffix(".json")
        try:
            notes = json.loads(self._notes.read_text(encoding="utf-8"))
            self.validator, self.size, self.name = notes["validator"], notes["size"], notes["name"]
        except (OSError, ValueError, KeyError, TypeError):
            self.discard()
        if self.validator is None or (self.size is not None and self.held > self.size):
            self.discard()

    @property
    def held(self) -> int:
        """Bytes that have arrived."""
        return self.path.stat().st_size if self.path.exists() else 0

    def begin(self, validator: str | None, size: int | None, name: str) -> None:
        """Start over with an empty file."""
        # The bytes go first: a process that dies in between leaves notes without bytes, never bytes of another file.
        self.path.unlink(missing_ok=True)
        self.validator, self.size, self.name = validator, size, name
        write_text(self._notes, json.dumps({"validator": validator, "size": size, "name": name}))
        self.path.touch()

    def discard_if_useless(self) -> None:
        """Forget what no later run could continue."""
        if self.validator is None:
            self.discard()

    def discard(self) -> None:
        """Forget all that has arrived."""
        self.path.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)
        self.validator, self.size, self.name = None, None, ""
