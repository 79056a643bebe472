"""How long ``aigc install`` takes for a weight file of this disk, beside ``sha256sum`` and ``cp`` of the same file.

The three take turns, three times each, and the shortest time of each counts. Run with, for a file of 2,000 MB:
python benchmarks/install_local_file.py 2000
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from aigc_helpers.store import install_file

_TURNS = 3
_NAMES = ("decoder.up_blocks.0.weight", "encoder.down_blocks.0.weight")


def main(megabytes: int) -> None:
    """Print the seconds of each, and the ratio that the project promises to keep below 1.3."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name)
        source = folder / "vae.safetensors"
        numbers = np.random.default_rng(0).random(megabytes * 1_000_000 // 8, dtype=np.float32)
        save_file(dict.fromkeys(_NAMES, numbers), source)
        os.environ["AIGC_HOME"] = str(folder / "store")
        turns: dict[str, Callable[[], object]] = {
            "sha256sum": lambda: subprocess.run(["sha256sum", source], check=True, stdout=subprocess.DEVNULL),
            "cp": lambda: subprocess.run(["cp", source, folder / "copy"], check=True),
            "aigc install": lambda: install_file(source),
        }
        best = dict.fromkeys(turns, float("inf"))
        for _ in range(_TURNS):
            for turn, work in turns.items():
                (folder / "copy").unlink(missing_ok=True)
                (folder / "store" / "vae" / source.name).unlink(missing_ok=True)
                os.sync()  # So that no turn pays for what the one before left to be written.
                best[turn] = min(best[turn], _seconds(work))
    for turn, seconds in best.items():
        print(f"{turn:14} {seconds:7.2f} s")
    print(f"ratio          {best['aigc install'] / (best['sha256sum'] + best['cp']):7.2f}   (at most 1.3)")


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
