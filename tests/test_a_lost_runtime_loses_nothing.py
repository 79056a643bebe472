"""What a runtime on Colab takes with it when it goes was on Google Drive or in the browser before.

A free runtime ends without warning. A training that had its checkpoints on Drive goes on in the next one, from the
very step, with the very numbers.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from aigc_helpers.errors import WrongUsageError
from aigc_helpers.notebook import drive_folder, keeping, offer_download
from aigc_helpers.training import FitSettings, fit


@pytest.fixture
def drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime on Colab with Drive mounted."""
    folder = tmp_path / "MyDrive"
    folder.mkdir()
    monkeypatch.setattr(keeping, "on_colab", lambda: True)
    monkeypatch.setattr(keeping, "MY_DRIVE", folder)
    return folder


class Numbers:
    """Forty batches of eight numbers."""

    unit_name = "numbers"

    def __len__(self) -> int:
        return 40

    def batch(self, epoch: int, position: int) -> torch.Tensor:
        return torch.linspace(-1, 1, 8)[:, None] * (position + 1)

    def count(self, batch: torch.Tensor) -> int:
        return len(batch)


class RuntimeIsGoneError(Exception):
    """In the place of a kernel that is killed."""


def train(dies_at: int | None = None) -> list[float]:
    """Train as a cell does, in a runtime that may be lost on the way; return the model's numbers."""
    torch.manual_seed(0)
    model, steps = nn.Linear(1, 1), 0

    def loss(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        nonlocal steps
        steps += 1
        if steps == dies_at:
            raise RuntimeIsGoneError
        noise = torch.randn_like(batch)
        return (model(batch) - 2 * batch + 0.1 * noise).square().mean()

    fit(model, Numbers(), loss, FitSettings(1, 1e-2, checkpoint_every=5), folder=drive_folder("numbers"))
    return [number for each in model.parameters() for number in each.flatten().tolist()]


def test_the_same_cell_goes_on_where_the_lost_runtime_was(drive: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(RuntimeIsGoneError):
        train(dies_at=23)
    assert list(drive.glob("aigc/numbers/*"))
    resumed = train()
    monkeypatch.setattr(keeping, "MY_DRIVE", drive / "another")
    assert resumed == train()


def test_without_drive_nothing_is_kept(drive: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(keeping, "MY_DRIVE", drive / "not mounted")
    assert drive_folder("numbers") is None
    monkeypatch.setattr(keeping, "MY_DRIVE", drive)
    monkeypatch.setattr(keeping, "on_colab", lambda: False)
    assert drive_folder("numbers") is None


def test_a_folder_is_offered_as_a_zip_file(drive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    saved: list[str] = []
    package, files = ModuleType("google.colab"), ModuleType("google.colab.files")
    files.download = saved.append  # type: ignore[attr-defined]
    package.files = files  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "google", ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", package)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    offer_download(adapter)
    offer_download(adapter / "adapter_config.json")
    assert [Path(path).name for path in saved] == ["adapter.zip", "adapter_config.json"]
    assert zipfile.ZipFile(saved[0]).namelist() == ["adapter_config.json"]


def test_what_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(WrongUsageError, match="save the model first"):
        offer_download(tmp_path / "adapter")
