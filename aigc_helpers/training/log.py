"""The log of a run: one JSON object per line, readable while the run goes on and after it was killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aigc_helpers.bounded_json import parse_json
from aigc_helpers.errors import ReaderError, first_line
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
            self.entries = [entry for entry in _read_steps(path) if entry["step"] <= resumed_step]
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

    Raises:
        ReaderError: another line is no entry.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("log.jsonl").write_text('{"step": 1, "loss": 0.7}\\n{"step": 2, "lo')
        >>> read_log(Path("log.jsonl"))
        [{'step': 1, 'loss': 0.7}]
    """
    lines = path.read_bytes().splitlines()
    entries = []
    for number, line in enumerate(lines, 1):
        try:
            entry = parse_json(line.decode("utf-8"))
        except ValueError as error:
            if number == len(lines):
                break
            raise _damaged(path, f"has a line {number} that is no JSON ({first_line(error)})") from error
        if not isinstance(entry, dict):
            raise _damaged(path, f"has a line {number} that is no JSON object")
        entries.append(entry)
    return entries


def _read_steps(path: Path) -> list[dict[str, Any]]:
    entries = read_log(path)
    for number, entry in enumerate(entries, 1):
        if type(entry.get("step")) is not int:
            raise _damaged(path, f"has a line {number} without the number of a step")
    return entries


def _damaged(path: Path, fault: str) -> ReaderError:
    return ReaderError(f"{path} {fault}: something else has written into it. Mend that, or move the file away.")


def _as_line(entry: dict[str, Any]) -> str:
    return json.dumps(entry) + "\n"
