"""Converting a LoRA: the time beside that of a plain read and write of the same bytes, and the most memory it takes.

Run with:  python benchmarks/convert_adapter.py

Each conversion runs in a process of its own. Its memory is the growth of the peak of the resident set over what the
imports take; the pages of the mapped source file count, so the target is the file plus one tensor. kohya's format costs
a sha256 of the tensors as well.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_ROUNDS = 3
_LAYERS, _WIDTH, _RANK = 192, 1280, 128
_FORMATS = ("peft", "diffusers", "kohya")


def main() -> None:
    """Print a line per format."""
    if len(sys.argv) > 1:
        _convert_once(*sys.argv[1:])
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source = _make(folder / "source.safetensors")
        size = source.stat().st_size
        _copy(source, folder / "copy.bin")
        plain = statistics.median(_copy(source, folder / "copy.bin") for _ in range(_ROUNDS))
        print(f"{size / 1e6:.0f} MB in {_LAYERS} layers, the largest tensor {_WIDTH * _RANK * 2 / 1e6:.2f} MB")
        print(f"read and write: {plain:.2f} s ({size / plain / 1e6:.0f} MB/s)")
        for to in _FORMATS:
            run = _in_a_process(source, folder, to)
            seconds, memory = statistics.median(run["seconds"]), run["memory"]
            print(
                f"to {to:9}: {seconds:.2f} s, {seconds / plain:.2f} × read and write; "
                f"peak memory {memory / 1e6:.0f} MB, {memory / size:.2f} × the file",
                flush=True,
            )


def _make(path: Path) -> Path:
    import torch
    from safetensors.torch import save_file

    tensors = {}
    for number in range(_LAYERS):
        stem = f"lora_unet_down_blocks_0_attentions_0_transformer_blocks_{number}_attn1_to_q"
        tensors[f"{stem}.lora_down.weight"] = torch.randn(_RANK, _WIDTH).half()
        tensors[f"{stem}.lora_up.weight"] = torch.randn(_WIDTH, _RANK).half()
        tensors[f"{stem}.alpha"] = torch.tensor(float(_RANK)).half()
    save_file(tensors, path)
    return path


def _copy(source: Path, target: Path) -> float:
    started = time.perf_counter()
    with target.open("wb") as opened:
        opened.write(source.read_bytes())
        opened.flush()
        os.fsync(opened.fileno())  # As the conversion does before it renames.
    return time.perf_counter() - started


def _in_a_process(source: Path, folder: Path, to: str) -> dict[str, Any]:
    target = folder / to if to == "peft" else folder / f"{to}.safetensors"
    command = [sys.executable, __file__, str(source), str(target), to]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def _convert_once(source: str, target: str, to: str) -> None:
    import peft  # noqa: F401 - so that its import is not measured.
    import torch  # noqa: F401
    from safetensors.torch import save_file  # noqa: F401

    from aigc_helpers.lora import convert

    unit = 1 if sys.platform == "darwin" else 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for number in range(_ROUNDS):
        started = time.perf_counter()
        convert(Path(source), Path(target), to)  # type: ignore[arg-type]
        seconds.append(time.perf_counter() - started)
        if number == 0:
            memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit
    print(json.dumps({"seconds": seconds, "memory": memory}))


if __name__ == "__main__":
    main()
