"""One notebook under nbval, with the book's settings, outside of the book: for tests that see nbval fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat

from aigc_helpers.paths import REPOSITORY

SANITISER = REPOSITORY / "tests" / "chapters" / "sanitise.cfg"
PASSED, FAILED = 0, 1  # pytest's exit codes; 5, "nothing collected", is neither


def nbval(notebook: nbformat.NotebookNode, path: Path) -> subprocess.CompletedProcess[str]:
    """Write ``notebook`` to ``path``, run it, and compare what it stores as the book's own tests do."""
    nbformat.write(notebook, path)
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=600"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        [*command, f"--nbval-sanitize-with={SANITISER}", "-q", "-p", "no:cacheprovider", path.name],
        cwd=path.parent,
        env=environment,
        capture_output=True,
        text=True,
    )
