"""One address for several loopback hubs, as the real hub has one for all repositories."""

from __future__ import annotations

from collections.abc import Iterable

from aigc_helpers.notebook import LoopbackHub
from aigc_helpers.notebook.loopback_hub import missing
from aigc_helpers.notebook.loopback_server import Answer, LoopbackServer, Request


class HubOfRepositories(LoopbackServer):
    """Asks the hub that has the repository named in a request; of any other repository it says that there is none."""

    def __init__(self, hubs: Iterable[LoopbackHub]) -> None:
        """Begin to serve the repositories of ``hubs``, on a port that is free."""
        self.hubs = {hub.repository: hub for hub in hubs}
        super().__init__()

    def answer(self, request: Request) -> Answer:
        hub = next((hub for hub in self.hubs.values() if hub.has(request.path)), None)
        return hub.answer(request) if hub else missing("Repo")

    def close(self) -> None:
        super().close()
        for hub in self.hubs.values():
            hub.close()

    def fetched(self) -> dict[str, set[str]]:
        """Return the names of the files that were fetched, by repository, and begin anew."""
        names = {}
        for repository, hub in self.hubs.items():
            requests = [request.split(" ") for request in hub.requests]
            names[repository] = {name for method, name, *_ in requests if method == "GET"}
            hub.requests.clear()
        return {repository: found for repository, found in names.items() if found}
