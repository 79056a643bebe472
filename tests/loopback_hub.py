"""The hub that tests of an installation ask: one repository at one commit."""

from __future__ import annotations

import pytest

from aigc_helpers import notebook

REPOSITORY = "someone/tiny"
COMMIT = "0123456789012345678901234567890123456789"


class LoopbackHub(notebook.LoopbackHub):
    """Serves ``files`` as ``someone/tiny`` at ``COMMIT``."""

    def __init__(
        self,
        files: dict[str, bytes],
        *,
        large: set[str] | None = None,
        damaged: set[str] | None = None,
        page: bytes | None = None,
        token: str | None = None,
    ) -> None:
        super().__init__(REPOSITORY, files)
        self.commits = {COMMIT: files}
        self.large, self.damaged, self.page, self.token = large or set(), damaged or set(), page, token

    @property
    def requested(self) -> list[str]:
        return [request.path for request in self.received]

    def serve_to(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Point huggingface_hub here; its addresses are constants read at import time."""
        import huggingface_hub.constants as constants

        monkeypatch.setattr(constants, "ENDPOINT", self.address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", self.address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
