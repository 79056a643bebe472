"""How long ``import aigc_helpers`` takes, beside an empty program and ``import torch``; the best of five each.

Run with:  python benchmarks/import_time.py
"""

from __future__ import annotations

import subprocess
import sys
import time

_PROGRAMS = {"nothing": "", "import aigc_helpers": "import aigc_helpers", "import torch": "import torch"}


def main() -> None:
    """Print milliseconds for each program, and what the import itself adds to an empty one."""
    best = {name: min(_seconds(program) for _ in range(5)) for name, program in _PROGRAMS.items()}
    for name, seconds in best.items():
        print(
            f"{name:20} {seconds * 1000:7.0f} ms, {(seconds - best['nothing']) * 1000:7.0f} ms beyond an empty program"
        )


def _seconds(program: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
