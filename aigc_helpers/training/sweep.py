"""A sweep: many runs, one stored line each, with a progress bar; what the file has already is not run again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from aigc_helpers.errors import ReaderError
from aigc_helpers.files import write_text, writing_errors_explained
from aigc_helpers.training.log import read_log

Row = dict[str, Any]


def run_sweep(path: Path, jobs: Sequence[Mapping[str, Any]], run: Callable[..., Mapping[str, Any]]) -> list[Row]:
    """Run the jobs that ``path`` lacks, appending a line after each; returns the rows of all jobs, in their order.

    Interrupt it as you like, and call it again: it goes on where it stopped.

    Args:
        path: a JSONL file; made if it is not there.
        jobs: what is set for each run.
        run: called with a job's settings as keyword arguments; its figures stand beside the settings in the row.

    Raises:
        ReaderError: there are no jobs, or the file cannot be written.

    Example:
        >>> from pathlib import Path
        >>> jobs = [{"rank": 4}, {"rank": 8}]
        >>> run_sweep(Path("sweep.jsonl"), jobs, lambda rank: {"parameters": 2 * 768 * rank})
        [{'rank': 4, 'parameters': 6144}, {'rank': 8, 'parameters': 12288}]
    """
    if not jobs:
        raise ReaderError("the sweep has no runs: one of its lists of settings is empty.")
    rows = read_log(path) if path.exists() else []
    write_text(path, "".join(map(_as_line, rows)))  # Without the line that a killed run may have left half written.
    missing = [job for job in jobs if _find(rows, job) is None]
    done = len(jobs) - len(missing)
    # At once, not once in a while: runs take long, and the bar is how one knows that they go on.
    for job in tqdm(missing, total=len(jobs), initial=done, desc=path.stem, unit="run", leave=False, mininterval=0):
        rows.append({**job, **run(**job)})
        with writing_errors_explained(path), path.open("a", encoding="utf-8", newline="\n") as opened:
            opened.write(_as_line(rows[-1]))
    return [row for job in jobs if (row := _find(rows, job)) is not None]


def _find(rows: Sequence[Row], job: Mapping[str, Any]) -> Row | None:
    return next((row for row in rows if all(row.get(name) == value for name, value in job.items())), None)


def _as_line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"
