"""The hub that tests of an installation ask: one repository at one commit, and what may stand in a hub's place."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from aigc_helpers import notebook
from aigc_helpers.notebook.loopback_server import Answer, Request

REPOSITORY = "someone/tiny"
COMMIT = "0123456789012345678901234567890123456789"


class LoopbackHub(notebook.LoopbackHub):
    """Serves ``files`` as ``someone/tiny`` at ``COMMIT``.

    ``page`` is sent in place of any listing, and ``file_page`` in place of any file, as a network's sign-in page is. A
    request without ``token``, if there is one, is turned away with ``code``.
    """

    def __init__(
        self,
        files: dict[str, bytes],
        *,
        large: set[str] | None = None,
        damaged: set[str] | None = None,
        page: bytes | None = None,
        file_page: bytes | None = None,
        token: str | None = None,
        code: str = "GatedRepo",
    ) -> None:
        super().__init__(REPOSITORY, files)
        self.commits = {COMMIT: files}
        self.large, self.damaged = large or set(), damaged or set()
        self.page, self.file_page, self.token, self.code = page, file_page, token, code
        self._cache = tempfile.TemporaryDirectory()

    def answer(self, request: Request) -> Answer:
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return Answer(status=401, headers={"X-Error-Code": self.code})
        answer = super().answer(request)
        page = self.page if answer.tag is None else self.file_page
        # With status 200, as a hotel's network does.
        return answer if page is None else Answer(page, headers={"Content-Type": "text/html"})

    def close(self) -> None:
        super().close()
        self._cache.cleanup()

    @property
    def cache(self) -> Path:
        """huggingface_hub's cache while this hub serves: no test writes into the one of whoever runs it."""
        return Path(self._cache.name)

    @property
    def requested(self) -> list[str]:
        """The paths of all requests."""
        return [request.path for request in self.received]

    @property
    def fetched(self) -> list[str]:
        """The files whose bytes were asked for, each with the part that was, if any."""
        return [request.removeprefix("GET ") for request in self.requests if request.startswith("GET ")]

    def serve_to(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Point huggingface_hub here; its addresses are constants read at import time."""
        import huggingface_hub.constants as constants

        monkeypatch.setattr(constants, "ENDPOINT", self.address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(self.cache))
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", self.address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
