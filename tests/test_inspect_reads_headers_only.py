"""A report costs the header alone, whatever the file's size; the numbers are read on request.

A file of 7 GB must not be read, nor torch imported, for a question about its name, its family or its rank.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import tracemalloc
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from small_weight_files import (
    BLOCK,
    inspect_saved,
)

from aigc_helpers import inspect
from aigc_helpers.paths import DATA


def test_hashes_are_those_of_the_file_and_of_all_after_the_header(tmp_path: Path) -> None:
    content = {"emb_params": np.arange(1536, dtype="f4").reshape(2, 768)}
    hashes = inspect_saved(tmp_path, content, read_numbers=True).hashes["some.safetensors"]
    assert hashes["sha256"] == sha256((tmp_path / "some.safetensors").read_bytes()).hexdigest()
    assert hashes["sshs_model_hash"] == sha256(content["emb_params"].tobytes()).hexdigest()
    stale = inspect_saved(tmp_path, content, {"sshs_model_hash": "0" * 64}, read_numbers=True)
    assert "not those that the trainer hashed" in " ".join(stale.remarks)
    right = inspect_saved(tmp_path, content, {"sshs_model_hash": hashes["sshs_model_hash"]}, read_numbers=True)
    assert right.remarks == ()


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_found(tmp_path: Path, dtype: str, value: float) -> None:
    numbers = np.linspace(-6e4, 6e4, 1536).astype(dtype)
    assert inspect_saved(tmp_path, {"<a>": numbers.reshape(2, 768)}, read_numbers=True).remarks == ()
    numbers[700] = value
    (remark,) = inspect_saved(tmp_path, {"<a>": numbers.reshape(2, 768)}, read_numbers=True).remarks
    assert "1 of the numbers in '<a>' are NaN or infinite" in remark


def test_a_header_alone_is_read_from_a_file_of_four_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "large.safetensors"
    size = 4_000_000_000
    raw = json.dumps({f"{BLOCK}.attn2.to_k.weight": {"dtype": "U8", "shape": [10**6, 4000], "data_offsets": [0, size]}})
    path.write_bytes(struct.pack("<Q", len(raw)) + raw.encode())
    with path.open("rb+") as opened:
        opened.truncate(8 + len(raw) + size)  # Sparse: it takes no disk.
    tracemalloc.start()
    try:
        assert inspect(path).parameters == size
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_neither_torch_nor_transformers_is_imported() -> None:
    program = (
        "import sys; from aigc_helpers.cli import main; "
        f"main(['inspect', {str(DATA / 'film_adapter')!r}]); "
        "print(*{'torch', 'transformers', 'diffusers', 'peft', 'pandas'} & set(sys.modules), file=sys.stderr)"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stderr.split() == []
