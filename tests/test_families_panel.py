"""The panel of chapter 01 judges what a family really drew, with the setting that stands on the slider."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from aigc_helpers.errors import ReaderError
from aigc_helpers.panels import FamiliesPanel, Family
from aigc_helpers.panels.families import run


@pytest.fixture(autouse=True)
def faults_are_heard(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """ipywidgets logs an exception in a callback and goes on; here it fails the test."""
    yield
    assert not [record.getMessage() for record in caplog.get_records("call") if "Exception" in record.getMessage()]


def first_pixels(share: float) -> np.ndarray:
    """Ten pictures; in the given share of them the first pixel is black."""
    pictures = np.zeros((10, 2, 2))
    pictures[: round(10 * share), 0, 0] = 1
    return pictures


def kind_of(picture: np.ndarray) -> str | None:
    return "<dot>" if picture[0, 0] else None


DOTS = Family(first_pixels, "share", [0.0, 0.5, 1.0], 0.5)


def test_a_family_is_judged_by_the_kinds_of_what_it_drew() -> None:
    judged = run(DOTS, 0.5, kind_of)
    assert judged.pictures.shape == (10, 2, 2)
    assert judged.valid.mean == 0.5 and 0 < judged.valid.low < judged.valid.high < 1
    assert judged.counts == {"<dot>": 5}
    assert run(DOTS, 0.0, kind_of).counts == {}


def test_a_family_that_draws_nothing_is_refused() -> None:
    with pytest.raises(ReaderError, match="at least one"):
        run(Family(lambda value: np.zeros((0, 2, 2)), "share", [1], 1), 1, kind_of)


def test_the_button_draws_with_the_value_shown_and_the_picture_has_alt_text() -> None:
    panel = FamiliesPanel({"dots": DOTS}, kind_of)
    first = panel.view.value
    assert 'alt="dots, share 0.5"' in first and "&lt;dot&gt; 5" in first
    panel.value.value = 1.0
    assert panel.view.value == first  # The slider alone draws nothing.
    panel.button.click()
    assert 'alt="dots, share 1"' in panel.view.value and "1 kinds / 种: &lt;dot&gt; 10" in panel.view.value


def test_another_family_brings_its_own_setting() -> None:
    asked = []

    def blank(value: float) -> np.ndarray:
        asked.append(value)
        return np.zeros((3, 2, 2))

    panel = FamiliesPanel({"dots": DOTS, "blank": Family(blank, "steps", [1, 5, 50], 5)}, kind_of)
    panel.family.value = "blank"
    assert (panel.value.options, panel.value.description, asked) == ((1, 5, 50), "steps", [5])
    assert "0 kinds / 种: –" in panel.view.value
    panel.family.value = "dots"
    assert panel.value.value == 0.5 and panel.value.description == "share"
