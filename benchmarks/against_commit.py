"""The benchmarks of this checkout beside those of an earlier commit, in alternation: is anything slower than before?

Run with:  python benchmarks/against_commit.py COMMIT [NAME ...]

Each benchmark is run as a whole under either tree, turn by turn, so that a busy machine disturbs both alike; the
shortest wall time of each counts. Names are those of the scripts here; without any, the quick ones.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tqdm import tqdm

_ROUNDS = 3
_QUICK = ("import_time", "inspect_file", "install_local_file", "convert_adapter", "adapter_hotswap")
_ARGUMENTS = {"install_local_file": ["500"]}  # Megabytes.
_HERE = Path(__file__).resolve().parent.parent


def main() -> None:
    """Print a line for each benchmark: seconds then, seconds now, and how many times as fast it is now."""
    if len(sys.argv) < 2:
        sys.exit(f"{__doc__}\nWhich commit?")
    commit, names = sys.argv[1], sys.argv[2:] or list(_QUICK)
    with tempfile.TemporaryDirectory() as folder:
        before = Path(folder) / "before"
        subprocess.run(["git", "-C", str(_HERE), "worktree", "add", "--detach", str(before), commit], check=True)
        try:
            trees = {"before": before, "now": _HERE}
            runs = [(name, tree) for name in names for _ in range(_ROUNDS) for tree in trees]
            seconds: dict[tuple[str, str], list[float]] = {}
            for name, tree in tqdm(runs, unit="run"):
                seconds.setdefault((name, tree), []).append(_seconds(trees[tree], name))
        finally:
            subprocess.run(["git", "-C", str(_HERE), "worktree", "remove", "--force", str(before)], check=True)
    for name in names:
        then, now = min(seconds[name, "before"]), min(seconds[name, "now"])
        print(f"{name:20} {then:8.2f} s then, {now:8.2f} s now: {then / now:.2f} times as fast")


def _seconds(tree: Path, name: str) -> float:
    command = [sys.executable, str(tree / "benchmarks" / f"{name}.py"), *_ARGUMENTS.get(name, [])]
    started = time.perf_counter()
    subprocess.run(
        command, check=True, cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
