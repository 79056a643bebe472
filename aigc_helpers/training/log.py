"""The log of a run: one JSON object per line, readable while the run goes on and after it was killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aigc_helpers.files import write_text, writing_errors_explained


class RunLog:
    """Entries of a run, kept in memory and, where a path is given, in a JSONL file.

    Every entry has the key ``step``. Entries are appended at once and flushed, so a killed run loses none but
    perhaps the last, and that one comes again on resuming.
    """

    def __init__(self, path: Path | None, resumed_step: int, *, writes: bool = True) -> None:
        """Open the log, dropping what a killed run wrote after its last checkpoint at ``resumed_step``.

        Of several processes with the same log, only one may be the one that ``writes``; the others read and keep the
        entries in memory.
        """
        self.path = path if writes else None
        self.entries: list[dict[str, Any]] = []
        if path is not None and path.exists():
            self.entries = [entry for entry in read_log(path) if entry["step"] <= resumed_step]
        if self.path is not None:
            write_text(self.path, "".join(map(_as_line, self.entries)))

    def add(self, entries: list[dict[str, Any]]) -> None:
        """Append entries to memory and file."""
        self.entries.extend(entries)
        if self.path is not None:
            with writing_errors_explained(self.path), self.path.open("a", encoding="utf-8", newline="\n") as opened:
                opened.write("".join(map(_as_line, entries)))


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return a log's entries; a last line that was cut off by a kill is left out.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("log.jsonl").write_text('{"step": 1, "loss": 0.7}\\n{"step": 2, "lo')
        >>> read_log(Path("log.jsonl"))
        [{'step': 1, 'loss': 0.7}]
    """
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return entries


def _as_line(entry: dict[str, Any]) -> str:
    return json.dumps(entry) + "\n"
