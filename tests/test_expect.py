"""A check in a chapter prints a line that is the same on every machine, or stops; NaN never passes."""

from __future__ import annotations

import numpy
import pytest

from aigc_helpers.book.expect import expect, expect_close, expect_equal
from aigc_helpers.profile import Profile


@pytest.fixture(autouse=True)
def embedded(monkeypatch: pytest.MonkeyPatch):
    set_profile(monkeypatch, "embedded")


def set_profile(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    profile = Profile(name=name, device="cpu", dtype_name="float32")
    monkeypatch.setattr("aigc_helpers.book.expect.current_profile", lambda: profile)


@pytest.mark.parametrize("value", [0.78, 0.8111, 0.88, numpy.float32(0.8)])
def test_a_value_in_the_range_prints_the_same_line_whatever_it_is(value, capsys: pytest.CaptureFixture):
    expect(value, 0.78, 0.88, "test accuracy")
    assert capsys.readouterr().out == "✓ test accuracy: within 0.78–0.88\n"


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
    assert capsys.readouterr().out == "○ test accuracy: 0.930 (range stated for the embedded profile: 0.78–0.88)\n"


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
