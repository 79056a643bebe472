"""GGUF, HDF5 and zips are recognised by their content, and read as far as the list of their tensors."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from small_weight_files import (
    BLOCK,
    gguf,
    torch_zip,
)

from aigc_helpers import inspect
from aigc_helpers.errors import ReaderError


def test_gguf_is_read_as_far_as_its_tensors(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf())
    inspection = inspect(path)
    assert (inspection.container, inspection.family, inspection.kind) == ("GGUF", "Llama", "full checkpoint")
    assert (inspection.parameters, inspection.dtypes) == (68, {"Q4_0": 1, "F32": 1})
    in_a_folder = inspect(tmp_path)
    assert (in_a_folder.container, in_a_folder.parameters) == ("folder with GGUF", 68)


def test_hdf5_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        file["dense/kernel:0"] = np.zeros((3, 4), "f2")
        file["dense/bias:0"] = np.zeros(4, "f4")
    inspection = inspect(path)
    assert (inspection.tensors, inspection.parameters, inspection.dtypes) == (2, 16, {"F16": 1, "F32": 1})
    assert inspect(path).container == "HDF5"


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"a.npy": b""}, "a NumPy archive of 1 files"),
        ({"model.safetensors": b"x", "readme.md": b"y"}, "a zip archive of 2 files"),
        ({"archive/data.pkl": b"\x80\x02\xff"}, "no valid pickle"),
        ({"archive/data.pkl": b""}, "no valid pickle"),
    ],
)
def test_zips_that_are_no_torch_files_are_called_what_they_are(
    tmp_path: Path, members: dict[str, bytes], words: str
) -> None:
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(ReaderError, match=words):
        inspect(path)


def test_a_cut_torch_zip_is_refused(tmp_path: Path) -> None:
    path = torch_zip(tmp_path / "model.pt", {"a": 1})
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ReaderError, match="a zip that cannot be read"):
        inspect(path)


def test_a_zip_with_an_endless_list_of_members_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    size = 21_000_000
    with path.open("wb") as opened:
        opened.write(b"PK\x03\x04")
        opened.truncate(size)
        opened.seek(size)
        opened.write(b"PK\x05\x06" + struct.pack("<4H2IH", 0, 0, 9, 9, size - 4, 4, 0))
    with pytest.raises(ReaderError, match="list of members is longer"):
        inspect(path)


@pytest.mark.parametrize("legacy", [True, False])
def test_a_file_that_torch_wrote_is_read_without_torch(tmp_path: Path, torch, legacy: bool) -> None:
    weights = torch.nn.ParameterDict({"conv_in": torch.zeros(3, 2)}).state_dict()
    weights[f"{BLOCK}.attn2.to_k.weight"] = torch.zeros(320, 768, dtype=torch.bfloat16)
    weights["up_blocks.0"] = torch.nn.Parameter(torch.zeros(5))
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": weights, "epoch": 3}, path, _use_new_zipfile_serialization=not legacy)
    inspection = inspect(path)
    assert inspection.container == ("legacy pickle" if legacy else "torch zip")
    assert (inspection.family, inspection.kind) == ("Stable Diffusion 1.x", "UNet")
    assert (inspection.tensors, inspection.parameters) == (3, 6 + 320 * 768 + 5)
    assert inspection.dtypes == {"F32": 2, "BF16": 1}
    assert "torch._utils._rebuild_tensor_v2" in inspection.imports


def test_numpy_scalars_and_arrays_are_admitted(tmp_path: Path) -> None:
    path = torch_zip(tmp_path / "model.pt", {"loss": np.float64(0.5), "array": np.zeros(3)})
    assert any(name.endswith("multiarray.scalar") for name in inspect(path).imports)
