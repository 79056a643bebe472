"""The inspector panel says what an uploaded file is without running it, and the size panel's arithmetic is right.

Readers upload the very files that they distrust; these must be refused in a sentence, and nothing of them run.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from aigc_helpers.panels import weight_files
from aigc_helpers.paths import DATA

ADAPTER = DATA / "film_adapter" / "adapter_model.safetensors"


class Payload:
    """Would create a file once its pickle is run."""

    def __init__(self, canary: Path) -> None:
        self.program = f"open({str(canary)!r}, 'w').close()"

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (self.program,)


@pytest.fixture(autouse=True)
def faults_are_heard(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """ipywidgets logs an exception in a callback and goes on; here it fails the test."""
    yield
    assert not [record.getMessage() for record in caplog.get_records("call") if "Exception" in record.getMessage()]


@pytest.fixture
def panel() -> weight_files.InspectorPanel:
    return weight_files.InspectorPanel(ADAPTER)


def upload(panel: weight_files.InspectorPanel, name: str, content: bytes) -> str:
    """Hand a file over as the browser does, in the form of the ipywidgets at hand; return the report."""
    metadata = {"name": name, "type": "", "size": len(content), "last_modified": datetime.now(tz=UTC)}
    if isinstance(panel.upload.value, dict):
        # ipywidgets 7, which Colab has: value is read-only, and follows what the browser sends.
        counter = panel.upload._counter + 1
        panel.upload.set_state({"metadata": [metadata], "data": [memoryview(content)], "_counter": counter})
    else:
        panel.upload.value = ({**metadata, "content": memoryview(content)},)
    return panel.report.value


def test_the_panel_begins_with_the_file_it_is_given(panel: weight_files.InspectorPanel) -> None:
    assert "adapter_model.safetensors" in panel.report.value and "LoRA" in panel.report.value


def test_an_upload_is_reported(panel: weight_files.InspectorPanel) -> None:
    report = upload(panel, "poet.safetensors", (DATA / "poet" / "model.safetensors").read_bytes())
    assert "GPT-2" in report and "4,429,568" in report and "52: 52 × F16" in report


@pytest.mark.parametrize("many", ["dictionary by name", "tuple of files"])
def test_uploads_of_both_generations_of_ipywidgets_are_read(many: str) -> None:
    value: Any = {"a.bin": {"content": b"xy"}}
    if many == "tuple of files":
        value = ({"name": "a.bin", "content": memoryview(b"xy")},)
    assert list(weight_files._uploaded(value)) == [("a.bin", b"xy")]


def test_a_pickle_that_would_run_something_is_refused_and_not_run(
    panel: weight_files.InspectorPanel, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    torch.save({"weight": torch.ones(2), "note": Payload(canary)}, tmp_path / "cat.ckpt")
    report = upload(panel, "cat.ckpt", (tmp_path / "cat.ckpt").read_bytes())
    assert "refused / 拒绝" in report and "exec" in report
    assert not canary.exists()


@pytest.mark.parametrize("name", ["../../model.safetensors", "C:\\models\\model.safetensors", "..", ""])
def test_the_name_leads_nowhere_and_the_message_has_no_temporary_path(name: str) -> None:
    found = weight_files.run_inspection(name, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert isinstance(found, str) and "/" not in found.partition(" ")[0]


def test_what_the_file_says_of_itself_is_shown_as_text(panel: weight_files.InspectorPanel) -> None:
    report = upload(panel, "<img src=x>.safetensors", ADAPTER.read_bytes())
    assert "<img" not in report and "&lt;img" in report


@pytest.mark.parametrize(
    ("dtype", "weights", "most"), [("float32", 28e9, 3.75e9), ("float16", 14e9, 7.5e9), ("int4", 3.5e9, 30e9)]
)
def test_sizes(dtype: str, weights: float, most: float) -> None:
    size = weight_files.run_size(7e9, dtype)
    assert (size.weights, size.training, size.most_parameters) == (weights, 112e9, most)


def test_moving_a_control_changes_the_verdict() -> None:
    panel = weight_files.SizePanel(7e9, "float16")
    assert "14,000 MB: ✓ fits" in panel.report.value and "112,000 MB: ✗" in panel.report.value
    panel.dtype.value = "float32"
    assert "28,000 MB: ✗ does not fit" in panel.report.value
    panel.millions.value = 100
    assert "400 MB: ✓ fits" in panel.report.value and "1,600 MB: ✓" in panel.report.value
