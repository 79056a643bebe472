"""A check in a chapter shows the value that a reader predicted, beside its range, or stops; NaN never passes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy
import pytest

from aigc_helpers.notebook import MEASURE_VARIABLE, RECORD_VARIABLE, expect, expect_close, expect_equal
from aigc_helpers.profile import Profile


@pytest.fixture(autouse=True)
def embedded(monkeypatch: pytest.MonkeyPatch):
    set_profile(monkeypatch, "embedded")


def set_profile(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    profile = Profile(name=name, device="cpu", dtype_name="float32")
    monkeypatch.setattr("aigc_helpers.notebook.checks.current_profile", lambda: profile)


@pytest.mark.parametrize(
    ("value", "low", "high", "shown"),
    [
        (0.6312, 0.58, 0.70, "0.63 (expected 0.58–0.70)"),
        (numpy.float32(0.8), 0.78, 0.88, "0.80 (expected 0.78–0.88)"),
        (0.10049, 0.09, 0.11, "0.100 (expected 0.090–0.110)"),
        (7, 0, 8, "7 (expected 0–8)"),
        (numpy.int64(8), 8, 8, "8 (expected 8–8)"),
        (1.0, 1.0, 1.0, "1.0 (expected 1.0–1.0)"),
        (150.8, 130, 170, "151 (expected 130–170)"),
        (1.62, 1.3, 60, "1.6 (expected 1.3–60.0)"),
        (4512.3, 3, 10_000, "4512 (expected 3–10000)"),
        (3.1e-08, 0, 1e-6, "3.1e-08 (expected 0–1e-06)"),
        (-1.25, -5, 5, "-1.2 (expected -5.0–5.0)"),
        (0.0, -0.06, 0.06, "0.000 (expected -0.060–0.060)"),
        (0.5, 0.001, 1, "0.5000 (expected 0.0010–1.0000)"),
        (0.55, 0.125, 0.9, "0.55 (expected 0.125–0.90)"),
        (100.00000000000004, 95, 100, "100.0 (expected 95.0–100.0)"),
    ],
)
def test_a_value_is_shown_as_far_as_its_range_tells_and_no_end_is_rounded(
    value, low, high, shown: str, capsys: pytest.CaptureFixture
):
    expect(value, low, high, "found")
    assert capsys.readouterr().out == f"✓ found: {shown}\n"


@pytest.mark.parametrize("value", [0.7799, 0.8801, float("nan"), float("inf")])
def test_a_value_outside_or_nan_raises_with_value_and_range(value: float, capsys: pytest.CaptureFixture):
    with pytest.raises(AssertionError, match=r"^✗ test accuracy: .* is outside 0\.78–0\.88$"):
        expect(value, 0.78, 0.88, "test accuracy")
    assert capsys.readouterr().out == ""


def test_the_full_profile_shows_the_value_and_never_raises(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    set_profile(monkeypatch, "full")
    expect(0.93, 0.78, 0.88, "test accuracy")
    assert capsys.readouterr().out == "○ test accuracy: 0.93\n"


def test_every_check_is_recorded_for_the_runner(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    records = tmp_path / "checks.jsonl"
    monkeypatch.setenv(RECORD_VARIABLE, str(records))
    expect(numpy.float32(0.5), 0, 1, "准确率")
    expect_equal(1, 1, "count")
    with pytest.raises(AssertionError):
        expect_close(1, 2, 0.5, "merged")
    assert [json.loads(line) for line in records.read_text(encoding="utf-8").splitlines()] == [
        {"label": "准确率", "passed": True, "value": 0.5, "low": 0.0, "high": 1.0},
        {"label": "count", "passed": True},
        {"label": "merged", "passed": False},
    ]


def test_while_ranges_are_measured_a_failing_check_does_not_stop_the_chapter(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
):
    monkeypatch.setenv(RECORD_VARIABLE, str(tmp_path / "checks.jsonl"))
    monkeypatch.setenv(MEASURE_VARIABLE, "1")
    expect(2.0, 0, 1, "share")
    expect_equal(1, 2, "count")
    expect_close([1], [1, 2], 1, "shapes")
    assert len(capsys.readouterr().out.splitlines()) == 3
    recorded = [json.loads(line) for line in (tmp_path / "checks.jsonl").read_text().splitlines()]
    assert [each["passed"] for each in recorded] == [False] * 3


def test_equal_things_are_printed(capsys: pytest.CaptureFixture):
    expect_equal((8, 384), (8, 384), "shape of A")
    assert capsys.readouterr().out == "✓ shape of A: (8, 384)\n"
    with pytest.raises(AssertionError, match="✗ shape of A: 1 is not 2"):
        expect_equal(1, 2, "shape of A")


@pytest.mark.parametrize(
    ("left", "right"),
    [(1.0, 1.0 + 1e-7), ([1, 2], numpy.array([1.0, 2.0])), (float("inf"), float("inf")), ([], [])],
)
def test_close_arrays_pass(left, right, capsys: pytest.CaptureFixture):
    expect_close(left, right, 1e-6, "merged")
    assert capsys.readouterr().out == "✓ merged: equal to within 1e-06\n"


@pytest.mark.parametrize(
    ("left", "right"),
    [(1.0, 1.1), ([1.0], [1.0, 1.0]), (float("nan"), float("nan")), ([1, float("nan")], [1, 2]), (float("inf"), 1)],
)
def test_distant_arrays_other_shapes_and_nan_fail(left, right):
    with pytest.raises(AssertionError, match="✗ merged"):
        expect_close(left, right, 1e-6, "merged")


def test_tensors_with_gradient_or_in_half_precision_are_compared():
    import torch

    weights = torch.ones(3, requires_grad=True)
    expect_close(weights, torch.ones(3, dtype=torch.bfloat16), 0.0, "weights")
    with pytest.raises(AssertionError, match="largest difference 1 "):
        expect_close(weights, weights + 1, 0.5, "weights")
