"""How long ``inspect()`` takes, and how much memory, for files of 10 MB to 7 GB with as many tensors: the same for all.

Run with:  python benchmarks/inspect_file.py

The files are sparse: they have a header and a length, and take no disk. Each is looked at in a process of its own,
after the imports; time is the best of five.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

_SIZES = (10_000_000, 100_000_000, 1_000_000_000, 4_000_000_000, 7_000_000_000)  # Bytes.
_BLOCKS = 100
_NAMES = ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "attn2.to_q", "attn2.to_v", "attn2.to_out.0")
_MEASURE = """
import json, resource, sys, time
from pathlib import Path
from aigc_helpers import inspect

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux.

path, before, seconds = Path(sys.argv[1]), peak(), []
for _ in range(5):
    started = time.perf_counter()
    inspection = inspect(path)
    seconds.append(time.perf_counter() - started)
print(json.dumps([min(seconds), max(seconds), (peak() - before) * 1024, inspection.tensors, inspection.parameters]))
"""


def main() -> None:
    """Print a row per size."""
    print(f"{'file':>10} {'tensors':>8} {'best of 5':>11} {'slowest':>11} {'memory beyond imports':>22}")
    with TemporaryDirectory() as folder:
        for size in _SIZES:
            path = Path(folder) / "unet.safetensors"
            _write_sparse(path, size)
            command = [sys.executable, "-c", _MEASURE, str(path)]
            finished = subprocess.run(command, capture_output=True, text=True, check=True)
            best, slowest, memory, tensors, _ = json.loads(finished.stdout)
            print(
                f"{size / 1e6:7,.0f} MB {tensors:8} {best * 1000:8.1f} ms {slowest * 1000:8.1f} ms "
                f"{memory / 1e6:19.1f} MB"
            )
            path.unlink()


def _write_sparse(path: Path, size: int) -> None:
    """Write the header of a UNet in half precision whose tensors take ``size`` bytes together, and no tensors."""
    rows = size // (2 * 320 * _BLOCKS * len(_NAMES))
    header, end = {}, 0
    for block in range(_BLOCKS):
        for name in _NAMES:
            begin, end = end, end + 2 * 320 * rows
            full = f"down_blocks.{block}.attentions.0.transformer_blocks.0.{name}.weight"
            header[full] = {"dtype": "F16", "shape": [rows, 320], "data_offsets": [begin, end]}
    raw = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw)
    os.truncate(path, 8 + len(raw) + end)


if __name__ == "__main__":
    main()
