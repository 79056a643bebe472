"""The sweep panel shows the run that its sliders name; a panel that lags behind teaches the wrong lesson."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest

from aigc_helpers.panels import sweep

GRID = product(("query, value", "all-linear"), (2, 8), (4, 16), (0.008, 0.0005))
ROWS = [
    {
        "targets": targets,
        "rank": rank,
        "alpha": alpha,
        "learning_rate": rate,
        "accuracy": (50 + number) / 100,
        "trainable_parameters": 1000 * rank,
        "cpu_seconds": 20.4,
    }
    for number, (targets, rank, alpha, rate) in enumerate(GRID)
]


@pytest.fixture(autouse=True)
def faults_are_heard(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """ipywidgets logs an exception in a callback and goes on; here it fails the test."""
    yield
    assert not [record.getMessage() for record in caplog.get_records("call") if "Exception" in record.getMessage()]


def test_curves_are_those_of_the_rank_and_targets_with_rates_rising() -> None:
    assert sweep.sweep_curves(ROWS, "query, value", 8) == {
        4: [(0.0005, 0.55), (0.008, 0.54)],
        16: [(0.0005, 0.57), (0.008, 0.56)],
    }
    assert sweep.sweep_curves(ROWS, "query, value", 3) == {}


@pytest.mark.parametrize(
    ("setting", "value"), [("targets", "all-linear"), ("rank", 8), ("alpha", 16), ("learning_rate", 0.008)]
)
def test_each_slider_changes_picture_and_sentence(setting: str, value: object) -> None:
    panel = sweep.SweepPanel(ROWS)
    picture, sentence = bytes(panel.picture.value), panel.sentence.value
    assert picture.startswith(b"\x89PNG")
    getattr(panel, setting).value = value
    assert bytes(panel.picture.value) != picture
    assert panel.sentence.value != sentence


def test_the_sentence_is_about_the_run_chosen() -> None:
    panel = sweep.SweepPanel(ROWS)
    panel.targets.value, panel.rank.value, panel.alpha.value = "all-linear", 8, 4
    panel.learning_rate.value = 0.008
    row = next(row for row in ROWS if tuple(row[name] for name in sweep.SETTINGS) == ("all-linear", 8, 4, 0.008))
    assert f"{row['accuracy']:.3f}" in panel.sentence.value
    assert "α / r = 0.5" in panel.sentence.value and "8,000" in panel.sentence.value
