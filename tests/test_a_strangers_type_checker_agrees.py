"""What a stranger writes after the README has types, and the right ones, under ``mypy --strict`` in their own project.

Our own configuration overlooks the stand-ins that diffusers has for what is not installed; theirs takes them for real.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aigc_helpers.paths import REPOSITORY

pytestmark = pytest.mark.slow  # mypy reads torch, diffusers and transformers.

PROGRAM = """
from pathlib import Path
from typing import Any, assert_type

import torch
from PIL.Image import Image

import aigc_helpers
from aigc_helpers import convert, evaluate, generate, inspect, install, load_adapter, merge
from aigc_helpers.evaluation import format_book
from aigc_helpers.images import load_pipeline

pipeline, model = load_pipeline(), torch.nn.Linear(1, 1)
load_adapter(pipeline, "sepia.safetensors")
load_adapter(pipeline.unet, Path("sepia.safetensors"))
load_adapter(model, install("tune-adapter", to="there"))
with aigc_helpers.lora.merge(pipeline, "sepia.safetensors") as merged:
    assert_type([rounding.relative_error for rounding in merged.roundings], list[float])
merge(model, "sepia.safetensors").undo()
convert("sepia.safetensors", "sepia", "peft", "base")
inspect("sepia.safetensors", bases=["base", Path("base")])
assert_type(generate("tiger", lora="sepia", steps=5, guidance=2.0, negative_prompt="x"), list[Image])
assert_type(generate("x", "poet", lora="tune"), list[str])
assert_type(generate("x", input()), list[Image] | list[str])
assert_type(evaluate("poet"), dict[str, Any])
print(format_book(evaluate("book")))
"""


def test_the_readmes_calls_have_types(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    # Of a package that pip installed, mypy reports no errors; silent makes it treat the checkout likewise.
    finished = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir", "cache", "program.py"],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
