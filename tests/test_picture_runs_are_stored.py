"""What chapter 11 reads was made by the settings in the builder: no run is missing, none is of older settings."""

from __future__ import annotations

from itertools import groupby

from PIL import Image

from aigc_helpers.images import SEPIA
from aigc_helpers.pretrain.experiments.picture_adapters import (
    RANK_FILE,
    RANKS,
    STYLE_FILE,
    STYLE_PICTURES,
    STYLE_RUNS,
)
from aigc_helpers.training import read_log


def test_every_rank_has_its_run() -> None:
    rows = read_log(RANK_FILE)
    assert tuple(row["rank"] for row in rows) == RANKS
    for row in rows:
        assert row["trainable_parameters"] == row["rank"] * rows[0]["trainable_parameters"]
        assert 4 * row["trainable_parameters"] < row["file_bytes"] < 5 * row["trainable_parameters"]
    assert SEPIA.rank in RANKS


def test_every_style_run_has_its_curve_and_its_scales() -> None:
    stored = {name: list(rows) for name, rows in groupby(read_log(STYLE_FILE), key=lambda row: row["run"])}
    assert list(stored) == [run.name for run in STYLE_RUNS]
    for run in STYLE_RUNS:
        rows = stored[run.name]
        steps = run.settings.steps
        assert [row["step"] for row in rows if row["scale"] == 1] == list(range(0, steps + 1, 100))
        assert [row["scale"] for row in rows if row["step"] == steps] == [1.0, 0.4, 0.55, 0.7, 0.85]
        settings = (run.concepts, run.settings.rank, run.settings.learning_rate)
        assert {(row["concepts"], row["rank"], row["learning_rate"]) for row in rows} == {settings}
        assert rows[0]["pictures_shown"] == run.concepts * 8 * (1 + run.regularised)


def test_every_style_run_has_its_line_of_pictures() -> None:
    with Image.open(STYLE_PICTURES) as pictures:
        assert pictures.size == (12 * 64, len(STYLE_RUNS) * 64)
