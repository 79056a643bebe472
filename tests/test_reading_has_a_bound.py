"""A file of a few megabytes that lists more than any weight file does is refused within seconds, before it is read."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file
from small_weight_files import dotted_lora, text

from aigc_helpers import convert, inspect
from aigc_helpers.errors import ReaderError

pytestmark = pytest.mark.slow

Write = Callable[[Path], Path]


def safetensors(header: dict[str, object]) -> Write:
    def write(folder: Path) -> Path:
        raw = json.dumps(header).encode()
        (folder / "some.safetensors").write_bytes(struct.pack("<Q", len(raw)) + raw)
        return folder / "some.safetensors"

    return write


def gguf(tensors: int, pairs: int, content: bytes) -> Write:
    def write(folder: Path) -> Path:
        (folder / "some.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, tensors, pairs) + content)
        return folder / "some.gguf"

    return write


def keras(folder: Path) -> Path:
    with h5py.File(folder / "some.h5", "w") as file:
        for number in range(20_001):
            file.create_dataset(f"{number}", shape=(1,), dtype="f4")
    return folder / "some.h5"


EMPTY = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
HOSTILE: dict[str, tuple[Write, str]] = {
    "tensors": (safetensors({f"t{number}": EMPTY for number in range(125_000)}), "more tensors or notes"),
    "notes": (
        safetensors({"__metadata__": {f"t{number}": "" for number in range(610_000)}}),
        "more tensors or notes",
    ),
    "values of GGUF": (gguf(0, 100_001, b""), "announces 0 tensors and 100,001 values"),
    "tensors of GGUF": (gguf(100_001, 0, b""), "announces 100,001 tensors and 0 values"),
    "a vocabulary": (
        gguf(0, 1, text("words") + struct.pack("<IIQ", 9, 8, 2_000_001) + bytes(8 * 2_000_001)),
        "hold more than any vocabulary",
    ),
    "arrays of arrays": (
        gguf(0, 1, text("words") + struct.pack("<IIQ", 9, 9, 2_000_001) + bytes(12 * 2_000_001)),
        "hold more than any vocabulary",
    ),
    "datasets of Keras": (keras, "nests or holds more than any weight file does"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_list_without_end_is_refused_before_it_is_read(what: str, tmp_path: Path) -> None:
    write, words = HOSTILE[what]
    path = write(tmp_path)
    begun = time.process_time()
    with pytest.raises(ReaderError, match=f"some.* {words}"):
        inspect(path)
    assert time.process_time() - begun < 5


def test_a_list_as_long_as_the_longest_is_read(tmp_path: Path) -> None:
    path = safetensors({f"layers.{number}.weight": EMPTY for number in range(100_000)})(tmp_path)
    assert inspect(path).tensors == 100_000


@pytest.mark.parametrize("setting", ["rank_pattern", "alpha_pattern"])
def test_more_patterns_than_layers_are_refused(setting: str, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    tensors = dotted_lora("base_model.model.", ".lora_A.weight", ".lora_B.weight")
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": 4, setting: {f"layer{number}": 4 for number in range(20_001)}}
    (folder / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
    begun = time.process_time()
    assert "20,001 regular expressions for layers" in " ".join(inspect(folder).remarks)
    with pytest.raises(ReaderError, match="20,001 regular expressions for layers"):
        convert(folder, tmp_path / "converted", "peft")
    assert time.process_time() - begun < 5


def test_a_vocabulary_as_large_as_the_largest_is_read(tmp_path: Path) -> None:
    words = text("words") + struct.pack("<IIQ", 9, 8, 600_000) + bytes(8 * 600_000)
    numbers = text("kinds") + struct.pack("<IIQ", 9, 5, 600_000) + np.zeros(600_000, "<i4").tobytes()
    assert inspect(gguf(0, 2, words + numbers)(tmp_path)).container == "GGUF"
